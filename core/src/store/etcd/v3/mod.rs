//! Store in etcd over the v3 API (gRPC): one connection and one watch stream per client, and shared leases.
//!
//! - [`session`]: the connection that the watch driver uses, with its [`watch_stream`].
//! - [`mod@connect`]: opens a connection; its [`login`] is renewed when the server refuses it as outdated.
//! - [`batched_reads`]: lists for the watches.
//! - [`lease_pool`]: shares each [`pooled_lease`] between many registrations; [`keepalive`] renews them.
//! - [`lease_watch`]: detects the loss of a lease or of its keys.
//! - [`elections`]: notices a new leader.

mod batched_reads;
mod channel;
mod connect;
mod decode;
mod elections;
mod error;
mod keepalive;
mod lease_pool;
mod lease_watch;
mod login;
mod pooled_lease;
mod session;
mod tls;
mod watch_stream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use once_cell::sync::OnceCell;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};
use crate::store::etcd::config::EtcdConfig;
use crate::store::watch_driver::WatchDriver;
use crate::store::{Store, Terms, lost, replaced};
use connect::Connection;
use elections::Elections;
use error::request_error;
use lease_pool::{DeleteOnDrop, LeasePool};
use pooled_lease::PooledLease;
use session::Session;

/// Maximum number of concurrent lease requests.
const MAX_CONCURRENT_LEASE_CALLS: usize = 32;

/// Store in etcd over the v3 API.
#[derive(Clone)]
pub(crate) struct EtcdV3Store {
    config: Arc<EtcdConfig>,
    /// Started by the first call: `new` may be called outside of a tokio runtime.
    driver: Arc<OnceCell<WatchDriver<Session>>>,
    leases: Arc<LeasePool>,
    elections: Arc<Elections>,
}

impl EtcdV3Store {
    /// Starts the task that renews the pooled leases.
    fn start_renewals(&self) {
        tokio::spawn(keepalive::run(self.clone()));
    }

    pub(crate) fn new(config: EtcdConfig) -> EtcdV3Store {
        EtcdV3Store {
            config: config.into(),
            driver: Arc::default(),
            leases: Arc::default(),
            elections: Arc::default(),
        }
    }

    fn driver(&self) -> Result<&WatchDriver<Session>> {
        let session = |events| Session::new(self.config.clone(), self.elections.clone(), events);
        let endpoints = self.config.endpoints.len();
        self.driver
            .get_or_try_init(|| WatchDriver::start(endpoints, self.config.max_keys, session))
    }

    /// Runs one call that accesses no key, with the driver's timeout.
    async fn run<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.run_on(String::new, call).await
    }

    /// Runs one call like [`EtcdV3Store::run`]. `keys` names the keys that it accesses, for errors.
    async fn run_on<T, F>(
        &self,
        keys: impl FnOnce() -> String,
        call: impl Fn(Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let explained = async |connection: Connection| {
            let done = connection.call(&call).await;
            done.map_err(|e| request_error(&self.config, &keys(), &e))
        };
        self.driver()?.run(&self.config.shown(), explained).await
    }

    /// Runs a transaction. `keys` names the keys that it accesses, for errors.
    async fn txn(&self, keys: impl FnOnce() -> String, txn: Txn) -> Result<TxnResponse> {
        let call = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        self.run_on(keys, call).await
    }

    /// Names the keys of the entries for errors.
    fn key_names(&self, entries: &[Entry]) -> String {
        let names: Vec<String> = keys(entries).map(|key| self.path(key)).collect();
        names.join(", ")
    }

    fn path(&self, key: &Key) -> String {
        self.config.path(key.as_str())
    }

    /// Returns puts of all entries under the lease.
    fn puts(&self, entries: &[Entry], lease: i64) -> Vec<TxnOp> {
        let put = |entry: &Entry| {
            let options = PutOptions::new().with_lease(lease);
            TxnOp::put(self.path(&entry.key), entry.value.clone(), Some(options))
        };
        entries.iter().map(put).collect()
    }

    /// Returns reads of all entries.
    fn gets(&self, entries: &[Entry]) -> Vec<TxnOp> {
        keys(entries)
            .map(|key| TxnOp::get(self.path(key), None))
            .collect()
    }

    /// Returns the condition that the key was last changed at this revision; 0 means that it does not exist.
    fn unchanged(&self, key: &Key, modified: u64) -> Compare {
        Compare::mod_revision(self.path(key), CompareOp::Equal, modified as i64)
    }

    /// Checks that no other owner has one of the keys. Returns the conditions under which this stays true.
    async fn check_free(&self, entries: &[Entry]) -> Result<Vec<Compare>> {
        let txn = Txn::new().and_then(self.gets(entries));
        let answer = self.txn(|| self.key_names(entries), txn).await?;
        let found = read_results(&answer);
        let foreign = |kv: &&KeyValue| kv.lease() != 0 && !self.leases.has_granted(kv.lease());
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
        let get = |mut client: Client| {
            let path = path.clone();
            async move { client.get(path, None).await }
        };
        let answer = self.run_on(|| self.path(key), get).await?;
        Ok(answer.kvs().first().and_then(|kv| self.config.node(kv)))
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<Node>> {
        let (path, is_prefix) = self.config.range(scope);
        let mut options = GetOptions::new();
        if is_prefix {
            options = options
                .with_prefix()
                .with_limit(self.config.max_keys as i64);
        }
        let get = |client: Client| {
            let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
            let (path, options) = (path.clone(), Some(options.clone()));
            async move { kv.get(path, options).await }
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

    /// Renews a lease, and removes it from the pool if it has ended.
    async fn renew(&self, lease: &PooledLease) -> Result<()> {
        let renewed = lease.renew(self).await;
        if matches!(&renewed, Err(error) if error.kind() == ErrorKind::LeaseLost) {
            self.leases.remove(lease.id);
        }
        renewed
    }

    async fn create(&self, entries: &[Entry], terms: Terms) -> Result<Grant> {
        let unchanged = match terms.on_conflict {
            OnConflict::Replace => Vec::new(),
            OnConflict::RestoreOnly => self.check_free(entries).await?,
        };
        let keys: Vec<Key> = keys(entries).cloned().collect();
        let lease = self
            .leases
            .acquire(self, &keys, terms.ttl, terms.dedicated)
            .await?;
        let mut cleanup_on_drop = DeleteOnDrop(Some((self.clone(), lease.clone(), keys.clone())));
        let written = match (&unchanged[..], entries) {
            ([], [only]) => self.put_unconditionally(only, lease.id).await.map(Some),
            _ => {
                let puts = self.puts(entries, lease.id);
                self.put_if(|| self.key_names(entries), unchanged, puts)
                    .await
            }
        };
        if matches!(&written, Err(error) if error.kind() == ErrorKind::LeaseLost) {
            self.leases.remove(lease.id);
        }
        let written = written?;
        cleanup_on_drop.0 = None;
        let Some(revision) = written else {
            self.leases.release(&lease, &keys);
            let text = "the key changed while it was put back";
            return Err(Error::new(ErrorKind::Unavailable, text));
        };
        lease.record_written(&keys, revision);
        Ok(Grant {
            id: lease.id as u64,
            ttl: lease.ttl,
        })
    }

    /// Puts one entry under the lease unconditionally; returns the revision. A plain put is half as
    /// expensive as a transaction, for which etcd copies its uncommitted state.
    async fn put_unconditionally(&self, entry: &Entry, lease: i64) -> Result<u64> {
        let (path, value) = (self.path(&entry.key), entry.value.clone());
        let options = PutOptions::new().with_lease(lease);
        let put = |mut client: Client| {
            let (path, value, options) = (path.clone(), value.clone(), Some(options.clone()));
            async move { client.put(path, value, options).await }
        };
        let answer = self.run_on(|| self.path(&entry.key), put).await?;
        Ok(answer.header().map_or(0, |header| header.revision()) as u64)
    }

    /// Puts all entries if the conditions hold; returns the revision, or `None` if they do not.
    async fn put_if(
        &self,
        keys: impl FnOnce() -> String,
        conditions: Vec<Compare>,
        puts: Vec<TxnOp>,
    ) -> Result<Option<u64>> {
        let txn = Txn::new().when(conditions).and_then(puts);
        let answer = self.txn(keys, txn).await?;
        Ok(answer.succeeded().then(|| revision(&answer)))
    }

    /// Returns true if the lease has ended, so that keys which the store refused to delete do not exist any more.
    async fn has_expired(&self, grant: Grant, refusal: &Error) -> bool {
        let expired = async || self.expired_grants(&[grant.id]).await;
        !refusal.is_retriable() && expired().await.is_ok_and(|expired| !expired.is_empty())
    }

    /// Writes the entries if the lease still owns all of them.
    async fn update(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        let lease = self.leases.get(grant)?;
        let held = keys(entries)
            .map(|key| Compare::lease(self.path(key), CompareOp::Equal, lease.id))
            .collect::<Vec<_>>();
        let txn = Txn::new()
            .when(held)
            .and_then(self.puts(entries, lease.id))
            .or_else(self.gets(entries));
        let answer = self.txn(|| self.key_names(entries), txn).await?;
        if answer.succeeded() {
            return Ok(());
        }
        let owners = read_results(&answer)
            .iter()
            .map(|kv| kv.lease())
            .collect::<Vec<_>>();
        let names: Vec<&str> = keys(entries).map(Key::as_str).collect();
        Err(not_owned_error(&names.join(", "), &owners, lease.id))
    }
}

/// Returns the error for keys that the lease does not own. A key without a lease was overwritten by hand and
/// is restored.
fn not_owned_error(names: &str, owners: &[i64], lease: i64) -> Error {
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

/// Returns the results of the reads in a transaction.
fn read_results(answer: &TxnResponse) -> Vec<KeyValue> {
    let found = |response| match response {
        TxnOpResponse::Get(mut got) => got.take_kvs(),
        _ => Vec::new(),
    };
    answer.op_responses().into_iter().flat_map(found).collect()
}

impl Store for EtcdV3Store {
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

    fn renew<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.renew(&*self.leases.get(grant)?).await }.boxed()
    }

    fn last_confirmed(&self, grant: Grant) -> Option<Duration> {
        self.leases.get(grant).ok()?.since_confirmed()
    }

    fn renewal_overdue(&self, grant: Grant) -> BoxFuture<'static, ()> {
        let leases = self.leases.clone();
        async move { leases.wait_overdue(grant).await }.boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.update(entries, grant).boxed()
    }

    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let keys: Vec<Key> = keys(entries).cloned().collect();
            let lease = self.leases.get(grant).ok();
            let cleanup_on_drop = lease.map(|lease| (self.clone(), lease, keys.clone()));
            let mut cleanup_on_drop = DeleteOnDrop(cleanup_on_drop);
            if let Err(error) = self.delete_held(&keys, grant.id as i64).await
                && !self.has_expired(grant, &error).await
            {
                return Err(error);
            }
            // The lease stays for other keys, or expires. As it exists, the keys count as deleted, not as
            // expired.
            if let Some((_, lease, keys)) = cleanup_on_drop.0.take() {
                self.leases.release(&lease, &keys);
            }
            Ok(())
        }
        .boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.wait_for_loss(entries, grant).boxed()
    }

    fn expired_grants<'a>(&'a self, owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        async move {
            let ask = |owner: u64| async move {
                let ask = |mut client: Client| async move {
                    client.lease_time_to_live(owner as i64, None).await
                };
                Ok::<_, Error>((self.run(ask).await?.ttl() <= 0).then_some(owner))
            };
            let owners = owners.to_vec();
            let mut answers = stream::iter(owners)
                .map(ask)
                .buffer_unordered(MAX_CONCURRENT_LEASE_CALLS);
            let mut gone = Vec::new();
            while let Some(answer) = answers.next().await {
                gone.extend(answer?);
            }
            Ok(gone)
        }
        .boxed()
    }

    fn last_election(&self) -> Option<Instant> {
        self.elections.last()
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

    fn close(&self) -> BoxFuture<'_, ()> {
        self.leases.finish_cleanup().boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        async {
            let connection = async |connection: Connection| Ok(connection.stats.local_address());
            let local = self.driver()?.run(&self.config.shown(), connection).await?;
            local.ok_or_else(EtcdConfig::no_local_address)
        }
        .boxed()
    }
}
