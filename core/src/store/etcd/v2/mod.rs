//! etcd v2, over HTTP: what the older systems speak.
//!
//! `session` is the connection, which the hub keeps and follows parts of the store with; `poll` watches;
//! `held` knows what is ours, as v2 has no leases; here are the calls.

mod directory_ttl;
mod http;
mod key_index;
mod long_poll;
mod ownership;
mod recent_deletes;
mod response;
mod session;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt};
use hyper::Method;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};
use crate::store::etcd::config::EtcdConfig;
use crate::store::watch_driver::WatchDriver;
use crate::store::{Store, Terms, lost, replaced};
use http::{Http, ONE};
use ownership::{Ownership, not_ours};
use recent_deletes::RecentDeletes;
use response::{Answer, COMPARE_FAILED, EXISTS, KEY_NOT_FOUND, Refusal, Reply, Tree};
use session::Session;

/// How often a write is tried that others get in the way of.
const TRIES: u32 = 5;
/// The codes that say that a condition on what is there does not hold.
const OVERTAKEN: [u32; 3] = [EXISTS, COMPARE_FAILED, KEY_NOT_FOUND];

/// See the module.
pub(crate) struct EtcdV2Store {
    config: Arc<EtcdConfig>,
    /// Started at the first call, because before that there may be no runtime to run on.
    hub: OnceLock<WatchDriver<Session>>,
    held: Ownership,
    ended: Arc<RecentDeletes>,
}

/// A write, and on what condition.
struct Write<'a> {
    /// `prevExist=false`, `prevIndex=7`.
    only_if: String,
    value: &'a str,
    /// Whether that is the value already, and only the time is to be renewed.
    same: bool,
    /// None for what stays.
    ttl: Option<Duration>,
}

impl EtcdV2Store {
    pub(crate) fn new(config: EtcdConfig) -> EtcdV2Store {
        EtcdV2Store {
            config: config.into(),
            hub: OnceLock::new(),
            held: Ownership::default(),
            ended: Arc::default(),
        }
    }

    fn hub(&self) -> &WatchDriver<Session> {
        let session = |tell| Session::new(self.config.clone(), self.ended.clone(), tell);
        let endpoints = self.config.endpoints.len();
        self.hub
            .get_or_init(|| WatchDriver::start(endpoints, session))
    }

    async fn run<T>(&self, call: impl AsyncFnOnce(Http) -> Result<T>) -> Result<T> {
        self.hub().run(&self.config.shown(), call).await
    }

    /// Returns a refusal as an error of a request about `key`.
    fn refused(&self, refusal: &Refusal, key: &Key) -> Error {
        let key = self.config.path(key.as_str());
        refusal.error(&self.config, None, &key)
    }

    fn path(&self, key: &Key) -> String {
        http::keys(&self.config.path(key.as_str()))
    }

    async fn write(&self, key: &Key, write: Write<'_>) -> Result<Answer> {
        let path = format!("{}?{}", self.path(key), write.only_if);
        let put = async |http: Http| {
            // Without a change, where the server knows how: it is an event for nobody.
            let mut form = match write.same && http.refreshes {
                true => "refresh=true".to_owned(),
                false => format!("value={}", http::form_value(write.value)),
            };
            if let Some(ttl) = write.ttl {
                form.push_str(&format!("&ttl={}", ttl.as_secs()));
            }
            let pending = http.begin(Method::PUT, &path, Some(form)).await?;
            Ok(pending.read(ONE).await?.1)
        };
        self.run(put).await
    }

    /// The key as all members agree on it. A folder is none.
    async fn look(&self, entry: &Entry) -> Result<Option<Node>> {
        let key = &entry.key;
        if let Some(folder) = directory_ttl::of(entry) {
            // Only that one says whose it is.
            return self.look_into(folder, key).await;
        }
        match self.read(key).await? {
            Some(found) if found.dir => {
                let text = format!("key {key} is a directory in etcd");
                Err(Error::invalid(text))
            }
            found => Ok(found.and_then(|file| key_index::node(&self.config, &file, 0))),
        }
    }

    /// Reads a key or a directory, as a quorum of the members has it.
    async fn read(&self, key: &Key) -> Result<Option<Tree>> {
        let path = format!("{}?quorum=true", self.path(key));
        let answer = self.run(async |http| Ok(http.get(&path, ONE).await?.1));
        match answer.await? {
            Ok(reply) => Ok(reply.node),
            Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok(None),
            Err(refusal) => Err(self.refused(&refusal, key)),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Node>> {
        check(key)?;
        let file = self.read(key).await?.filter(|found| !found.dir);
        Ok(file.and_then(|file| key_index::node(&self.config, &file, 0)))
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
            id: self.held.new_grant(),
            ttl: whole_seconds(terms.ttl),
        };
        entries.iter().try_for_each(|entry| check(&entry.key))?;
        for (at, entry) in entries.iter().enumerate() {
            let taken = self.take(entry, text(entry)?, grant, terms.claim).await;
            if let Err(error) = taken {
                // What was written is of no use without the rest. What cannot be deleted runs out.
                let _ = self.delete(&entries[..at], grant).await;
                return Err(error);
            }
        }
        Ok(grant)
    }

    /// Writes a key under a new grant: where nobody is, or over who is there, whose age it keeps.
    async fn take(
        &self,
        entry: &Entry,
        value: &str,
        grant: Grant,
        claim: OnConflict,
    ) -> Result<()> {
        let key = &entry.key;
        let mut only_if = match directory_ttl::of(entry) {
            // The folder of somebody else is not to live on with our time before it is known to be free.
            Some(_) => self.condition(entry, claim).await?,
            None => only_if(None),
        };
        for _ in 0..TRIES {
            self.make_folder(entry, grant).await?;
            let before = self.held.claim(key, grant, value);
            let write = Write {
                only_if,
                value,
                same: false,
                ttl: directory_ttl::ttl_beside(entry, grant),
            };
            let refusal = match self.write(key, write).await? {
                Ok(reply) => {
                    self.held.confirm(key, grant, index(&reply), value);
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            self.held.restore(key, grant, before);
            if !OVERTAKEN.contains(&refusal.code) {
                return Err(self.refused(&refusal, key));
            }
            only_if = self.condition(entry, claim).await?;
        }
        Err(busy(key))
    }

    /// On what condition the key may be written, as it stands.
    async fn condition(&self, entry: &Entry, claim: OnConflict) -> Result<String> {
        let seen = self.look(entry).await?;
        let foreign = |node: &Node| node.owner != 0 && !self.held.wrote(node);
        if claim == OnConflict::RestoreOnly && seen.as_ref().is_some_and(foreign) {
            return Err(replaced(&entry.key));
        }
        Ok(only_if(seen.as_ref()))
    }

    async fn put(&self, entry: &Entry, seen: Option<&Node>) -> Result<bool> {
        check(&entry.key)?;
        let write = Write {
            only_if: only_if(seen),
            value: text(entry)?,
            same: false,
            ttl: None,
        };
        match self.write(&entry.key, write).await? {
            Ok(_) => Ok(true),
            Err(refusal) if OVERTAKEN.contains(&refusal.code) => Ok(false),
            Err(refusal) => Err(self.refused(&refusal, &entry.key)),
        }
    }

    /// Writes a key that the grant holds, and only then: the new value, or none to keep it alive.
    async fn rewrite(&self, entry: &Entry, value: Option<&str>, grant: Grant) -> Result<()> {
        let key = &entry.key;
        if let (Some(folder), None) = (directory_ttl::of(entry), value) {
            return self.renew_folder(folder, entry, grant).await;
        }
        for _ in 0..TRIES {
            let held = self.held.get(key, grant)?;
            let wanted = value.unwrap_or(&held.written).to_owned();
            self.held.claim(key, grant, &wanted);
            let write = Write {
                only_if: format!("prevIndex={}", held.modified),
                value: &wanted,
                same: value.is_none(),
                ttl: directory_ttl::ttl_beside(entry, grant),
            };
            let refusal = match self.write(key, write).await? {
                Ok(reply) => {
                    self.held.confirm(key, grant, index(&reply), &wanted);
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            // That much is known: this write was not made.
            self.held.restore(key, grant, Some(held));
            match refusal.code {
                COMPARE_FAILED => self.seen(entry, grant).await?,
                KEY_NOT_FOUND => {
                    self.held.release(key, grant);
                    return Err(lost(key));
                }
                _ => return Err(self.refused(&refusal, key)),
            }
        }
        Err(busy(key))
    }

    /// How the key stands that does not have the index that we knew: it is ours if a write of ours went
    /// unanswered and was made.
    async fn seen(&self, entry: &Entry, grant: Grant) -> Result<()> {
        let key = &entry.key;
        let held = self.held.get(key, grant)?;
        let error = match self.look(entry).await? {
            Some(node) if held.wrote(&node) => {
                let value = String::from_utf8_lossy(&node.value);
                self.held.confirm(key, grant, node.modified, &value);
                return Ok(());
            }
            Some(node) => not_ours(&node),
            None => lost(key),
        };
        self.held.release(key, grant);
        Err(error)
    }

    /// Deletes those of the keys that the grant still holds.
    async fn delete(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        for entry in entries {
            let key = &entry.key;
            while let Ok(held) = self.held.get(key, grant) {
                // The index of a first write that got no answer is not known: none is 1 here.
                let path = format!("{}?prevIndex={}", self.path(key), held.modified.max(1));
                let delete = async |http: Http| {
                    let pending = http.begin(Method::DELETE, &path, None).await?;
                    Ok(pending.read(ONE).await?.1)
                };
                match self.run(delete).await? {
                    Err(refusal) if refusal.code == COMPARE_FAILED => {
                        match self.seen(entry, grant).await {
                            Err(error) if !is_over(&error) => return Err(error),
                            // Ours after all, or nothing of ours any more.
                            _ => {}
                        }
                    }
                    Err(refusal) if refusal.code != KEY_NOT_FOUND => {
                        return Err(self.refused(&refusal, key));
                    }
                    _ => {
                        self.held.release(key, grant);
                        self.remove_folder(entry).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Follows the keys until one of them is not ours any more.
    async fn guard(&self, entries: &[Entry], grant: Grant) -> Error {
        let keys = entries.iter().map(|entry| Scope::Only(entry.key.clone()));
        let follow = |scope: Scope| self.hub().follow(scope, None);
        let mut changes = futures_util::stream::select_all(keys.map(follow));
        while let Some(item) = changes.next().await {
            for change in item.map(|item| item.changes).unwrap_or_default() {
                if let Err(gone) = self.still_ours(entries, &change, grant).await {
                    return gone;
                }
            }
        }
        Error::new(ErrorKind::Closed, "the store was closed")
    }

    /// What a change of our key means. It may be our own, whose answer is still on its way.
    async fn still_ours(&self, entries: &[Entry], change: &Change, grant: Grant) -> Result<()> {
        let nodes = match change {
            Change::Put(node) => std::slice::from_ref(node),
            Change::Reset(nodes) => &nodes[..],
            Change::Delete(key) => return Err(lost(key)),
        };
        for node in nodes {
            let held = self.held.settled(&node.key, grant).await?;
            if node.modified > held.modified && !held.wrote(node) {
                return Err(not_ours(node));
            }
        }
        match (nodes, entries.first()) {
            ([], Some(entry)) => Err(lost(&entry.key)),
            _ => Ok(()),
        }
    }
}

/// Whether the key is gone or another's, and nothing of ours is left to end.
fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::Replaced)
}

/// The index that a write gave the key.
fn index(reply: &Reply) -> u64 {
    reply.node.as_ref().map_or(0, |node| node.modified_index)
}

fn busy(key: &Key) -> Error {
    let text = format!("{key} changed all the time while it was written");
    Error::new(ErrorKind::Unavailable, text)
}

/// The condition that a key is still as it was seen, or still is not there.
fn only_if(seen: Option<&Node>) -> String {
    match seen {
        Some(node) => format!("prevIndex={}", node.modified),
        None => "prevExist=false".to_owned(),
    }
}

/// v2 counts in seconds.
fn whole_seconds(ttl: Duration) -> Duration {
    let more = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(ttl.as_secs().saturating_add(more).max(1))
}

/// v2 keeps text.
fn text(entry: &Entry) -> Result<&str> {
    let bad = |e| {
        let text = format!("the value of {}", entry.key);
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    };
    std::str::from_utf8(&entry.value).map_err(bad)
}

/// v2 takes `.` and `..` for folders, and does not show what is in, or is, what begins with `_`.
fn check(key: &Key) -> Result<()> {
    let mut segments = key.as_str().split('/');
    if let Some(bad) = segments.clone().find(|s| matches!(*s, "." | "..")) {
        return Err(Error::invalid(format!(
            "key {key}: {bad} is no name in etcd v2"
        )));
    }
    if let Some(hidden) = segments.find(|s| s.starts_with('_')) {
        let text = format!("key {key}: etcd v2 hides {hidden}, which begins with _");
        return Err(Error::invalid(text));
    }
    Ok(())
}

impl Store for EtcdV2Store {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        self.hub().probe().boxed()
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
        async move {
            for entry in entries {
                self.rewrite(entry, None, grant).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            for entry in entries {
                self.rewrite(entry, Some(text(entry)?), grant).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.delete(entries, grant).boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.guard(entries, grant).boxed()
    }

    /// Those that were not seen to be deleted have run out.
    fn expired_grants<'a>(&'a self, owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        let gone = self.ended.others(owners);
        async { Ok(gone) }.boxed()
    }

    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        self.hub().follow(scope.clone(), None)
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.hub().states()
    }

    fn metrics(&self) -> Metrics {
        self.hub.get().map(WatchDriver::metrics).unwrap_or_default()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.config.local_address().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_v2_hides_or_takes_for_folders_are_refused() {
        let key = |path| Key::new(path).unwrap();
        assert!(check(&key("/a/b_/c_d")).is_ok());
        for (path, names) in [
            ("/a/_b", "_b"),
            ("/a/_hidden/b", "_hidden"),
            ("/a/../b", ".."),
            ("/a/./b", "."),
        ] {
            let error = check(&key(path)).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn a_time_to_live_is_never_shorter_than_asked() {
        let seconds = |ms| whole_seconds(Duration::from_millis(ms)).as_secs();
        assert_eq!([1, 1000, 1500, 10_000].map(seconds), [1, 1, 2, 10]);
    }
}
