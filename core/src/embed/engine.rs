//! Engine for bindings: a client with its own runtime and callback thread.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::client::Client;
use crate::embed::CLOSE_TIMEOUT;
use crate::embed::callback_thread::{Sink, Waker};
use crate::embed::engine_state::EngineState;
use crate::embed::feed::Feed;
use crate::embed::fork_guard::ForkGuard;
use crate::embed::pending::Pending;
use crate::embed::subscription::Subscription;
use crate::error::Result;
use crate::lease::{Lease, Standing};
use crate::model::{Attributes, ConnectionState, Instance, Metrics, Registration, ServiceName};
use crate::set::{Policy, ServiceSet, Snapshot, Status};

/// Client for bindings to other languages. Dropping it closes the client without waiting.
pub struct Engine(ForkGuard<Arc<EngineState>>);

impl Engine {
    /// Starts the threads. The returned call connects to `url`, or to `DISCOVER_URL` if `url` is none, or
    /// else to `local://`.
    ///
    /// # Errors
    ///
    /// `Resource` if a thread cannot be started.
    pub fn open(url: Option<&str>) -> Result<Pending<Engine>> {
        let shared = EngineState::start()?;
        let builder = match url {
            Some(url) => Client::builder().url(url),
            None => Client::builder(),
        };
        let opened = shared.clone();
        let work = async move {
            let client = builder.connect().await?;
            let _ = opened.client.set(client);
            Ok(Engine(ForkGuard::new(opened)))
        };
        Ok(Pending {
            shared,
            work: work.boxed(),
        })
    }

    /// Returns the URL of the registry with its secrets masked.
    pub fn url(&self) -> Result<String> {
        Ok(self.0.get()?.client()?.uri().to_string())
    }

    /// Registers an instance and keeps it registered until the lease is released or dropped. Retries for
    /// `timeout`; the default is the `connect_timeout` of the client.
    pub fn register(
        &self,
        r: Registration,
        timeout: Option<Duration>,
    ) -> Result<Pending<LeaseHandle>> {
        let shared = self.0.get()?.clone();
        let client = shared.client()?;
        let owner = shared.clone();
        let work = async move {
            let lease = match timeout {
                Some(timeout) => client.register_within(r, timeout).await?,
                None => client.register(r).await?,
            };
            Ok(LeaseHandle(ForkGuard::new((Arc::new(lease), owner))))
        };
        Ok(Pending {
            shared,
            work: work.boxed(),
        })
    }

    /// Returns the live set of a service without waiting. The state of the set tells whether it is current
    /// yet.
    pub fn services(&self, service: &str) -> Result<SetHandle> {
        let shared = self.0.get()?.clone();
        let client = shared.client()?;
        // Watching spawns a task, which needs a runtime context.
        let _entered = shared.handle.enter();
        let set = client.services(service)?;
        drop(_entered);
        Ok(SetHandle(ForkGuard::new((shared, set))))
    }

    /// Returns the metrics of the client, also after it is closed.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(self.0.get()?.opened()?.metrics())
    }

    /// Returns the state of the connection to the store.
    pub fn connection(&self) -> Result<ConnectionState> {
        Ok(self.0.get()?.client()?.connection())
    }

    /// Calls `callback` on the callback thread with the current connection state and then with each change.
    /// If several changes are pending, only the latest is delivered.
    ///
    /// The callback is dropped on the callback thread after its last call; if this fails, it is dropped
    /// before this returns.
    pub fn on_connection(
        &self,
        callback: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        let shared = self.0.get()?.clone();
        let changes = shared.client()?.connection_changes();
        Subscription::to_states(shared, changes, callback)
    }

    /// Fails with `Busy` inside a callback and with `Forked` in a forked child. For bindings that wait by
    /// themselves.
    pub fn check_may_wait(&self) -> Result<()> {
        self.0.get()?.dispatch.check_may_wait()
    }

    /// Closes the client: releases leases, ends running calls, waits for callbacks, drops all callbacks and
    /// ends both threads. Each step takes at most `timeout`. Closing again succeeds; a concurrent call waits
    /// for the first one.
    ///
    /// # Errors
    ///
    /// `Busy` inside a callback; then the client stays open.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.0.get()?.close(timeout)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Ok(shared) = self.0.get().cloned() else {
            return;
        };
        if !*shared.closing.borrow() {
            // Dropping does not wait. If no thread can be started, both threads still end, and leases expire
            // with their TTL.
            let close = move || drop(shared.close(CLOSE_TIMEOUT));
            let _ = std::thread::Builder::new()
                .name("discover-close".to_owned())
                .spawn(close);
        }
    }
}

/// Registration held by a binding. Dropping it unregisters the instance. The lease is the first field, so it
/// is dropped first.
pub struct LeaseHandle(ForkGuard<(Arc<Lease>, Arc<EngineState>)>);

impl LeaseHandle {
    /// Sends a heartbeat.
    pub fn heartbeat(&self) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.heartbeat().await }.boxed())
    }

    /// Replaces all attributes.
    pub fn update(&self, attributes: Attributes) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.update(attributes).await }.boxed())
    }

    /// Unregisters the instance. Repeating this succeeds.
    pub fn unregister(&self) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.unregister().await }.boxed())
    }

    /// Returns the instance as others see it, except for `created`, which is 0. Its attributes include those
    /// adopted from the shared attributes of the service.
    pub fn instance(&self) -> Result<Arc<Instance>> {
        let (lease, _) = self.0.get()?;
        let mut now = lease.registration().clone();
        now.attributes = lease.attributes();
        Ok(Arc::new(now.instance(0)))
    }

    /// Returns the standing of the lease.
    pub fn standing(&self) -> Result<Standing> {
        Ok(self.0.get()?.0.standing())
    }

    /// Calls `callback` with the current standing and then with each change, as [`Engine::on_connection`]
    /// does, and also when shared attributes were adopted. `Released` is the last call, unless the client is
    /// closed first.
    pub fn on_standing(
        &self,
        callback: impl FnMut(Standing) + Send + 'static,
    ) -> Result<Subscription> {
        let (lease, shared) = self.0.get()?;
        Subscription::to_states(shared.clone(), lease.changes(), callback)
    }

    /// Returns the instance id.
    pub fn id(&self) -> String {
        self.0.peek().0.registration().instance_id()
    }

    /// Returns the address of the instance.
    pub fn address(&self) -> String {
        self.0.peek().0.registration().address()
    }

    /// Returns the service name.
    pub fn service(&self) -> &ServiceName {
        self.0.peek().0.registration().service()
    }

    fn pending(
        &self,
        work: impl FnOnce(Arc<Lease>) -> futures_util::future::BoxFuture<'static, Result<()>>,
    ) -> Result<Pending<()>> {
        let (lease, shared) = self.0.get()?;
        Ok(Pending {
            shared: shared.clone(),
            work: work(lease.clone()),
        })
    }
}

/// Live set held by a binding. Reads access memory only and also work after the client is closed. In a forked
/// child they fail with `Forked`, because nothing changes the set there; only the name of the service is readable.
pub struct SetHandle(ForkGuard<(Arc<EngineState>, ServiceSet)>);

impl SetHandle {
    #[inline]
    fn set(&self) -> Result<&ServiceSet> {
        self.0.get().map(|(_, set)| set)
    }

    /// Returns the service name.
    pub fn service(&self) -> &ServiceName {
        self.0.peek().1.service()
    }

    /// Returns the current snapshot.
    #[inline]
    pub fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.set().map(ServiceSet::snapshot)
    }

    /// Returns true if `snapshot`, which is of this set, is the newest. Cheaper than reading the current
    /// snapshot. Returns false in a forked child.
    pub fn is_newest(&self, snapshot: &Snapshot) -> bool {
        self.set().is_ok_and(|set| set.is_newest(snapshot))
    }

    /// Returns the state of the set.
    pub fn status(&self) -> Result<Status> {
        self.set().map(ServiceSet::status)
    }

    /// Picks an online instance, or none if there is no candidate.
    #[inline]
    pub fn pick(&self, policy: Policy<'_>) -> Result<Option<Arc<Instance>>> {
        Ok(self.set()?.pick(policy))
    }

    /// Picks an online instance as an index into the online instances of `snapshot`, which is of this set.
    pub fn choose(&self, snapshot: &Snapshot, policy: Policy<'_>) -> Result<Option<usize>> {
        Ok(self.set()?.choose(snapshot, policy))
    }

    /// Records that a call to an instance picked by `p2c` has ended.
    pub fn done(&self, instance: &Instance) -> Result<()> {
        self.set()?.done(instance);
        Ok(())
    }

    /// Returns the set of the instances that have these attributes and tags.
    pub fn filter(&self, attributes: Attributes, tags: Vec<String>) -> Result<SetHandle> {
        let (shared, set) = self.0.get()?;
        Ok(SetHandle(ForkGuard::new((
            shared.clone(),
            set.filter(attributes, tags),
        ))))
    }

    /// Waits until at least `count` instances are online and returns the snapshot.
    pub fn wait(&self, count: usize, timeout: Duration) -> Result<Pending<Arc<Snapshot>>> {
        let (shared, set) = self.0.get()?;
        let set = set.clone();
        let work = async move {
            set.wait(count, timeout).await?;
            Ok(set.snapshot())
        };
        Ok(Pending {
            shared: shared.clone(),
            work: work.boxed(),
        })
    }

    /// Delivers each event to `sink` on the callback thread. The sink is dropped there after its last event;
    /// if this fails, it is dropped before this returns.
    pub fn subscribe(&self, sink: Box<dyn Sink>) -> Result<Subscription> {
        let (shared, set) = self.0.get()?;
        Subscription::new(shared.clone(), set, sink)
    }

    /// Creates a feed that calls `waker` on the callback thread when there are events to drain.
    pub fn feed(&self, waker: Box<dyn Waker>) -> Result<Feed> {
        let (shared, set) = self.0.get()?;
        Feed::new(shared.clone(), set, waker)
    }

    /// Creates a feed that calls `wake` on the runtime thread when there are events to drain, for programs
    /// that forward the wake-up to a thread of their own.
    ///
    /// `wake` must not block, run foreign code, or use the engine or anything created by it. After the client
    /// is closed, the feed returns the last known state and wakes no more.
    pub fn feed_with_wake_fn(&self, wake: impl Fn() + Send + Sync + 'static) -> Result<Feed> {
        let (shared, set) = self.0.get()?;
        Ok(Feed::with_wake_fn(shared.clone(), set, wake))
    }
}
