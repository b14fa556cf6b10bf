//! etcd v3. One connection per client; a lease per registration; a watch per service.
//!
//! The client crate reconnects calls but neither watches nor leases; those end here with an error,
//! and the engine above opens them again.

mod config;
mod lease;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, KeyValue, LeaseGrantOptions, PutOptions, Txn,
    TxnOp, TxnOpResponse, TxnResponse,
};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::model::{Claim, Grant};
use crate::store::Store;
use crate::tree::{Changes, Entry, Lifetime, Prefix};
pub(crate) use config::Config;
use lease::{Leases, Orphan};
use watch::Watch;

/// The bound of every single call.
const CALL: Duration = Duration::from_secs(5);

/// See the module. Cheap to clone: all clones share the connection.
#[derive(Clone)]
pub(crate) struct Etcd3 {
    config: Arc<Config>,
    /// Made at the first call, because with a password even making it needs the server.
    client: Arc<OnceCell<Client>>,
    leases: Arc<Leases>,
}

impl Etcd3 {
    pub(crate) fn new(config: Config) -> Etcd3 {
        Etcd3 {
            config: config.into(),
            client: Arc::default(),
            leases: Arc::default(),
        }
    }

    async fn client(&self) -> Result<Client> {
        let connect = async || {
            let options = ConnectOptions::new()
                .with_require_leader(true)
                .with_auto_token_refresh(true)
                .with_connect_timeout(CALL)
                // The server forbids pings closer than 5 s, and any while there is no stream.
                .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
                .with_keep_alive_while_idle(false);
            Client::connect(&self.config.endpoints, Some(self.config.apply(options)?))
                .await
                .map_err(|e| self.explain(e))
        };
        self.client.get_or_try_init(connect).await.cloned()
    }

    /// Runs one call within its bound.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T> {
        let work = async {
            call(self.client().await?)
                .await
                .map_err(|e| self.explain(e))
        };
        timeout(CALL, work).await.unwrap_or_else(|_| {
            let endpoints = self.config.shown();
            Err(Error::new(
                Kind::Timeout,
                format!("etcd at {endpoints} did not answer within {CALL:?}"),
            ))
        })
    }

    fn explain(&self, error: etcd_client::Error) -> Error {
        let kind = kind_of(&error);
        Error::caused_by(kind, format!("etcd at {}", self.config.shown()), error)
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.config.root)
    }

    /// Puts for all entries, under the lease or for good.
    fn puts(&self, entries: &[Entry], lease: i64) -> Vec<TxnOp> {
        let put = |entry: &Entry| {
            let leased = entry.lifetime == Lifetime::Leased;
            let options = leased.then(|| PutOptions::new().with_lease(lease));
            TxnOp::put(self.path(entry.key.as_str()), entry.value.clone(), options)
        };
        entries.iter().map(put).collect()
    }

    /// Does `then` if the lease still holds all leased entries; else says who does.
    async fn if_held(&self, entries: &[Entry], lease: i64, then: Vec<TxnOp>) -> Result<()> {
        let leased = || entries.iter().filter(|e| e.lifetime == Lifetime::Leased);
        let path = |entry: &Entry| self.path(entry.key.as_str());
        let held: Vec<_> = leased()
            .map(|e| Compare::lease(path(e), CompareOp::Equal, lease))
            .collect();
        let reads: Vec<_> = leased().map(|e| TxnOp::get(path(e), None)).collect();
        let txn = Txn::new().when(held).and_then(then).or_else(reads);
        let answer = self.call(async |mut client| client.txn(txn).await).await?;
        if answer.succeeded() {
            return Ok(());
        }
        let names = leased()
            .map(|e| e.key.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        // No lease at all is no owner: somebody wrote over the key by hand, and we put it back.
        let taken = found(&answer)
            .iter()
            .any(|kv| kv.lease() != 0 && kv.lease() != lease);
        Err(if taken {
            Error::new(Kind::Replaced, format!("{names} has another owner now"))
        } else {
            Error::new(
                Kind::LeaseLost,
                format!("{names} was deleted or overwritten"),
            )
        })
    }

    /// Refuses to put back what somebody else holds now; gives what must still be so when it is put.
    async fn check_free(&self, entries: &[Entry]) -> Result<Vec<Compare>> {
        let leased = || entries.iter().filter(|e| e.lifetime == Lifetime::Leased);
        let reads: Vec<_> = leased()
            .map(|e| TxnOp::get(self.path(e.key.as_str()), None))
            .collect();
        let txn = Txn::new().and_then(reads);
        let answer = self.call(async |mut client| client.txn(txn).await).await?;
        let found = found(&answer);
        let ours = self.leases.ours();
        let foreign = |kv: &&KeyValue| kv.lease() != 0 && !ours.contains_key(&kv.lease());
        if let Some(kv) = found.iter().find(foreign) {
            let key = String::from_utf8_lossy(kv.key()).into_owned();
            return Err(Error::new(
                Kind::Replaced,
                format!("{key} has another owner now"),
            ));
        }
        let unchanged = |entry: &Entry| {
            let path = self.path(entry.key.as_str());
            let seen = found.iter().find(|kv| kv.key() == path.as_bytes());
            let modified = seen.map_or(0, KeyValue::mod_revision);
            Compare::mod_revision(path, CompareOp::Equal, modified)
        };
        Ok(leased().map(unchanged).collect())
    }
}

/// What the reads of a transaction found.
fn found(answer: &TxnResponse) -> Vec<KeyValue> {
    let found = |response| match response {
        TxnOpResponse::Get(mut got) => got.take_kvs(),
        _ => Vec::new(),
    };
    answer.op_responses().into_iter().flat_map(found).collect()
}

impl Store for Etcd3 {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        async {
            let key = self.path("/");
            match self
                .call(async |mut client| client.get(key, None).await)
                .await
            {
                // Any key will do: a user whose login was taken need not be allowed to read this one.
                Err(error)
                    if error.kind() == Kind::PermissionDenied
                        && self.config.proves_who_we_are()
                        && self.client.initialized() =>
                {
                    Ok(())
                }
                other => other.map(drop),
            }
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        entries: &'a [Entry],
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Grant>> {
        async move {
            let unchanged = match claim {
                Claim::TakeOver => Vec::new(),
                Claim::PutBack => self.check_free(entries).await?,
            };
            let leases = self.call(async |client| Ok(client.lease_client())).await?;
            let id = self.leases.issue(ttl);
            let mut orphan = Orphan(Some((leases, id, self.leases.clone())));
            let options = LeaseGrantOptions::new().with_id(id);
            let seconds = ttl.as_secs_f64().ceil() as i64;
            let granted = self
                .call(async |mut client| client.lease_grant(seconds, Some(options)).await)
                .await?;
            let txn = Txn::new().when(unchanged).and_then(self.puts(entries, id));
            let answer = self.call(async |mut client| client.txn(txn).await).await?;
            if !answer.succeeded() {
                let text = "the key changed while it was put back";
                return Err(Error::new(Kind::Unavailable, text));
            }
            orphan.0 = None;
            let ttl = Duration::from_secs(granted.ttl().max(1) as u64);
            Ok(Grant { id: id as u64, ttl })
        }
        .boxed()
    }

    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let lease = grant.id as i64;
            // The crate makes a first answer of zero seconds, a lease that is gone, an error.
            self.call(async |mut client| client.lease_keep_alive(lease).await)
                .await?;
            self.if_held(entries, lease, Vec::new()).await
        }
        .boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        let lease = grant.id as i64;
        async move {
            self.if_held(entries, lease, self.puts(entries, lease))
                .await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            // Deletes exactly the keys that this lease still holds, in one revision.
            match self
                .call(async |mut client| client.lease_revoke(grant.id as i64).await)
                .await
            {
                Err(error) if error.kind() != Kind::LeaseLost => Err(error),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn watch(&self, prefix: &Prefix) -> BoxStream<'static, Result<Changes>> {
        let start = Watch::List(self.clone(), self.path(prefix.as_str()));
        stream::unfold(start, |watch| async {
            match watch.step().await {
                Ok(Some((changes, next))) => Some((Ok(changes), next)),
                Ok(None) => None,
                Err(error) => Some((Err(error), Watch::Over)),
            }
        })
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let orphans = std::mem::take(&mut *self.leases.orphans());
        orphans.join_all().map(drop).boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.config.local_address().boxed()
    }
}

/// Streams fail with all sorts of codes when a connection breaks, so what is not known to be final is
/// taken for a store that cannot be reached.
fn kind_of(error: &etcd_client::Error) -> Kind {
    use etcd_client::Error as E;
    match error {
        E::GRpcStatus(status) => match (status.code() as i32, status.message()) {
            // Numbers of the gRPC protocol.
            (_, text) if text.contains("authentication") || text.contains("user name") => {
                Kind::PermissionDenied
            }
            // A login from before a change of the rights; the next one is from after it.
            (_, text) if text.contains("revision of auth store is old") => Kind::Unavailable,
            (7 | 16, _) => Kind::PermissionDenied,
            (5, text) if text.contains("lease") => Kind::LeaseLost,
            (4, _) => Kind::Timeout,
            (8, _) => Kind::Resource,
            (3 | 11, _) => Kind::InvalidArgument,
            (12, _) => Kind::Unsupported,
            _ => Kind::Unavailable,
        },
        E::LeaseKeepAliveError(_) => Kind::LeaseLost,
        E::InvalidArgs(_) | E::InvalidUri(_) | E::InvalidMetadataValue(_) => Kind::InvalidArgument,
        _ => Kind::Unavailable,
    }
}
