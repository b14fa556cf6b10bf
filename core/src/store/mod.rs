//! Coordinated trees of keys: the half of a backend that does the talking.

#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod coalescing_channel;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
pub(crate) mod etcd;
#[cfg(feature = "local")]
pub(crate) mod local;
pub(crate) mod memory;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod watch_driver;

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};

/// The error of who has lost a key to another owner.
fn replaced(key: impl Display) -> Error {
    Error::new(ErrorKind::Replaced, format!("{key} has another owner now"))
}

/// The error of who has lost a key to nobody.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn lost(key: impl Display) -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        format!("{key} was deleted or overwritten"),
    )
}

/// On what terms entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long they live without a renewal.
    pub ttl: Duration,
    /// What becomes of another owner.
    pub claim: OnConflict,
    /// Whether they are renewed only by what is said for them alone; else the store may keep them alive
    /// together with others of this client.
    pub dedicated: bool,
}

/// A coordinated tree of keys.
///
/// The verbs that take a grant also take the entries it was given for, so that a store needs no table
/// of what it wrote; all of these are leased. What stays is written with `put`. Every call ends by itself within a bound, whatever the network does; dropping the
/// future of a call leaves nothing behind that does not die by itself.
pub trait Store: Send + Sync + 'static {
    /// Whether the store answers: one cheap round trip.
    fn probe(&self) -> BoxFuture<'_, Result<()>>;

    /// Reads one key.
    ///
    /// Returns `None` if the key does not exist, or is a directory where the store has directories (etcd v2).
    /// The read sees every write that finished before the call, whichever client made it.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] if the store cannot be reached, and
    /// with [`ErrorKind::PermissionDenied`] if it refuses the read.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Node>>>;

    /// Reads all keys of a scope at one moment, sorted by key.
    ///
    /// Returns an empty list if the scope contains no key. The read sees every write that finished before the
    /// call.
    ///
    /// # Errors
    ///
    /// Fails like [`Store::get`], and with [`ErrorKind::InvalidArgument`] if the scope contains more keys than
    /// the store's limit.
    fn list<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>>;

    /// Writes all entries or none it can help. Writing a live key again keeps its `created`.
    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>>;

    /// Writes an entry that stays, if its key is still as it was `seen`, none being no key at all. Says
    /// whether it was written: if not, somebody else was faster, and it is to be read again.
    fn put<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Node>) -> BoxFuture<'a, Result<bool>>;

    /// Keeps the entries alive. `LeaseLost` once the grant is gone. Whether each key is still
    /// ours, it need not look: see `guard`.
    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// How long ago a grant that this store renews by itself was last confirmed; none where all renewals
    /// are left to `renew`.
    fn last_confirmed(&self, _grant: Grant) -> Option<Duration> {
        None
    }

    /// Waits until such a grant was not confirmed for two thirds of its ttl, or is gone; over at once where
    /// all renewals are left to `renew`.
    fn renewal_overdue(&self, _grant: Grant) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// Writes new values under a live grant; age and grant stay. `LeaseLost` once the grant or one of
    /// its keys is gone, `Replaced` once another grant holds one of them.
    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Deletes the entries that this grant still holds and ends it. Removing what is gone
    /// succeeds.
    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Waits until the grant or one of its keys is gone or another's, and says so as `update`
    /// would. A store that cannot be told says it when asked, in `renew`.
    fn lease_lost<'a>(&'a self, _entries: &'a [Entry], _grant: Grant) -> BoxFuture<'a, Error> {
        pending().boxed()
    }

    /// Which of the grants are gone, as against keys that were deleted while their grants live. Asked
    /// when many nodes vanish at once. A store whose nodes die only with their owners says none.
    fn expired_grants<'a>(&'a self, _owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        ready(Ok(Vec::new())).boxed()
    }

    /// What there is, then what changes. Begins with a Reset, may Reset again at will. An item never
    /// splits a revision. After an error it ends, or goes on: then the next item says that what was
    /// told holds again.
    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>>;

    /// How the connection fares, from now on: each change.
    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        stream::pending().boxed()
    }

    /// What it has been through.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Finishes what was left to be done behind a call that was given up. Called once, at the end.
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// The address of this machine that other users of the store reach.
    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok(IpAddr::from([127, 0, 0, 1]))).boxed()
    }
}
