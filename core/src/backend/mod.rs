//! What the engine sees of a registry: four verbs and a stream of whole views.

#[cfg(feature = "agent")]
mod agent;
mod kv;
pub(crate) mod open;

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    ConnectionState, Grant, Metrics, OnConflict, Registration, ServiceName, SharedAttributes, View,
};

#[cfg(feature = "agent")]
pub use agent::AgentApi;
pub use kv::KvBackend;
pub use open::{COMMON_OPTIONS, Constructor, open_store};

/// A service registry. The verbs take the registration back each time, so a backend needs no table of
/// what it registered. The registration is complete: it has a host and a ttl.
///
/// Errors: `LeaseLost` when the registration is gone and should be made again; `Replaced` when another
/// owner holds the id; a retriable kind when the registry cannot be reached; anything else is final.
/// Every call ends by itself within a bound.
pub trait Backend: Send + Sync + 'static {
    /// Whether the registry answers: one cheap round trip.
    fn probe(&self) -> BoxFuture<'_, Result<()>>;

    /// Makes the instance visible. Once it returns, a reader of the registry sees it. `claim` says what
    /// becomes of another owner of the same id.
    fn register<'a>(
        &'a self,
        registration: &'a Registration,
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>>;

    /// Keeps a registration alive for another TTL.
    fn heartbeat<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
    ) -> BoxFuture<'a, Result<()>>;

    /// How long ago the registry last confirmed a grant that this backend renews by itself, together with
    /// others of this client; none where all renewals are left to `heartbeat`.
    fn last_confirmed(&self, _grant: Grant) -> Option<Duration> {
        None
    }

    /// Waits until such a grant was not confirmed for two thirds of its ttl, or is gone, so that `heartbeat`
    /// is called for it; over at once where all renewals are left to that.
    fn renewal_overdue(&self, _grant: Grant) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// Changes attributes and tags of a live registration; its age stays. With `RestoreOnly` it says nothing
    /// new, but what held before something that failed.
    fn update<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<()>>;

    /// Removes the instance, if this grant still holds it. Removing what is gone succeeds.
    fn unregister<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
    ) -> BoxFuture<'a, Result<()>>;

    /// Waits until the registration is gone or another's, and says so as `heartbeat` would. A backend
    /// that cannot be told says it when asked, in `heartbeat`.
    fn lease_lost<'a>(
        &'a self,
        _registration: &'a Registration,
        _grant: Grant,
    ) -> BoxFuture<'a, Error> {
        pending().boxed()
    }

    /// What the service says to this registration and its others, at once and then whenever it says
    /// something else. Never ends; where they share nothing, nothing is ever said.
    fn shared_attributes(
        &self,
        _registration: &Registration,
    ) -> BoxStream<'static, SharedAttributes> {
        stream::pending().boxed()
    }

    /// The whole set of a service, at once and after each change. Silent while nothing changes. After an
    /// error it ends, and the engine opens it again; or it goes on by itself, and the next view says
    /// that all is well again. `last` is the view before, empty at first; an instance that is still as
    /// it was there should be that very one, with its calls in flight.
    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>>;

    /// The names of all services that have instances now, in order. `Unsupported` where the registry
    /// cannot tell.
    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        let text = "this registry cannot list its services";
        ready(Err(Error::new(ErrorKind::Unsupported, text))).boxed()
    }

    /// How the connection fares, from now on: each change, `Lost` excepted, which the client finds out.
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

    /// The address of this machine that others reach, for registrations that name no host.
    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>>;
}
