//! The engine: a client with a runtime and a dispatch thread of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::client::Client;
use crate::embed::CLOSE_TIMEOUT;
use crate::embed::dispatch::{Bell, Sink};
use crate::embed::engine_state::EngineState;
use crate::embed::feed::{Feed, Subscription};
use crate::embed::fork_guard::ForkGuard;
use crate::embed::pending::Pending;
use crate::error::Result;
use crate::lease::{Lease, Standing};
use crate::model::{Attributes, ConnectionState, Instance, Metrics, Registration, ServiceName};
use crate::set::{Policy, ServiceSet, Snapshot, Status};

/// A client for other languages. Closed when dropped, without waiting.
pub struct Engine(ForkGuard<Arc<EngineState>>);

impl Engine {
    /// Starts the threads; waiting for the result connects. Without a URL, `DISCOVER_URL` counts, else
    /// `local://`.
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

    /// Where the registry is, secrets hidden.
    pub fn url(&self) -> Result<String> {
        Ok(self.0.get()?.client()?.uri().to_string())
    }

    /// Registers an instance and keeps it alive until the lease is released or dropped. Tries for
    /// `timeout`, or for the client's `connect_timeout` when none is given.
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

    /// The live set of a service. Does not wait; the set says whether it is current yet.
    pub fn services(&self, service: &str) -> Result<SetHandle> {
        let shared = self.0.get()?.clone();
        let client = shared.client()?;
        // Watching starts a task, so the runtime must be known.
        let _entered = shared.handle.enter();
        let set = client.services(service)?;
        drop(_entered);
        Ok(SetHandle(ForkGuard::new((shared, set))))
    }

    /// What the client has been through; still to be read when it is closed.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(self.0.get()?.opened()?.metrics())
    }

    /// How the connection to the store fares.
    pub fn connection(&self) -> Result<ConnectionState> {
        Ok(self.0.get()?.client()?.connection())
    }

    /// Has `tell` called, on the dispatch thread, with how the connection fares now and then with each
    /// change, latest wins. It is dropped there, after its last call; or, when this fails, before it
    /// returns.
    pub fn on_connection(
        &self,
        tell: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        let shared = self.0.get()?.clone();
        let changes = shared.client()?.connection_changes();
        Subscription::to_states(shared, changes, tell)
    }

    /// For who waits in a way of its own: `busy` inside a callback, `forked` in a child.
    pub fn check_may_wait(&self) -> Result<()> {
        self.0.get()?.dispatch.check_may_wait()
    }

    /// Releases leases, ends calls under way, waits for callbacks and drops all listeners, ends both
    /// threads; each step within `timeout`. `busy`, and still open, inside a callback. Closing again
    /// is no error; closing at the same time waits for the first.
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
            // Whoever drops does not wait. Without a thread to wait instead, the threads end all the
            // same, and leases with their time to live.
            let close = move || drop(shared.close(CLOSE_TIMEOUT));
            let _ = std::thread::Builder::new()
                .name("discover-close".to_owned())
                .spawn(close);
        }
    }
}

/// A registration. Unregisters when dropped.
/// The lease comes first, so that it goes first.
pub struct LeaseHandle(ForkGuard<(Arc<Lease>, Arc<EngineState>)>);

impl LeaseHandle {
    /// Says "I am alive" now.
    pub fn heartbeat(&self) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.heartbeat().await }.boxed())
    }

    /// Replaces all attributes.
    pub fn update(&self, attributes: Attributes) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.update(attributes).await }.boxed())
    }

    /// Takes the instance away. Doing it again is no error.
    pub fn unregister(&self) -> Result<Pending<()>> {
        self.pending(|lease| async move { lease.unregister().await }.boxed())
    }

    /// What others see, but for when it came online: the attributes may have been taken over from what
    /// its service says to all.
    pub fn instance(&self) -> Result<Arc<Instance>> {
        let (lease, _) = self.0.get()?;
        let mut now = lease.registration().clone();
        now.attributes = lease.attributes();
        Ok(Arc::new(now.instance(0)))
    }

    /// How it stands.
    pub fn standing(&self) -> Result<Standing> {
        Ok(self.0.get()?.0.standing())
    }

    /// Has `tell` called with how it stands now and then with each change, as [`Engine::on_connection`]
    /// does, and when other attributes were taken over; `Released` is the last, unless the client is closed.
    pub fn on_standing(&self, tell: impl FnMut(Standing) + Send + 'static) -> Result<Subscription> {
        let (lease, shared) = self.0.get()?;
        Subscription::to_states(shared.clone(), lease.changes(), tell)
    }

    /// The id under which others see it.
    pub fn id(&self) -> String {
        self.0.peek().0.registration().instance_id()
    }

    /// The address under which others see it.
    pub fn address(&self) -> String {
        self.0.peek().0.registration().address()
    }

    /// The service.
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

/// A live set. Reads are of memory only, and go on after the client is closed. In a forked child the
/// set is pending and empty: its parent's may have been in the middle of a change.
pub struct SetHandle(ForkGuard<(Arc<EngineState>, ServiceSet)>);

impl SetHandle {
    /// The set, unless it is the parent's.
    #[inline]
    fn set(&self) -> Option<&ServiceSet> {
        self.0.get().ok().map(|(_, set)| set)
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        self.0.peek().1.service()
    }

    /// What the set is now.
    #[inline]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.set()
            .map_or_else(|| Arc::new(Snapshot::empty()), ServiceSet::snapshot)
    }

    /// Whether `snapshot`, one of this set, is what it is now. Costs less than a look at what it is.
    pub fn is_newest(&self, snapshot: &Snapshot) -> bool {
        self.set().is_some_and(|set| set.is_newest(snapshot))
    }

    /// How fresh it is.
    pub fn status(&self) -> Status {
        self.set()
            .map_or_else(|| Snapshot::empty().status(), ServiceSet::status)
    }

    /// One of those online, or none.
    #[inline]
    pub fn pick(&self, policy: Policy<'_>) -> Option<Arc<Instance>> {
        self.set()?.pick(policy)
    }

    /// The same as a place among those online of `snapshot`, which is one of this set.
    pub fn choose(&self, snapshot: &Snapshot, policy: Policy<'_>) -> Option<usize> {
        self.set()?.choose(snapshot, policy)
    }

    /// Says that a call to an instance picked by `p2c` is over.
    pub fn done(&self, instance: &Instance) {
        if let Some(set) = self.set() {
            set.done(instance);
        }
    }

    /// The set of those that match.
    pub fn filter(&self, attributes: Attributes, tags: Vec<String>) -> Result<SetHandle> {
        let (shared, set) = self.0.get()?;
        Ok(SetHandle(ForkGuard::new((
            shared.clone(),
            set.filter(attributes, tags),
        ))))
    }

    /// Waits until at least `count` are online, and gives the snapshot.
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

    /// Has each event handed to `sink`, on the dispatch thread. The sink is dropped there, after its
    /// last event; or, when this fails, before it returns.
    pub fn subscribe(&self, sink: Box<dyn Sink>) -> Result<Subscription> {
        let (shared, set) = self.0.get()?;
        Subscription::new(shared.clone(), set, sink)
    }

    /// Has `bell` rung when there is something to drain.
    pub fn feed(&self, bell: Box<dyn Bell>) -> Result<Feed> {
        let (shared, set) = self.0.get()?;
        Feed::new(shared.clone(), set, bell)
    }

    /// The same for a program with a thread of its own that is told by a message: `post` is called on the
    /// engine's thread, from which all news come. It must not wait, run foreign code, or use the engine or
    /// what came out of it. Of a closed client it gives what was known last, and rings no more.
    pub fn feed_posting(&self, post: impl Fn() + Send + Sync + 'static) -> Result<Feed> {
        let (shared, set) = self.0.get()?;
        Ok(Feed::posting(shared.clone(), set, post))
    }
}
