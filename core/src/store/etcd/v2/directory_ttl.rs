//! Entries whose time to live is that of their folder: the file stays as long as that does.
//!
//! A folder has no value to compare, so whose it is, its file says: before the folder is kept alive the
//! file is looked at, and what is there besides is never deleted.

use std::time::Duration;

use hyper::Method;

use crate::error::Result;
use crate::kv::{Entry, Key, Lifetime, Node};
use crate::model::Grant;
use crate::store::etcd::v2::http::ONE;
use crate::store::etcd::v2::response::{Answer, EXISTS, KEY_NOT_FOUND};
use crate::store::etcd::v2::{EtcdV2Store, TRIES, busy, http, key_index};
use crate::store::lost;

/// The folder that the entry dies with, if it does.
pub(super) fn of(entry: &Entry) -> Option<&str> {
    let (folder, _) = entry.key.as_str().rsplit_once('/')?;
    (entry.lifetime == Lifetime::LeasedFolder).then_some(folder)
}

/// The time to live of the key itself.
pub(super) fn ttl_beside(entry: &Entry, grant: Grant) -> Option<Duration> {
    (entry.lifetime == Lifetime::Leased).then_some(grant.ttl)
}

impl EtcdV2Store {
    /// The key as its folder has it, which says with whom it dies.
    pub(super) async fn look_into(&self, folder: &str, key: &Key) -> Result<Option<Node>> {
        let path = format!("{}?quorum=true", self.folder_path(folder));
        let answer = self.run(async |http| Ok(http.get(&path, ONE).await?.1));
        match answer.await? {
            Ok(reply) => {
                let mut nodes = key_index::leaves(&self.config, reply.node)
                    .nodes
                    .into_iter();
                Ok(nodes.find(|node| node.key == *key))
            }
            Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok(None),
            Err(refusal) => Err(self.refused(&refusal, key)),
        }
    }

    /// Has the folder of the entry, if it needs one, live for the time of the grant. One that is there
    /// is kept: to make it anew is refused as long as it lives.
    pub(super) async fn make_folder(&self, entry: &Entry, grant: Grant) -> Result<()> {
        let Some(folder) = of(entry) else {
            return Ok(());
        };
        for condition in ["prevExist=true", "prevExist=false"].repeat(TRIES as usize) {
            match self.put_folder(folder, condition, grant).await? {
                Ok(_) => return Ok(()),
                Err(refusal) if [EXISTS, KEY_NOT_FOUND].contains(&refusal.code) => {}
                Err(refusal) => return Err(self.refused(&refusal, &entry.key)),
            }
        }
        Err(busy(&entry.key))
    }

    /// Keeps the folder alive while its file is ours.
    pub(super) async fn renew_folder(
        &self,
        folder: &str,
        entry: &Entry,
        grant: Grant,
    ) -> Result<()> {
        self.seen(entry, grant).await?;
        match self.put_folder(folder, "prevExist=true", grant).await? {
            Ok(_) => {
                self.held.prolong(&entry.key, grant);
                Ok(())
            }
            Err(refusal) if refusal.code == KEY_NOT_FOUND => {
                self.held.release(&entry.key, grant);
                Err(lost(&entry.key))
            }
            Err(refusal) => Err(self.refused(&refusal, &entry.key)),
        }
    }

    /// Removes the folder of the entry, if it has one and that is empty; else it runs out.
    pub(super) async fn remove_folder(&self, entry: &Entry) -> Result<()> {
        let Some(folder) = of(entry) else {
            return Ok(());
        };
        let path = format!("{}?dir=true", self.folder_path(folder));
        let delete = async |http: http::Http| {
            let pending = http.begin(Method::DELETE, &path, None).await?;
            Ok(pending.read(ONE).await?.1)
        };
        self.run(delete).await.map(drop)
    }

    async fn put_folder(&self, folder: &str, condition: &str, grant: Grant) -> Result<Answer> {
        let path = format!("{}?dir=true&{condition}", self.folder_path(folder));
        let put = async |http: http::Http| {
            let ttl = grant.ttl.as_secs();
            // Without an event, where the server knows how.
            let form = match condition == "prevExist=true" && http.refreshes {
                true => format!("refresh=true&ttl={ttl}"),
                false => format!("ttl={ttl}"),
            };
            let pending = http.begin(Method::PUT, &path, Some(form)).await?;
            Ok(pending.read(ONE).await?.1)
        };
        self.run(put).await
    }

    fn folder_path(&self, folder: &str) -> String {
        http::keys(&self.config.path(folder))
    }
}
