//! The live, local view of one service. Readers never wait; there is one writer.

mod cursor;
mod event;
mod filter;
mod notifier;
mod resubscribe;
mod select;
mod snapshot;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::task::AbortHandle;

use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Instance, ServiceName, View};
use crate::set::resubscribe::{Signal, recover};
use filter::Filter;
use notifier::ChangeNotifier;

pub use cursor::Cursor;
pub use event::Event;
pub(crate) use notifier::WakeFn;
pub use select::Policy;
pub use snapshot::{Fault, OfflineInstance, OfflineReason, Snapshot};

/// The live set of the instances of one service, or of those that match a filter.
///
/// Reading it never asks the network and never waits. Cheap to clone; the watch behind it lives as
/// long as any clone does.
#[derive(Clone)]
pub struct ServiceSet {
    core: Arc<WatchedService>,
    filter: Option<Arc<Filter>>,
    turn: RoundRobin,
}

/// Whose turn it is, for all clones of a handle. Made by who first asks: most who ask for a set by its
/// name only read it.
#[derive(Default)]
struct RoundRobin(OnceLock<Arc<AtomicUsize>>);

impl Clone for RoundRobin {
    fn clone(&self) -> RoundRobin {
        RoundRobin(self.of_all().clone().into())
    }
}

impl RoundRobin {
    fn of_all(&self) -> &Arc<AtomicUsize> {
        self.0.get_or_init(Arc::default)
    }
}

/// The one watched set of a service, shared by all its handles.
pub(crate) struct WatchedService {
    service: ServiceName,
    slot: Arc<SnapshotCell>,
    watch: AbortHandle,
}

/// Where the writer puts what readers read.
struct SnapshotCell {
    /// For log records.
    service: ServiceName,
    current: ArcSwap<Snapshot>,
    /// Of what is current, or about to be: whoever has seen a snapshot finds no older version here.
    version: AtomicU64,
    pulse: ChangeNotifier,
}

/// Those online at the moment of asking: a slice of instances, oldest first.
pub struct Online(Guard<Arc<Snapshot>>);

impl std::ops::Deref for Online {
    type Target = [Arc<Instance>];

    fn deref(&self) -> &[Arc<Instance>] {
        self.0.online()
    }
}

/// How fresh a set is.
#[derive(Clone, Debug)]
pub struct Status {
    /// `pending` before the first view, then `current` or `stale`.
    pub state: State,
    /// Why it is not current, and since when.
    pub fault: Option<Fault>,
    /// Grows with each change.
    pub version: u64,
    /// Which history of the store the revision belongs to; see [`Snapshot::epoch`].
    pub epoch: u64,
    /// The store's revision.
    pub revision: u64,
    /// How many records of the service cannot be read.
    pub invalid: usize,
}

/// How fresh a set is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing received yet.
    Pending,
    /// As the store has it.
    Current,
    /// The store is lost; this is how it was.
    Stale,
}

impl State {
    /// `pending`, `current` or `stale`.
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Current => "current",
            State::Stale => "stale",
        }
    }
}

impl WatchedService {
    /// Starts watching a service. Must be called on a tokio runtime.
    pub(crate) fn watch(
        backend: Arc<dyn Backend>,
        service: ServiceName,
        cache: Option<Cache>,
    ) -> WatchedService {
        let slot = Arc::new(SnapshotCell {
            service: service.clone(),
            current: ArcSwap::from_pointee(Snapshot::empty()),
            version: AtomicU64::new(0),
            pulse: ChangeNotifier::default(),
        });
        let (writer, followed) = (slot.clone(), service.clone());
        let follow = async move {
            let service = followed.clone();
            let open = move |last| backend.subscribe(&followed, last);
            let mut signals = std::pin::pin!(recover(open, Backoff::default()));
            let kept = cache.as_ref().map(|cache| cache.start_writer(&service));
            while let Some(signal) = signals.next().await {
                match (&signal, &cache, &kept) {
                    (Signal::Lost(error), Some(cache), _) if !writer.is_ready() => {
                        if let Some((view, at)) = cache.load(&service).await {
                            writer.publish_cached(view, at, error);
                        }
                    }
                    (Signal::View(view), _, Some(kept)) => {
                        drop(kept.send_replace(Some(view.clone())))
                    }
                    _ => {}
                }
                writer.publish(signal);
            }
        };
        WatchedService {
            service,
            slot,
            watch: tokio::spawn(follow).abort_handle(),
        }
    }

    /// Ends the watch for good and wakes all who wait.
    pub(crate) fn close(&self) {
        self.watch.abort();
        self.slot.pulse.close();
    }
}

impl Drop for WatchedService {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl SnapshotCell {
    fn is_ready(&self) -> bool {
        self.current.load().is_ready()
    }

    /// Begins with what was kept from an earlier time, before the store could be read.
    fn publish_cached(&self, view: View, at: SystemTime, error: &Error) {
        let fault = Fault {
            error: error.clone(),
            since: at,
        };
        tracing::warn!(
            service = %self.service,
            error = %error.report(),
            instances = view.instances.len(),
            "store unavailable, using the instances of the cache file"
        );
        self.put(self.current.load().with_cached(view, fault));
    }

    fn put(&self, next: Snapshot) {
        self.version.store(next.version, Ordering::Release);
        self.current.store(Arc::new(next));
        self.pulse.beat();
    }

    /// The one writer.
    fn publish(&self, signal: Signal) {
        let old = self.current.load();
        let now = SystemTime::now();
        let next = match signal {
            Signal::View(view) => {
                if old.fault.is_some() {
                    tracing::info!(service = %self.service, "watch restored");
                }
                old.with_view(view, now)
            }
            Signal::Lost(error) => {
                if old.fault.is_none() {
                    tracing::warn!(service = %self.service, error = %error.report(), "watch lost, reconnecting");
                }
                old.with_fault(error, now)
            }
        };
        self.put(next);
    }
}

impl ServiceSet {
    pub(crate) fn new(core: Arc<WatchedService>) -> ServiceSet {
        ServiceSet {
            core,
            filter: None,
            turn: RoundRobin::default(),
        }
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.core.service
    }

    /// What the set is now. Wait-free but for the first look through a filter after a change.
    #[inline]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match &self.filter {
            None => self.core.slot.current.load_full(),
            Some(filter) => filter.narrow(&self.core.slot.current.load()),
        }
    }

    /// Whether a snapshot of this set is the newest, without a look at what is newer.
    pub(crate) fn is_newest(&self, snapshot: &Snapshot) -> bool {
        self.core.slot.version.load(Ordering::Acquire) == snapshot.version
    }

    /// Those online, oldest first, as of now. Nothing is copied.
    pub fn online(&self) -> Online {
        Online(match &self.filter {
            None => self.core.slot.current.load(),
            Some(_) => Guard::from_inner(self.snapshot()),
        })
    }

    /// Those recently gone, with when and how.
    pub fn offline(&self) -> Vec<OfflineInstance> {
        self.snapshot().offline().to_vec()
    }

    /// The oldest instance online.
    pub fn leader(&self) -> Option<Arc<Instance>> {
        self.snapshot().leader().cloned()
    }

    /// How fresh the set is.
    pub fn status(&self) -> Status {
        self.core.slot.current.load().status()
    }

    /// The set of those that have all these attributes, with these values, and all these tags.
    pub fn filter<K: Into<String>, V: Into<String>, T: Into<String>>(
        &self,
        attributes: impl IntoIterator<Item = (K, V)>,
        tags: impl IntoIterator<Item = T>,
    ) -> ServiceSet {
        let attributes = attributes.into_iter().map(|(k, v)| (k.into(), v.into()));
        let tags = tags.into_iter().map(Into::into);
        let filter = Filter::new(self.filter.as_deref(), attributes, tags);
        ServiceSet {
            core: self.core.clone(),
            filter: Some(Arc::new(filter)),
            turn: RoundRobin::default(),
        }
    }

    /// One of those online, or none if there is none.
    pub fn pick(&self, policy: Policy<'_>) -> Option<Arc<Instance>> {
        match &self.filter {
            None => select::pick(&self.core.slot.current.load(), self.turn.of_all(), policy),
            Some(_) => select::pick(&self.snapshot(), self.turn.of_all(), policy),
        }
    }

    /// The place of one among those online in a snapshot of this set, or none if there is none.
    pub(crate) fn choose(&self, snapshot: &Snapshot, policy: Policy<'_>) -> Option<usize> {
        let at = select::choose(snapshot, self.turn.of_all(), policy)?;
        snapshot.place(at)
    }

    /// Says that a call to an instance picked by [`Policy::P2c`] is over.
    pub fn done(&self, instance: &Instance) {
        instance.load().end();
    }

    /// Waits until at least `count` are online, and gives them.
    pub async fn wait(&self, count: usize, timeout: Duration) -> Result<Vec<Arc<Instance>>> {
        let enough = async {
            let pulse = &self.core.slot.pulse;
            loop {
                // First these, then the look: what comes in between wakes us.
                let (beat, closed) = (pulse.next(), pulse.is_closed());
                let now = self.snapshot();
                // Even none must be known, not just not yet heard.
                if now.is_ready() && now.online().len() >= count {
                    return Ok(now.online().to_vec());
                }
                if closed {
                    return Err(Error::new(ErrorKind::Closed, "the client was closed"));
                }
                beat.await;
            }
        };
        tokio::time::timeout(timeout, enough)
            .await
            .unwrap_or_else(|_| Err(self.too_few(count, timeout)))
    }

    fn too_few(&self, count: usize, timeout: Duration) -> Error {
        let now = self.snapshot();
        let service = self.service();
        let online = now.online().len();
        let text =
            format!("{online} of {count} instances of {service} were online after {timeout:?}");
        match now.fault() {
            Some(fault) => Error::caused_by(ErrorKind::Timeout, text, fault.error.clone()),
            None => Error::new(ErrorKind::Timeout, text),
        }
    }

    /// The whole state as events, then each change; ends when the client is closed.
    pub fn subscribe(&self) -> BoxStream<'static, Event> {
        let start = (self.cursor(), VecDeque::new());
        stream::unfold(start, |(mut cursor, mut waiting)| async move {
            loop {
                if let Some(event) = waiting.pop_front() {
                    return Some((event, (cursor, waiting)));
                }
                if !cursor.changed().await {
                    return None;
                }
                waiting.extend(cursor.drain());
            }
        })
        .boxed()
    }

    /// A listener of one's own, to be drained by hand.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }

    /// A listener that was told up to `seen`, a snapshot of this set, and hears what differs since.
    pub fn cursor_from(&self, seen: Arc<Snapshot>) -> Cursor {
        Cursor::from(self.clone(), seen)
    }

    /// Waits for a version that is not this one, and gives it; none once the client is closed.
    async fn after(&self, told: Option<u64>) -> Option<u64> {
        let slot = &self.core.slot;
        loop {
            let beat = slot.pulse.next();
            if slot.pulse.is_closed() {
                return None;
            }
            // Of what can be read; the other number runs ahead of it.
            let version = Some(slot.current.load().version);
            if version != told {
                return version;
            }
            beat.await;
        }
    }

    /// Posts at each change from now on, until the post of this number is ended.
    pub(crate) fn post(&self, post: WakeFn) -> u64 {
        self.core.slot.pulse.post(post)
    }

    pub(crate) fn end_post(&self, number: u64) {
        self.core.slot.pulse.end_post(number);
    }
}

impl fmt::Debug for ServiceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ServiceSet({}, {} online)",
            self.service(),
            self.snapshot().online().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Registration};

    #[tokio::test]
    async fn clones_take_turns_together_and_each_other_handle_for_itself() {
        let client = Client::connect("memory://turns").await.unwrap();
        let mut leases = Vec::new();
        for port in 1..=3 {
            let registration = Registration::new("web", port).unwrap();
            leases.push(client.register(registration).await.unwrap());
        }
        let set = client.services("web").unwrap();
        set.wait(3, Duration::from_secs(30)).await.unwrap();
        let pick = |set: &ServiceSet| set.pick(Policy::RoundRobin).unwrap().port();
        let clone = set.clone();
        assert_eq!([pick(&set), pick(&clone), pick(&set)], [1, 2, 3]);
        assert_eq!([pick(&clone), pick(&set)], [1, 2]);
        assert_eq!(pick(&client.services("web").unwrap()), 1);
    }
}
