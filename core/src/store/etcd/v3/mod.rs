//! etcd v3. One connection per client, one watch stream for all that is followed, one lease for many
//! registrations.
//!
//! `session` is the connection, which the hub keeps and follows parts of the store with; `together` asks for
//! many lists at once; `lease` shares leases, which `renew` keeps alive; here are the calls.

mod batched_reads;
mod decode;
mod error;
mod keepalive;
mod lease_pool;
mod session;
mod tls;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};
use crate::store::etcd::config::EtcdConfig;
use crate::store::watch_driver::WatchDriver;
use crate::store::{Store, Terms, lost, replaced};
use crate::watch_sync::KeyRevisions;
use error::request_error;
use lease_pool::{DeleteOnDrop, LeasePool, PooledLease};
use session::Session;

/// How many leases are asked about at a time.
const AT_A_TIME: usize = 32;

/// The calls to one etcd.
#[derive(Clone)]
pub(crate) struct EtcdV3Store {
    config: Arc<EtcdConfig>,
    /// Started at the first call, because before that there may be no runtime to run on.
    hub: Arc<OnceLock<WatchDriver<Session>>>,
    leases: Arc<LeasePool>,
}

impl EtcdV3Store {
    pub(crate) fn new(config: EtcdConfig) -> EtcdV3Store {
        EtcdV3Store {
            config: config.into(),
            hub: Arc::default(),
            leases: Arc::default(),
        }
    }

    fn hub(&self) -> &WatchDriver<Session> {
        let session = |tell| Session::new(self.config.clone(), tell);
        let endpoints = self.config.endpoints.len();
        self.hub
            .get_or_init(|| WatchDriver::start(endpoints, session))
    }

    /// Runs one call that accesses no key, within its bound, and no longer than the connection lives.
    async fn run<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T> {
        self.run_on(String::new, call).await
    }

    /// Runs one call like [`EtcdV3Store::run`]. `keys` names the keys that it accesses, for errors.
    async fn run_on<T>(
        &self,
        keys: impl FnOnce() -> String,
        call: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T> {
        let explained = async |client| {
            let done = call(client).await;
            done.map_err(|e| request_error(&self.config, &keys(), &e))
        };
        self.hub().run(&self.config.shown(), explained).await
    }

    /// Names the keys of the entries for errors.
    fn key_names(&self, entries: &[Entry]) -> String {
        let names: Vec<String> = keys(entries).map(|key| self.path(key)).collect();
        names.join(", ")
    }

    fn path(&self, key: &Key) -> String {
        self.config.path(key.as_str())
    }

    /// Puts for all entries, under the lease.
    fn puts(&self, entries: &[Entry], lease: i64) -> Vec<TxnOp> {
        let put = |entry: &Entry| {
            let options = PutOptions::new().with_lease(lease);
            TxnOp::put(self.path(&entry.key), entry.value.clone(), Some(options))
        };
        entries.iter().map(put).collect()
    }

    /// Reads the entries.
    fn gets(&self, entries: &[Entry]) -> Vec<TxnOp> {
        keys(entries)
            .map(|key| TxnOp::get(self.path(key), None))
            .collect()
    }

    /// That the key has not changed since that revision, 0 being that there was none.
    fn unchanged(&self, key: &Key, modified: u64) -> Compare {
        Compare::mod_revision(self.path(key), CompareOp::Equal, modified as i64)
    }

    /// Refuses to put back what somebody else holds now; gives what must still be so when it is put.
    async fn check_free(&self, entries: &[Entry]) -> Result<Vec<Compare>> {
        let txn = Txn::new().and_then(self.gets(entries));
        let keys_read = || self.key_names(entries);
        let answer = self.run_on(keys_read, async |mut client| client.txn(txn).await);
        let answer = answer.await?;
        let found = found(&answer);
        let foreign = |kv: &&KeyValue| kv.lease() != 0 && !self.leases.is_ours(kv.lease());
        if let Some(kv) = found.iter().find(foreign) {
            return Err(replaced(String::from_utf8_lossy(kv.key())));
        }
        let unchanged = |key: &Key| {
            let path = self.path(key);
            let seen = found.iter().find(|kv| kv.key() == path.as_bytes());
            self.unchanged(key, seen.map_or(0, KeyValue::mod_revision) as u64)
        };
        Ok(keys(entries).map(unchanged).collect())
    }

    async fn get(&self, key: &Key) -> Result<Option<Node>> {
        let path = self.path(key);
        let get = async |mut client: Client| client.get(path, None).await;
        let answer = self.run_on(|| self.path(key), get).await?;
        Ok(answer.kvs().first().and_then(|kv| self.config.node(kv)))
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Node>> {
        let (path, is_prefix) = self.config.range(scope);
        let mut options = GetOptions::new();
        if is_prefix {
            options = options.with_prefix().with_limit(self.config.most as i64);
        }
        let get = async |client: Client| {
            let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
            kv.get(path, Some(options)).await
        };
        let mut answer = self.run_on(|| self.config.scope_name(scope), get).await?;
        match answer.more() {
            true => Err(self.config.too_many(answer.count())),
            false => Ok(self.config.nodes(answer.take_kvs())),
        }
    }

    async fn put(&self, entry: &Entry, seen: Option<&Node>) -> Result<bool> {
        let unchanged = self.unchanged(&entry.key, seen.map_or(0, |node| node.modified));
        let put = TxnOp::put(self.path(&entry.key), entry.value.clone(), None);
        let key = || self.path(&entry.key);
        let written = self.put_if(key, vec![unchanged], vec![put]).await?;
        Ok(written.is_some())
    }

    /// Renews a lease, and forgets it if it is gone.
    async fn renew(&self, lease: &PooledLease) -> Result<()> {
        let renewed = lease.renew(self).await;
        if matches!(&renewed, Err(error) if error.kind() == ErrorKind::LeaseLost) {
            self.leases.gone(lease.id);
        }
        renewed
    }

    async fn create(&self, entries: &[Entry], terms: Terms) -> Result<Grant> {
        let unchanged = match terms.claim {
            OnConflict::Replace => Vec::new(),
            OnConflict::RestoreOnly => self.check_free(entries).await?,
        };
        let keys: Vec<Key> = keys(entries).cloned().collect();
        let lease = self
            .leases
            .lease(self, &keys, terms.ttl, terms.dedicated)
            .await?;
        let mut unwanted = DeleteOnDrop(Some((self.clone(), lease.clone(), keys.clone())));
        let written = match (&unchanged[..], entries) {
            ([], [only]) => self.put_alone(only, lease.id).await.map(Some),
            _ => {
                let puts = self.puts(entries, lease.id);
                self.put_if(|| self.key_names(entries), unchanged, puts)
                    .await
            }
        };
        if matches!(&written, Err(error) if error.kind() == ErrorKind::LeaseLost) {
            self.leases.gone(lease.id);
        }
        let written = written?;
        unwanted.0 = None;
        let Some(revision) = written else {
            self.leases.release(&lease, &keys);
            let text = "the key changed while it was put back";
            return Err(Error::new(ErrorKind::Unavailable, text));
        };
        lease.written(&keys, revision);
        Ok(Grant {
            id: lease.id as u64,
            ttl: lease.ttl,
        })
    }

    /// Puts one entry under the lease, whatever is there; gives the revision. For a transaction etcd copies
    /// what it has not yet put on disk, to look at it, and that costs it as much as the rest.
    async fn put_alone(&self, entry: &Entry, lease: i64) -> Result<u64> {
        let (path, value) = (self.path(&entry.key), entry.value.clone());
        let options = PutOptions::new().with_lease(lease);
        let put = async move |mut client: Client| client.put(path, value, Some(options)).await;
        let answer = self.run_on(|| self.path(&entry.key), put).await?;
        Ok(answer.header().map_or(0, |header| header.revision()) as u64)
    }

    /// Puts all of them if all of that is so; gives the revision if they were.
    async fn put_if(
        &self,
        keys: impl FnOnce() -> String,
        so: Vec<Compare>,
        puts: Vec<TxnOp>,
    ) -> Result<Option<u64>> {
        let txn = Txn::new().when(so).and_then(puts);
        let answer = self.run_on(keys, async |mut client| client.txn(txn).await);
        let answer = answer.await?;
        Ok(answer.succeeded().then(|| revision(&answer)))
    }

    /// Writes if the lease still holds all entries; else says who does.
    async fn update(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        let lease = self.leases.of(grant)?;
        let held = keys(entries)
            .map(|key| Compare::lease(self.path(key), CompareOp::Equal, lease.id))
            .collect::<Vec<_>>();
        let txn = Txn::new()
            .when(held)
            .and_then(self.puts(entries, lease.id))
            .or_else(self.gets(entries));
        let keys_written = || self.key_names(entries);
        let answer = self.run_on(keys_written, async |mut client| client.txn(txn).await);
        let answer = answer.await?;
        if answer.succeeded() {
            return Ok(());
        }
        let owners = found(&answer)
            .iter()
            .map(|kv| kv.lease())
            .collect::<Vec<_>>();
        let names: Vec<&str> = keys(entries).map(Key::as_str).collect();
        Err(not_held(&names.join(", "), &owners, lease.id))
    }

    /// Follows the keys from when they were written until one of them is not ours any more.
    async fn guard(&self, entries: &[Entry], grant: Grant) -> Error {
        let lease = match self.leases.of(grant) {
            Ok(lease) => lease,
            Err(gone) => return gone,
        };
        let keys: Vec<Key> = keys(entries).cloned().collect();
        let known = lease.revisions(&keys);
        let follow = |(key, revision): (Key, u64)| {
            let known = KeyRevisions {
                revision,
                modified: [(key.clone(), revision)].into(),
            };
            // Without its revision it is read first.
            let known = (revision > 0).then_some(known);
            self.hub().follow(Scope::Only(key), known)
        };
        let mut changes = stream::select_all(known.into_iter().map(follow));
        while let Some(item) = changes.next().await {
            let ended = item
                .ok()
                .and_then(|changes| ended(&changes, &keys, lease.id));
            if let Some(ended) = ended {
                return ended;
            }
        }
        Error::new(ErrorKind::Closed, "the store was closed")
    }
}

/// What changes of our keys mean for us.
fn ended(changes: &Changes, keys: &[Key], lease: i64) -> Option<Error> {
    let other = |node: &Node| {
        let owner = node.owner as i64;
        (owner != lease).then(|| not_held(node.key.as_str(), &[owner], lease))
    };
    changes.changes.iter().find_map(|change| match change {
        Change::Put(node) => other(node),
        Change::Delete(key) => Some(not_held(key.as_str(), &[], lease)),
        Change::Reset(nodes) => match nodes.first() {
            Some(node) => other(node),
            None => Some(not_held(keys.first()?.as_str(), &[], lease)),
        },
    })
}

/// No lease at all is no owner: somebody wrote over the key by hand, and we put it back.
fn not_held(names: &str, owners: &[i64], lease: i64) -> Error {
    match owners.iter().any(|owner| *owner != 0 && *owner != lease) {
        true => replaced(names),
        false => lost(names),
    }
}

fn keys(entries: &[Entry]) -> impl Iterator<Item = &Key> {
    entries.iter().map(|entry| &entry.key)
}

fn revision(answer: &TxnResponse) -> u64 {
    answer.header().map_or(0, |header| header.revision()) as u64
}

/// What the reads of a transaction found.
fn found(answer: &TxnResponse) -> Vec<KeyValue> {
    let found = |response| match response {
        TxnOpResponse::Get(mut got) => got.take_kvs(),
        _ => Vec::new(),
    };
    answer.op_responses().into_iter().flat_map(found).collect()
}

impl Store for EtcdV3Store {
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

    fn renew<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.renew(&*self.leases.of(grant)?).await }.boxed()
    }

    fn last_confirmed(&self, grant: Grant) -> Option<Duration> {
        self.leases.of(grant).ok()?.kept()
    }

    fn renewal_overdue(&self, grant: Grant) -> BoxFuture<'static, ()> {
        let leases = self.leases.clone();
        async move { leases.overdue(grant).await }.boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.update(entries, grant).boxed()
    }

    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let keys: Vec<Key> = keys(entries).cloned().collect();
            let lease = self.leases.of(grant).ok();
            let unwanted = lease.map(|lease| (self.clone(), lease, keys.clone()));
            let mut unwanted = DeleteOnDrop(unwanted);
            self.delete_held(&keys, grant.id as i64).await?;
            // The lease stays for others, or runs out: that it lives says that the keys were deleted,
            // not lost.
            if let Some((_, lease, keys)) = unwanted.0.take() {
                self.leases.release(&lease, &keys);
            }
            Ok(())
        }
        .boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.guard(entries, grant).boxed()
    }

    fn expired_grants<'a>(&'a self, owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        async move {
            let ask = |owner: u64| async move {
                let ask =
                    async |mut client: Client| client.lease_time_to_live(owner as i64, None).await;
                Ok::<_, Error>((self.run(ask).await?.ttl() <= 0).then_some(owner))
            };
            let owners = owners.to_vec();
            let mut answers = stream::iter(owners).map(ask).buffer_unordered(AT_A_TIME);
            let mut gone = Vec::new();
            while let Some(answer) = answers.next().await {
                gone.extend(answer?);
            }
            Ok(gone)
        }
        .boxed()
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

    fn close(&self) -> BoxFuture<'_, ()> {
        self.leases.finish().boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.config.local_address().boxed()
    }
}
