//! Stores: coordinated trees of keys, which a layout interprets as services and instances.

#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod coalescing_channel;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod connect_attempts;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
pub(crate) mod etcd;
#[cfg(feature = "local")]
pub(crate) mod local;
pub(crate) mod memory;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod session;
#[cfg(any(feature = "etcd", feature = "etcd2"))]
mod watch_driver;

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use futures_util::stream::{self, BoxStream, StreamExt};

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict};

/// Returns the error for a key that another owner has taken over.
fn replaced(key: impl Display) -> Error {
    Error::new(ErrorKind::Replaced, format!("{key} has another owner now"))
}

/// Returns the error for a key that was deleted, or overwritten without a lease.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn lost(key: impl Display) -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        format!("{key} was deleted or overwritten"),
    )
}

/// Conditions under which entries are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Time to live without a renewal.
    pub ttl: Duration,
    /// What to do if a key has another owner.
    pub on_conflict: OnConflict,
    /// Whether the entries are renewed only by `renew`. Otherwise the store may keep them alive together
    /// with other entries of this client.
    pub dedicated: bool,
}

/// A coordinated tree of keys, with leases and watches.
///
/// Methods that take a grant also take the entries of the grant, so that a store needs no table of its
/// writes; all these entries are leased. Persistent entries are written with `put`. Every call ends within a
/// bound, whatever the network does. A cancelled call leaves nothing behind that does not expire by itself.
pub trait Store: Send + Sync + 'static {
    /// Checks that the store responds, with one cheap round trip.
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

    /// Creates the entries under a new grant; if one fails, the others are deleted or expire. Writing an
    /// existing key again keeps its `created`.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Replaced`] if `terms.on_conflict` is [`OnConflict::RestoreOnly`] and a key has
    /// another owner.
    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>>;

    /// Writes a persistent entry if its key is unchanged since it was read as `seen`; `None` means that it
    /// did not exist.
    ///
    /// Returns false, without writing, if the key was changed meanwhile: read it again.
    fn put<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Node>) -> BoxFuture<'a, Result<bool>>;

    /// Renews the grant of the entries. Need not check whether each key is still owned: `lease_lost` does.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::LeaseLost`] if the grant has ended.
    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Returns the time since the last confirmed renewal of a grant that the store renews by itself, or
    /// `None` if all renewals are left to `renew`.
    fn last_confirmed(&self, _grant: Grant) -> Option<Duration> {
        None
    }

    /// Resolves when a grant that the store renews by itself was not confirmed for two thirds of its TTL, or
    /// has ended. Resolves at once if all renewals are left to `renew`.
    fn renewal_overdue(&self, _grant: Grant) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// Writes new values under an existing grant; `created` and the grant stay.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::LeaseLost`] if the grant or one of its keys no longer exists, and with
    /// [`ErrorKind::Replaced`] if another grant owns one of the keys.
    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Deletes the entries that the grant still owns, and ends the grant. Succeeds if they do not exist.
    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Resolves when the grant expires or one of its keys is deleted or taken over, with the error that
    /// `update` would return. A store without notifications never resolves it; `renew` reports the loss
    /// instead.
    fn lease_lost<'a>(&'a self, _entries: &'a [Entry], _grant: Grant) -> BoxFuture<'a, Error> {
        pending().boxed()
    }

    /// Returns those of the grants that have expired, as opposed to grants whose keys were deleted. Called
    /// when many nodes vanish at once. A store whose nodes exist exactly as long as their owners returns
    /// none.
    fn expired_grants<'a>(&'a self, _owners: &'a [u64]) -> BoxFuture<'a, Result<Vec<u64>>> {
        ready(Ok(Vec::new())).boxed()
    }

    /// Returns when the store's last election of a leader was noticed, or `None` if there was none, or the store
    /// does not report it. Known at the latest when a change that followed the election is emitted.
    fn last_election(&self) -> Option<Instant> {
        None
    }

    /// Watches a scope: emits its nodes as a [`Change::Reset`](crate::kv::Change::Reset), then every change.
    ///
    /// The stream may emit further Resets. An item never splits a revision. After an `Err` the stream either
    /// ends or recovers by itself; then the next item signals the recovery.
    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>>;

    /// Emits every change of the connection state from now on.
    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        stream::pending().boxed()
    }

    /// Returns the counters of the store.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Finishes the clean-up of cancelled calls. Called once, at the end.
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// Returns the address of this machine on the route to the store.
    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok(IpAddr::from([127, 0, 0, 1]))).boxed()
    }
}
