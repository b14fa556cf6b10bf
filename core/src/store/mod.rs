//! Coordinated trees of keys: the half of a backend that does the talking.

#[cfg(feature = "etcd")]
pub(crate) mod etcd3;
#[cfg(feature = "local")]
pub(crate) mod local;
pub(crate) mod memory;

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::BoxStream;

use crate::error::Result;
use crate::model::{Claim, Grant};
use crate::tree::{Changes, Entry, Prefix};

/// A coordinated tree of keys.
///
/// The verbs that take a grant also take the entries it was given for, so that a store needs no table
/// of what it wrote. Every call ends by itself within a bound, whatever the network does; dropping the
/// future of a call leaves nothing behind that does not die by itself.
pub trait Store: Send + Sync + 'static {
    /// Whether the store answers: one cheap round trip.
    fn probe(&self) -> BoxFuture<'_, Result<()>>;

    /// Writes all entries or none it can help. Writing a live key again keeps its `created`. What
    /// becomes of another owner of it, `claim` says.
    fn create<'a>(
        &'a self,
        entries: &'a [Entry],
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Grant>>;

    /// Keeps the leased entries alive. `LeaseLost` once the grant or one of its keys is gone,
    /// `Replaced` once another grant holds one of them.
    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Writes new values under a live grant; age and grant stay. Fails as `renew` does.
    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// Deletes the leased entries that this grant still holds and ends it. Removing what is gone
    /// succeeds.
    fn remove<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>>;

    /// What is under `prefix`, then what changes. Begins with a Reset, may Reset again at will, and
    /// ends after an error. An item never splits a revision.
    fn watch(&self, prefix: &Prefix) -> BoxStream<'static, Result<Changes>>;

    /// Finishes what was left to be done behind a call that was given up. Called once, at the end.
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// The address of this machine that other users of the store reach.
    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok(IpAddr::from([127, 0, 0, 1]))).boxed()
    }
}
