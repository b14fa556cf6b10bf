//! Store in etcd over the v2 API (HTTP), which older systems use.
//!
//! - [`session`]: the connection that the watch driver uses.
//! - [`long_poll`]: the watches.
//! - [`ownership`]: which keys this client owns, as v2 has no leases.
//! - [`conditional_write`]: writes with a precondition.
//! - [`announcement`]: requests that older programs notice, which ignore conditional ones.
//! - [`lease_watch`]: detects the loss of a lease or of its keys.

mod announcement;
mod conditional_write;
mod decode;
mod directory_ttl;
mod http;
mod key_index;
mod lease_watch;
mod long_poll;
mod ownership;
mod recent_deletes;
mod response;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use hyper::Method;
use once_cell::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};
use crate::store::etcd::config::EtcdConfig;
use crate::store::watch_driver::{WatchDriver, limit_renewal};
use crate::store::{Store, Terms, lost, replaced};
use conditional_write::{Write, check_key, precondition, value_text, whole_seconds};
use http::{Http, MAX_KEY_RESPONSE};
use ownership::{Ownership, lost_error};
use recent_deletes::RecentDeletes;
use response::{ApiError, COMPARE_FAILED, EXISTS, KEY_NOT_FOUND, KeyTree, KeysResponse};
use session::Session;

/// Number of attempts of a write that conflicts with other writers.
const MAX_WRITE_ATTEMPTS: u32 = 5;
/// Error codes of a failed precondition.
const PRECONDITION_CODES: [u32; 3] = [EXISTS, COMPARE_FAILED, KEY_NOT_FOUND];

/// Store in etcd over the v2 API.
pub(crate) struct EtcdV2Store {
    config: Arc<EtcdConfig>,
    /// Started by the first call: `new` may be called outside of a tokio runtime.
    driver: OnceCell<WatchDriver<Session>>,
    ownership: Ownership,
    recent_deletes: Arc<RecentDeletes>,
}

impl EtcdV2Store {
    pub(crate) fn new(config: EtcdConfig) -> EtcdV2Store {
        EtcdV2Store {
            config: config.into(),
            driver: OnceCell::new(),
            ownership: Ownership::default(),
            recent_deletes: Arc::default(),
        }
    }

    fn driver(&self) -> Result<&WatchDriver<Session>> {
        let session =
            |events| Session::new(self.config.clone(), self.recent_deletes.clone(), events);
        let endpoints = self.config.endpoints.len();
        self.driver
            .get_or_try_init(|| WatchDriver::start(endpoints, self.config.max_keys, session))
    }

    async fn run<T>(&self, call: impl AsyncFnOnce(Http) -> Result<T>) -> Result<T> {
        self.driver()?.run(&self.config.shown(), call).await
    }

    /// Returns a refusal as an error of a request about `key`.
    fn refused(&self, refusal: &ApiError, key: &Key) -> Error {
        let key = self.config.path(key.as_str());
        refusal.error(&self.config, None, &key)
    }

    fn path(&self, key: &Key) -> String {
        http::keys(&self.config.path(key.as_str()))
    }

    /// Reads the key of an entry from a quorum. Fails if the key is a directory.
    async fn read_entry(&self, entry: &Entry) -> Result<Option<Node>> {
        let key = &entry.key;
        if let Some(directory) = directory_ttl::directory_of(entry) {
            // Only the listing of the directory contains its TTL, which tells the owner.
            return self.read_in_directory(directory, key).await;
        }
        match self.read(key).await? {
            Some(found) if found.dir => {
                let text = format!("key {key} is a directory in etcd");
                Err(Error::invalid(text))
            }
            found => Ok(found.and_then(|file| decode::node(&self.config, &file, 0))),
        }
    }

    /// Reads a key or a directory, as a quorum of the members has it.
    async fn read(&self, key: &Key) -> Result<Option<KeyTree>> {
        let path = format!("{}?quorum=true", self.path(key));
        let answer = self.run(async |http| Ok(http.get(&path, MAX_KEY_RESPONSE).await?.1));
        match answer.await? {
            Ok(reply) => Ok(reply.node),
            Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok(None),
            Err(refusal) => Err(self.refused(&refusal, key)),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Node>> {
        check_key(key)?;
        let file = self.read(key).await?.filter(|found| !found.dir);
        Ok(file.and_then(|file| decode::node(&self.config, &file, 0)))
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Node>> {
        let list = async |http: Http| session::list(&self.config, &http, scope).await;
        let (_, leaves) = self.run(list).await?;
        let mut nodes = leaves.nodes;
        nodes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(nodes)
    }

    async fn create(&self, entries: &[Entry], terms: Terms) -> Result<Grant> {
        let grant = Grant {
            id: self.ownership.new_grant(),
            ttl: whole_seconds(terms.ttl),
        };
        entries.iter().try_for_each(|entry| check_key(&entry.key))?;
        for (at, entry) in entries.iter().enumerate() {
            let created = self
                .create_key(entry, value_text(entry)?, grant, terms.on_conflict)
                .await;
            if let Err(error) = created {
                // The other entries are useless without this one. What cannot be deleted expires.
                let _ = self.delete(&entries[..at], grant).await;
                return Err(error);
            }
        }
        Ok(grant)
    }

    /// Writes a key under a new grant. Keeps the age of an existing key.
    async fn create_key(
        &self,
        entry: &Entry,
        value: &str,
        grant: Grant,
        claim: OnConflict,
    ) -> Result<()> {
        let key = &entry.key;
        let mut condition = match directory_ttl::directory_of(entry) {
            // The TTL of another owner's directory must not be renewed before the key is known to be free.
            Some(_) => self.precondition_for(entry, claim).await?,
            None => precondition(None),
        };
        for _ in 0..MAX_WRITE_ATTEMPTS {
            self.create_directory(entry, grant).await?;
            let claimed = announcement::claim_value(entry, value);
            let before = self.ownership.record_attempt(key, grant, &claimed);
            let write = Write {
                condition,
                value: &claimed,
                unchanged: false,
                ttl: directory_ttl::key_ttl(entry, grant),
            };
            let refusal = match self.write(key, write).await? {
                Ok(reply) => {
                    self.ownership
                        .confirm(key, grant, modified_index(&reply), &claimed);
                    return self.announce(entry, value, grant).await;
                }
                Err(refusal) => refusal,
            };
            self.ownership.undo_attempt(key, grant, before);
            if !PRECONDITION_CODES.contains(&refusal.code) {
                return Err(self.refused(&refusal, key));
            }
            condition = self.precondition_for(entry, claim).await?;
        }
        Err(conflict_error(key))
    }

    /// Returns the precondition under which the key may be written now.
    async fn precondition_for(&self, entry: &Entry, claim: OnConflict) -> Result<String> {
        let seen = self.read_entry(entry).await?;
        let is_foreign = |node: &Node| node.owner != 0 && !self.ownership.may_have_written(node);
        if claim == OnConflict::RestoreOnly && seen.as_ref().is_some_and(is_foreign) {
            return Err(replaced(&entry.key));
        }
        Ok(precondition(seen.as_ref()))
    }

    async fn put(&self, entry: &Entry, seen: Option<&Node>) -> Result<bool> {
        check_key(&entry.key)?;
        let write = Write {
            condition: precondition(seen),
            value: value_text(entry)?,
            unchanged: false,
            ttl: None,
        };
        match self.write(&entry.key, write).await? {
            Ok(_) => Ok(true),
            Err(refusal) if PRECONDITION_CODES.contains(&refusal.code) => Ok(false),
            Err(refusal) => Err(self.refused(&refusal, &entry.key)),
        }
    }

    /// Writes a key if the grant owns it: a new value, or `None` to renew it.
    async fn write_owned(&self, entry: &Entry, value: Option<&str>, grant: Grant) -> Result<()> {
        let key = &entry.key;
        if let (Some(directory), None) = (directory_ttl::directory_of(entry), value) {
            return self.renew_directory(directory, entry, grant).await;
        }
        for _ in 0..MAX_WRITE_ATTEMPTS {
            let owned = self.ownership.get(key, grant)?;
            let wanted = match value {
                Some(value) => announcement::claim_value(entry, value).into_owned(),
                None => owned.value.clone(),
            };
            self.ownership.record_attempt(key, grant, &wanted);
            let write = Write {
                condition: owned.precondition(),
                value: &wanted,
                unchanged: value.is_none(),
                ttl: directory_ttl::key_ttl(entry, grant),
            };
            let refusal = match self.write(key, write).await? {
                Ok(reply) => {
                    self.ownership
                        .confirm(key, grant, modified_index(&reply), &wanted);
                    return match value {
                        Some(value) => self.announce_update(entry, value, grant).await,
                        None => Ok(()),
                    };
                }
                Err(refusal) => refusal,
            };
            // The server rejected the write, so it did not happen.
            self.ownership.undo_attempt(key, grant, Some(owned));
            match refusal.code {
                COMPARE_FAILED => self.refresh_ownership(entry, grant).await?,
                KEY_NOT_FOUND => {
                    self.ownership.release(key, grant);
                    return Err(lost(key));
                }
                _ => return Err(self.refused(&refusal, key)),
            }
        }
        Err(conflict_error(key))
    }

    /// Re-reads a key whose index changed. It is still owned if an earlier write of ours succeeded although
    /// its response was lost.
    async fn refresh_ownership(&self, entry: &Entry, grant: Grant) -> Result<()> {
        let key = &entry.key;
        let owned = self.ownership.get(key, grant)?;
        let error = match self.read_entry(entry).await? {
            Some(node) if owned.may_have_written(&node) => {
                let value = String::from_utf8_lossy(&node.value);
                self.ownership.confirm(key, grant, node.modified, &value);
                return Ok(());
            }
            Some(node) => lost_error(&node),
            None => lost(key),
        };
        self.ownership.release(key, grant);
        Err(error)
    }

    /// Deletes the keys that the grant still owns.
    async fn delete(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        for entry in entries {
            let key = &entry.key;
            while let Ok(owned) = self.ownership.get(key, grant) {
                let condition = match self.prepare_delete(entry, owned, grant).await? {
                    Some(condition) => condition,
                    None => continue,
                };
                let path = format!("{}{condition}", self.path(key));
                let delete = async |http: Http| {
                    let pending = http.begin(Method::DELETE, &path, None).await?;
                    Ok(pending.read(MAX_KEY_RESPONSE).await?.1)
                };
                match self.run(delete).await? {
                    Err(refusal) if refusal.code == COMPARE_FAILED => {
                        match self.refresh_ownership(entry, grant).await {
                            Err(error) if !is_lost(&error) => return Err(error),
                            // Either owned after all, or not owned any more.
                            _ => {}
                        }
                    }
                    Err(refusal) if refusal.code != KEY_NOT_FOUND => {
                        return Err(self.refused(&refusal, key));
                    }
                    _ => {
                        self.ownership.release(key, grant);
                        self.remove_directory(entry).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns true if the key was deleted or taken over, so that nothing is left to delete.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::Replaced)
}

/// Returns the index of the key after a write.
fn modified_index(reply: &KeysResponse) -> u64 {
    reply.node.as_ref().map_or(0, |node| node.modified_index)
}

fn conflict_error(key: &Key) -> Error {
    let text = format!("{key} changed all the time while it was written");
    Error::new(ErrorKind::Unavailable, text)
}

impl Store for EtcdV2Store {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        async { self.driver()?.probe().await }.boxed()
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        self.get(key).boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        self.list(scope).boxed()
    }

    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>> {
        self.create(entries, terms).boxed()
    }

    fn put<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Node>) -> BoxFuture<'a, Result<bool>> {
        self.put(entry, seen).boxed()
    }

    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        let renewals = async move {
            for entry in entries {
                self.write_owned(entry, None, grant).await?;
            }
            Ok(())
        };
        limit_renewal(grant.ttl, renewals).boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            for entry in entries {
                self.write_owned(entry, Some(value_text(entry)?), grant)
                    .await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.delete(entries, grant).boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.wait_for_loss(entries, grant).boxed()
    }

    /// Grants whose keys were not deleted have expired.
    fn expired_grants<'a>(&'a self, owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        let gone = self.recent_deletes.without_delete(owners);
        async { Ok(gone) }.boxed()
    }

    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        match self.driver() {
            Ok(driver) => driver.watch(scope.clone(), None),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        }
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        match self.driver() {
            Ok(driver) => driver.connection_states(),
            Err(_) => stream::pending().boxed(),
        }
    }

    fn metrics(&self) -> Metrics {
        self.driver
            .get()
            .map(WatchDriver::metrics)
            .unwrap_or_default()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        async {
            let local = self.run(async |http| Ok(http.stats().local_address()));
            local.await?.ok_or_else(EtcdConfig::no_local_address)
        }
        .boxed()
    }
}
