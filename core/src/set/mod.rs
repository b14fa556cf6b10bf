//! Live local copies of services. Reads never wait; one task per service writes.

mod cursor;
mod diff;
mod event;
mod filter;
mod notifier;
mod resubscribe;
mod select;
mod snapshot;
mod status;
mod watched_service;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::Guard;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Instance, ServiceName};
use filter::Filter;

pub use cursor::Cursor;
pub use event::Event;
pub(crate) use notifier::WakeFn;
pub use select::Policy;
pub use snapshot::{OfflineInstance, OfflineReason, Snapshot};
pub use status::{Fault, SetState, Status};
pub(crate) use watched_service::WatchedService;

/// Live set of the instances of one service, or of those that match a filter.
///
/// Reads access memory only and never wait. Clones are cheap and share one watch, which lives as long as any
/// of them.
#[derive(Clone)]
pub struct ServiceSet {
    watched: Arc<WatchedService>,
    filter: Option<Arc<Filter>>,
    counter: RoundRobin,
}

/// Round-robin counter, shared by all clones of a handle. Created on first use, because most sets are only
/// read.
#[derive(Default)]
struct RoundRobin(OnceLock<Arc<AtomicUsize>>);

impl Clone for RoundRobin {
    fn clone(&self) -> RoundRobin {
        RoundRobin(self.counter().clone().into())
    }
}

impl RoundRobin {
    fn counter(&self) -> &Arc<AtomicUsize> {
        self.0.get_or_init(Arc::default)
    }
}

/// Online instances at the time of the call, oldest first. Dereferences to a slice.
pub struct Online(Guard<Arc<Snapshot>>);

impl std::ops::Deref for Online {
    type Target = [Arc<Instance>];

    fn deref(&self) -> &[Arc<Instance>] {
        self.0.online()
    }
}

impl ServiceSet {
    pub(crate) fn new(watched: Arc<WatchedService>) -> ServiceSet {
        ServiceSet {
            watched,
            filter: None,
            counter: RoundRobin::default(),
        }
    }

    /// Returns the service name.
    pub fn service(&self) -> &ServiceName {
        &self.watched.service
    }

    /// Returns the current snapshot. Wait-free, except that the first read through a filter after a change
    /// computes the filtered snapshot.
    #[inline]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match &self.filter {
            None => self.watched.cell.current.load_full(),
            Some(filter) => filter.apply(&self.watched.cell.current.load()),
        }
    }

    /// Returns true if a snapshot of this set is the newest, without loading a newer one.
    pub(crate) fn is_newest(&self, snapshot: &Snapshot) -> bool {
        self.watched.cell.version.load(Ordering::Acquire) == snapshot.version
    }

    /// Returns the online instances, oldest first, without copying.
    pub fn online(&self) -> Online {
        Online(match &self.filter {
            None => self.watched.cell.current.load(),
            Some(_) => Guard::from_inner(self.snapshot()),
        })
    }

    /// Returns the instances that recently went offline, with time and reason.
    pub fn offline(&self) -> Vec<OfflineInstance> {
        self.snapshot().offline().to_vec()
    }

    /// Returns the leader: the oldest online instance that is not suspect, or else the oldest.
    pub fn leader(&self) -> Option<Arc<Instance>> {
        self.snapshot().leader().cloned()
    }

    /// Returns the state of the set with its details.
    pub fn status(&self) -> Status {
        self.watched.cell.current.load().status()
    }

    /// Returns the set of the instances that have all these attributes, with these values, and all these
    /// tags.
    pub fn filter<K: Into<String>, V: Into<String>, T: Into<String>>(
        &self,
        attributes: impl IntoIterator<Item = (K, V)>,
        tags: impl IntoIterator<Item = T>,
    ) -> ServiceSet {
        let attributes = attributes.into_iter().map(|(k, v)| (k.into(), v.into()));
        let tags = tags.into_iter().map(Into::into);
        let filter = Filter::new(self.filter.as_deref(), attributes, tags);
        ServiceSet {
            watched: self.watched.clone(),
            filter: Some(Arc::new(filter)),
            counter: RoundRobin::default(),
        }
    }

    /// Picks a candidate, or none if there is no candidate.
    pub fn pick(&self, policy: Policy<'_>) -> Option<Arc<Instance>> {
        match &self.filter {
            None => select::pick(
                &self.watched.cell.current.load(),
                self.counter.counter(),
                policy,
            ),
            Some(_) => select::pick(&self.snapshot(), self.counter.counter(), policy),
        }
    }

    /// Picks a candidate as an index into the online instances of a snapshot of this set, or none if there is
    /// no candidate.
    pub(crate) fn choose(&self, snapshot: &Snapshot, policy: Policy<'_>) -> Option<usize> {
        let at = select::choose(snapshot, self.counter.counter(), policy)?;
        snapshot.online_index(at)
    }

    /// Records that a call to an instance picked by [`Policy::P2c`] has ended.
    pub fn done(&self, instance: &Instance) {
        instance.load().end();
    }

    /// Waits until at least `count` instances are online and returns them. A count of 0 waits for the first
    /// view.
    ///
    /// # Errors
    ///
    /// `Timeout`, with the fault of the set as its cause if there is one; `Closed` if the client is closed.
    pub async fn wait(&self, count: usize, timeout: Duration) -> Result<Vec<Arc<Instance>>> {
        let enough = async {
            let notifier = &self.watched.cell.notifier;
            loop {
                // Subscribe first, then read: a change in between wakes this call.
                let (changed, closed) = (notifier.next_change(), notifier.is_closed());
                let now = self.snapshot();
                // An empty set counts only once a view was received.
                if now.is_ready() && now.online().len() >= count {
                    return Ok(now.online().to_vec());
                }
                if closed {
                    return Err(Error::new(ErrorKind::Closed, "the client was closed"));
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, enough)
            .await
            .unwrap_or_else(|_| Err(self.wait_timeout_error(count, timeout)))
    }

    fn wait_timeout_error(&self, count: usize, timeout: Duration) -> Error {
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

    /// Returns the full state as events, then `current`, then each change. Ends when the client is closed.
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

    /// Returns a cursor, which the caller drains.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }

    /// Returns a cursor that starts at `seen`, a snapshot of this set, and reports the differences since.
    pub fn cursor_from(&self, seen: Arc<Snapshot>) -> Cursor {
        Cursor::from(self.clone(), seen)
    }

    /// Waits for a version other than `reported` and returns it; returns none once the client is closed.
    async fn next_version(&self, reported: Option<u64>) -> Option<u64> {
        let cell = &self.watched.cell;
        loop {
            let changed = cell.notifier.next_change();
            if cell.notifier.is_closed() {
                return None;
            }
            // Version of the readable snapshot; the atomic version runs ahead of it.
            let version = Some(cell.current.load().version);
            if version != reported {
                return version;
            }
            changed.await;
        }
    }

    /// Calls `wake` at each change until `remove_wake_fn` is called with the returned number.
    pub(crate) fn add_wake_fn(&self, wake: WakeFn) -> u64 {
        self.watched.cell.notifier.add_wake_fn(wake)
    }

    pub(crate) fn remove_wake_fn(&self, number: u64) {
        self.watched.cell.notifier.remove_wake_fn(number);
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
    async fn clones_share_their_turn_and_other_handles_have_their_own() {
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
