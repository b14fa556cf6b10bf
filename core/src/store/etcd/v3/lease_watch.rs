//! Detection of a lost lease: the keys of a grant are watched until one of them is deleted or taken over.

use futures_util::stream::{self, StreamExt};

use crate::error::{Error, ErrorKind};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::model::Grant;
use crate::store::etcd::v3::{EtcdV3Store, keys, not_owned_error};
use crate::watch_sync::KeyRevisions;

impl EtcdV3Store {
    /// Watches the keys from the revision of their write on, until the lease loses one of them.
    pub(super) async fn wait_for_loss(&self, entries: &[Entry], grant: Grant) -> Error {
        let lease = match self.leases.get(grant) {
            Ok(lease) => lease,
            Err(gone) => return gone,
        };
        let driver = match self.driver() {
            Ok(driver) => driver,
            Err(error) => return error,
        };
        let keys: Vec<Key> = keys(entries).cloned().collect();
        let known = lease.revisions(&keys);
        let watch = |(key, revision): (Key, u64)| {
            let known = KeyRevisions {
                revision,
                modified: [(key.clone(), revision)].into(),
            };
            // If the revision is unknown, the watch starts with a list.
            let known = (revision > 0).then_some(known);
            driver.watch(Scope::Key(key), known)
        };
        let mut changes = stream::select_all(known.into_iter().map(watch));
        while let Some(item) = changes.next().await {
            let loss = item
                .ok()
                .and_then(|changes| loss_error(&changes, &keys, lease.id));
            if let Some(loss) = loss {
                return loss;
            }
        }
        Error::new(ErrorKind::Closed, "the store was closed")
    }
}

/// Returns the error if the changes show that the lease lost a key.
fn loss_error(changes: &Changes, keys: &[Key], lease: i64) -> Option<Error> {
    let other = |node: &Node| {
        let owner = node.owner as i64;
        (owner != lease).then(|| not_owned_error(node.key.as_str(), &[owner], lease))
    };
    changes.changes.iter().find_map(|change| match change {
        Change::Put(node) => other(node),
        Change::Delete(key) => Some(not_owned_error(key.as_str(), &[], lease)),
        Change::Reset(nodes) => match nodes.first() {
            Some(node) => other(node),
            None => Some(not_owned_error(keys.first()?.as_str(), &[], lease)),
        },
    })
}
