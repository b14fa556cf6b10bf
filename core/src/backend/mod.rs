//! The interface between the client and a service registry.

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
pub use kv::{KvBackend, Protection};
pub use open::{COMMON_OPTIONS, Constructor, open_store};

/// A service registry, as the client uses it.
///
/// Implement it to connect the client to a registry of your own, and add it with
/// [`Builder::backend`](crate::Builder::backend). A key-value store needs no backend of its own: implement
/// [`Store`](crate::Store) and use [`KvBackend`].
///
/// - A registration is complete: host and TTL are set. Calls after `register` receive the registration again,
///   so a backend needs no table of what it registered.
/// - Every call ends by itself within a bound of the backend's choice. The client may drop the future of a
///   call before it ends; the effect of the call is then unknown to the client, as after a lost answer.
/// - All methods may be called from any thread, several at once, on a tokio runtime. The client makes one call
///   at a time for each registration; `lease_lost` and streams run beside it.
///
/// # Errors
///
/// | kind | meaning | reaction of the client |
/// | --- | --- | --- |
/// | [`LeaseLost`](ErrorKind::LeaseLost) | the registration does not exist any more | registers again with [`OnConflict::RestoreOnly`] |
/// | [`Replaced`](ErrorKind::Replaced) | another owner holds the id | stops writing; the lease is `replaced` |
/// | retriable ([`Error::is_retriable`]) | the registry did not answer or cannot be reached | retries with backoff |
/// | any other | the registry refused the call | reports the error; a renewal is retried after a third of the TTL |
pub trait Backend: Send + Sync + 'static {
    /// Checks that the registry answers, with one cheap round trip that changes nothing.
    fn probe(&self) -> BoxFuture<'_, Result<()>>;

    /// Makes the instance visible and returns its grant. Once the call returns, every reader of the registry
    /// sees the instance.
    ///
    /// If another owner holds the id, [`OnConflict::Replace`] takes the id over, and [`OnConflict::RestoreOnly`]
    /// fails with `Replaced` and changes nothing. A second call for the same id returns a new grant or the same
    /// one.
    fn register<'a>(
        &'a self,
        registration: &'a Registration,
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>>;

    /// Keeps a registration alive for another TTL. Changes nothing that readers see.
    ///
    /// Fails with `LeaseLost` if the registration does not exist any more, and with `Replaced` if another
    /// owner holds the id.
    fn heartbeat<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
    ) -> BoxFuture<'a, Result<()>>;

    /// Returns the time since the registry last confirmed a grant that the backend renews by itself, together
    /// with other grants of the client. Returns `None`, the default, if the backend renews grants only in
    /// `heartbeat`.
    fn last_confirmed(&self, _grant: Grant) -> Option<Duration> {
        None
    }

    /// Resolves when a grant that the backend renews by itself was not confirmed for two thirds of its TTL, or
    /// is lost; the client then calls `heartbeat`. Resolves at once, the default, if the backend renews grants
    /// only in `heartbeat`.
    fn renewal_overdue(&self, _grant: Grant) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// Replaces attributes and tags of a live registration; its age stays. Repeating an update changes nothing.
    ///
    /// With [`OnConflict::RestoreOnly`] the update writes the value in force again, after a call whose result
    /// is unknown. Fails with `LeaseLost` if the registration does not exist any more, and with `Replaced` if
    /// another owner holds the id; nothing is changed then.
    fn update<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<()>>;

    /// Removes the instance if this grant still holds it. Succeeds if the instance does not exist any more or
    /// another owner holds the id, so a second call succeeds.
    fn unregister<'a>(
        &'a self,
        registration: &'a Registration,
        grant: Grant,
    ) -> BoxFuture<'a, Result<()>>;

    /// Resolves when the registration is deleted, expires or is taken over, with the error that `heartbeat`
    /// would return. A registry without notifications never resolves it, the default; `heartbeat` reports the
    /// loss instead.
    fn lease_lost<'a>(
        &'a self,
        _registration: &'a Registration,
        _grant: Grant,
    ) -> BoxFuture<'a, Error> {
        pending().boxed()
    }

    /// Streams the attributes that the registrations of a service share: the current ones at once, then each
    /// change. The client merges them into the registration. Never ends; if the registrations share nothing,
    /// the default, the stream emits nothing.
    fn shared_attributes(
        &self,
        _registration: &Registration,
    ) -> BoxStream<'static, SharedAttributes> {
        stream::pending().boxed()
    }

    /// Streams the whole set of a service: the current view at once, even if it is empty, then a view after
    /// each change. Emits only on change.
    ///
    /// After an `Err` the stream either ends, and the client calls `subscribe` again with backoff, or recovers
    /// by itself; then the next view signals the recovery. `last` is the last view that the client received,
    /// empty on the first call: an instance that did not change should be the same `Arc`, so that its count of
    /// calls in flight is kept.
    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>>;

    /// Returns the names of all services that have instances, in ascending order. Fails with `Unsupported`,
    /// the default, if the registry cannot list its services.
    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        let text = "this registry cannot list its services";
        ready(Err(Error::new(ErrorKind::Unsupported, text))).boxed()
    }

    /// Streams each change of the state of the connection from now on. Emits `Connected` and `Suspended`; the
    /// client itself decides that a connection is `Lost`. Never ends; the default emits nothing.
    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        stream::pending().boxed()
    }

    /// Returns the counters of the backend since it was opened.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Finishes work that cancelled calls left behind, such as deleting the entry of a cancelled `register`. The
    /// client calls it once, after all other calls.
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// Returns the address of this machine that other machines reach, for registrations without a host.
    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>>;
}
