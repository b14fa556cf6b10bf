//! Entries that expire with their directory: the TTL is set on the directory, the file itself has none.
//!
//! A directory has no value for a precondition, so its file tells the owner: it is read before the directory
//! is renewed. Foreign files in the directory are never deleted.

use std::time::Duration;

use hyper::Method;

use crate::error::Result;
use crate::kv::{Entry, Key, Lifetime, Node};
use crate::model::Grant;
use crate::store::etcd::v2::http::MAX_KEY_RESPONSE;
use crate::store::etcd::v2::response::{ApiResult, EXISTS, KEY_NOT_FOUND};
use crate::store::etcd::v2::{EtcdV2Store, MAX_WRITE_ATTEMPTS, conflict_error, decode, http};
use crate::store::lost;

/// Returns the directory with which the entry expires, if there is one.
pub(super) fn directory_of(entry: &Entry) -> Option<&str> {
    let (directory, _) = entry.key.as_str().rsplit_once('/')?;
    (entry.lifetime == Lifetime::LeasedDirectory).then_some(directory)
}

/// Returns the TTL of the key itself.
pub(super) fn key_ttl(entry: &Entry, grant: Grant) -> Option<Duration> {
    (entry.lifetime == Lifetime::Leased).then_some(grant.ttl)
}

impl EtcdV2Store {
    /// Reads a key through the listing of its directory, which tells its owner.
    pub(super) async fn read_in_directory(
        &self,
        directory: &str,
        key: &Key,
    ) -> Result<Option<Node>> {
        let path = format!("{}?quorum=true", self.directory_path(directory));
        let answer = self.run(async |http| Ok(http.get(&path, MAX_KEY_RESPONSE).await?.1));
        match answer.await? {
            Ok(reply) => {
                let mut nodes = decode::leaves(&self.config, reply.node).nodes.into_iter();
                Ok(nodes.find(|node| node.key == *key))
            }
            Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok(None),
            Err(refusal) => Err(self.refused(&refusal, key)),
        }
    }

    /// Creates or renews the directory of the entry, if it has one, with the TTL of the grant. An existing
    /// directory is kept: v2 refuses to create it again.
    pub(super) async fn create_directory(&self, entry: &Entry, grant: Grant) -> Result<()> {
        let Some(directory) = directory_of(entry) else {
            return Ok(());
        };
        for condition in ["prevExist=true", "prevExist=false"].repeat(MAX_WRITE_ATTEMPTS as usize) {
            match self.put_directory(directory, condition, grant).await? {
                Ok(_) => return Ok(()),
                Err(refusal) if [EXISTS, KEY_NOT_FOUND].contains(&refusal.code) => {}
                Err(refusal) => return Err(self.refused(&refusal, &entry.key)),
            }
        }
        Err(conflict_error(&entry.key))
    }

    /// Renews the directory while its file is owned.
    pub(super) async fn renew_directory(
        &self,
        directory: &str,
        entry: &Entry,
        grant: Grant,
    ) -> Result<()> {
        self.refresh_ownership(entry, grant).await?;
        match self
            .put_directory(directory, "prevExist=true", grant)
            .await?
        {
            Ok(_) => {
                self.ownership.record_renewal(&entry.key, grant);
                Ok(())
            }
            Err(refusal) if refusal.code == KEY_NOT_FOUND => {
                self.ownership.release(&entry.key, grant);
                Err(lost(&entry.key))
            }
            Err(refusal) => Err(self.refused(&refusal, &entry.key)),
        }
    }

    /// Deletes the directory of the entry, if it has one and it is empty; otherwise it expires.
    pub(super) async fn remove_directory(&self, entry: &Entry) -> Result<()> {
        let Some(directory) = directory_of(entry) else {
            return Ok(());
        };
        let path = format!("{}?dir=true", self.directory_path(directory));
        let delete = async |http: http::Http| {
            let pending = http.begin(Method::DELETE, &path, None).await?;
            Ok(pending.read(MAX_KEY_RESPONSE).await?.1)
        };
        self.run(delete).await.map(drop)
    }

    async fn put_directory(
        &self,
        directory: &str,
        condition: &str,
        grant: Grant,
    ) -> Result<ApiResult> {
        let path = format!("{}?dir=true&{condition}", self.directory_path(directory));
        let put = async |http: http::Http| {
            let ttl = grant.ttl.as_secs();
            // A refresh, where the server supports it, emits no event.
            let form = match condition == "prevExist=true" && http.refreshes {
                true => format!("refresh=true&ttl={ttl}"),
                false => format!("ttl={ttl}"),
            };
            let pending = http.begin(Method::PUT, &path, Some(form)).await?;
            Ok(pending.read(MAX_KEY_RESPONSE).await?.1)
        };
        self.run(put).await
    }

    fn directory_path(&self, directory: &str) -> String {
        http::keys(&self.config.path(directory))
    }
}
