//! Detection of a lost lease: the keys of a grant are watched until one of them is deleted or taken over.

use futures_util::stream::{StreamExt, select_all};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Entry, Scope};
use crate::model::Grant;
use crate::store::etcd::v2::EtcdV2Store;
use crate::store::etcd::v2::ownership::lost_error;
use crate::store::lost;

impl EtcdV2Store {
    /// Watches the keys until the grant loses one of them.
    pub(super) async fn wait_for_loss(&self, entries: &[Entry], grant: Grant) -> Error {
        let keys = entries.iter().map(|entry| Scope::Key(entry.key.clone()));
        let driver = match self.driver() {
            Ok(driver) => driver,
            Err(error) => return error,
        };
        let watch = |scope: Scope| driver.watch(scope, None);
        let mut changes = select_all(keys.map(watch));
        while let Some(item) = changes.next().await {
            for change in item.map(|item| item.changes).unwrap_or_default() {
                if let Err(gone) = self.check_ownership(entries, &change, grant).await {
                    return gone;
                }
            }
        }
        Error::new(ErrorKind::Closed, "the store was closed")
    }

    /// Checks a change of an owned key. It may be an own write whose response is still in flight.
    async fn check_ownership(
        &self,
        entries: &[Entry],
        change: &Change,
        grant: Grant,
    ) -> Result<()> {
        let nodes = match change {
            Change::Put(node) => std::slice::from_ref(node),
            Change::Reset(nodes) => &nodes[..],
            Change::Delete(key) => return Err(lost(key)),
        };
        for node in nodes {
            let owned = self.ownership.get_confirmed(&node.key, grant).await?;
            if node.modified > owned.modified && !owned.may_have_written(node) {
                return Err(lost_error(node));
            }
        }
        match (nodes, entries.first()) {
            ([], Some(entry)) => Err(lost(&entry.key)),
            _ => Ok(()),
        }
    }
}
