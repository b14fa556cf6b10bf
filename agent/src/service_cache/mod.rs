//! Cache of watched services: one watch for each service, shared by all clients of the agent and kept open
//! for a while after its last use.

pub mod catalog_cache;
pub mod component;
pub mod history;
pub mod sightings;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use discover_core::{Client, Cursor, Instance, Result, ServiceName, ServiceSet, Snapshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits, QuotaPermit};
use history::{History, MAX_STATE_BYTES, SetId};
use sightings::{Sighting, Sightings};

/// Time for which an unused set stays open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum size of the histories of all services, in bytes. Beyond it, a service that changes retains only its newest
/// state.
const MAX_HISTORY_BYTES: usize = 64 * 1024 * 1024;

/// A watched service with its recent states.
pub struct CachedService {
    /// The set of instances.
    pub set: ServiceSet,
    set_id: SetId,
    /// Counts the service for the client that it was opened for. `None` for the agent itself.
    permit: Option<QuotaPermit>,
    history: Mutex<History<Snapshot, Bytes>>,
    /// Sum of the bytes of all histories of the cache.
    history_bytes: Arc<AtomicUsize>,
    /// Last state that was encoded as a document, with its text while clients read it.
    document: Mutex<(Weak<Snapshot>, Weak<String>)>,
    sightings: SharedSightings,
    /// The task that records when instances come online.
    sightings_task: AbortHandle,
    start: Instant,
    /// Last use, in milliseconds since the start of the cache.
    last_used_ms: AtomicU64,
}

type SharedSightings = Arc<Mutex<Sightings>>;

impl CachedService {
    /// Returns the index of a state, which clients treat as opaque.
    pub fn index(&self, snapshot: &Snapshot) -> String {
        self.set_id.index(snapshot.version())
    }

    /// Returns the state with this index while it is retained.
    pub fn state_at(&self, index: &str) -> Option<Arc<Snapshot>> {
        let version = self.set_id.version(index)?;
        self.history().state_at(version)
    }

    /// Returns the encoded transition from version `from` (`None`: all instances) to the state `now`, and
    /// that state. Uses the transition that another client received; else calls `encode`, which may return a
    /// newer state.
    pub fn transition(
        &self,
        from: Option<u64>,
        now: Arc<Snapshot>,
        encode: impl FnOnce() -> (Bytes, Arc<Snapshot>),
    ) -> (Bytes, Arc<Snapshot>) {
        if let Some(known) = self.history().transition(from, now.version()) {
            return known;
        }
        // Not under the lock: encoding a large set takes long.
        let (text, state) = encode();
        let at = self.start.elapsed();
        let max_bytes = match self.history_bytes.load(Ordering::Relaxed) < MAX_HISTORY_BYTES {
            true => MAX_STATE_BYTES,
            false => 0,
        };
        self.change_history(|history| {
            history.record(from, state.version(), &state, &text, at, max_bytes);
        });
        (text, state)
    }

    /// Returns the document of a state. Uses the one that other clients are reading now; else calls `encode`.
    pub fn document(&self, now: &Arc<Snapshot>, encode: impl FnOnce() -> String) -> Bytes {
        let known = {
            let last = self.last_document();
            let is_same = last
                .0
                .upgrade()
                .is_some_and(|state| Arc::ptr_eq(&state, now));
            last.1.upgrade().filter(|_| is_same)
        };
        // Not under the lock: encoding a large set takes long.
        let text = known.unwrap_or_else(|| Arc::new(encode()));
        *self.last_document() = (Arc::downgrade(now), Arc::downgrade(&text));
        Bytes::from_owner(SharedText(text))
    }

    /// Returns when the agent first saw an online instance of this service.
    pub fn sighting(&self, instance: &Instance) -> Sighting {
        lock(&self.sightings).get_or_record(instance, SystemTime::now())
    }

    fn last_document(&self) -> MutexGuard<'_, (Weak<Snapshot>, Weak<String>)> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the history, and counts its bytes.
    fn change_history(&self, change: impl FnOnce(&mut History<Snapshot, Bytes>)) {
        let mut history = self.history();
        let before = history.bytes();
        change(&mut history);
        let total = &self.history_bytes;
        total.fetch_add(history.bytes(), Ordering::Relaxed);
        total.fetch_sub(before, Ordering::Relaxed);
    }

    fn history(&self) -> MutexGuard<'_, History<Snapshot, Bytes>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CachedService {
    fn drop(&mut self) {
        let bytes = self.history().bytes();
        self.history_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.sightings_task.abort();
    }
}

fn lock(sightings: &SharedSightings) -> MutexGuard<'_, Sightings> {
    sightings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records when instances come online and go offline, until the set is closed.
async fn record_sightings(sightings: SharedSightings, mut cursor: Cursor) {
    while cursor.changed().await {
        let events = cursor.drain();
        let is_ready = cursor.seen().is_ready();
        lock(&sightings).apply(&events, is_ready, SystemTime::now());
    }
}

/// A text that several responses share.
struct SharedText(Arc<String>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Watched services, by name.
pub struct ServiceCache {
    client: Client,
    boot: String,
    quota: Arc<Quota>,
    start: Instant,
    opened_count: AtomicU64,
    history_bytes: Arc<AtomicUsize>,
    services: Mutex<WatchedServices>,
}

type WatchedServices = HashMap<ServiceName, Arc<CachedService>>;

impl ServiceCache {
    /// Creates a cache of at most `max_services` sets, half of them for one client. The caller spawns [`ServiceCache::close_idle`].
    pub fn new(client: Client, boot: String, max_services: usize) -> Arc<ServiceCache> {
        let limits = QuotaLimits {
            count: Some((max_services, Some("services"))),
            bytes: None,
        };
        Arc::new(ServiceCache {
            client,
            boot,
            quota: Quota::new("watched services", limits),
            start: Instant::now(),
            opened_count: AtomicU64::new(0),
            history_bytes: Arc::default(),
            services: Mutex::default(),
        })
    }

    /// Returns a watched service, and starts to watch it for `peer` if necessary. If a limit is reached, closes an
    /// unused set instead, first of those without instances. Call this on a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`](discover_core::ErrorKind::Resource) if the limit is reached and all sets
    /// are in use.
    pub fn open(&self, service: &ServiceName, peer: Option<Peer>) -> Result<Arc<CachedService>> {
        let mut all = self.services();
        if let Some(cached) = all.get(service) {
            cached.last_used_ms.store(self.now(), Ordering::Relaxed);
            return Ok(cached.clone());
        }
        let permit = peer.map(|peer| self.admit(&mut all, peer)).transpose()?;
        let set = self.client.services(service.as_str())?;
        let sightings = SharedSightings::default();
        let record = record_sightings(sightings.clone(), set.cursor());
        let number = self.opened_count.fetch_add(1, Ordering::Relaxed);
        let cached = Arc::new(CachedService {
            set,
            set_id: SetId::new(&self.boot, number),
            permit,
            history: Mutex::default(),
            history_bytes: self.history_bytes.clone(),
            document: Mutex::default(),
            sightings,
            sightings_task: tokio::spawn(record).abort_handle(),
            start: self.start,
            last_used_ms: AtomicU64::new(self.now()),
        });
        all.insert(service.clone(), cached.clone());
        Ok(cached)
    }

    /// Returns a service if it is watched.
    pub fn get(&self, service: &ServiceName) -> Option<Arc<CachedService>> {
        self.services().get(service).cloned()
    }

    /// Returns the services that are watched, with their sets.
    pub fn watched(&self) -> Vec<(ServiceName, ServiceSet)> {
        let service = self.services();
        let sets = service.iter();
        sets.map(|(name, service)| (name.clone(), service.set.clone()))
            .collect()
    }

    /// Returns the number of watched services.
    pub fn len(&self) -> usize {
        self.services().len()
    }

    /// Returns true if no service is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes unused sets and removes expired states, until cancelled.
    pub async fn close_idle(self: Arc<ServiceCache>) {
        loop {
            sleep(IDLE_TIMEOUT / 4).await;
            let oldest = self.now().saturating_sub(IDLE_TIMEOUT.as_millis() as u64);
            self.services().retain(|_, service| {
                let now = self.start.elapsed();
                service.change_history(|history| history.remove_expired(now));
                Arc::strong_count(service) > 1
                    || service.last_used_ms.load(Ordering::Relaxed) >= oldest
            });
        }
    }

    /// Counts a set for a client. At a limit, closes an unused set of that client, or of another one.
    fn admit(&self, all: &mut WatchedServices, peer: Peer) -> Result<QuotaPermit> {
        let of_peer = |cached: &CachedService| {
            let permit = cached.permit.as_ref();
            permit.is_some_and(|permit| permit.peer() == peer.limit_key())
        };
        let refused = match self.quota.admit(peer, 0, None) {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        for is_candidate in [&of_peer as &dyn Fn(&CachedService) -> bool, &|_| true] {
            let unused = all.iter().filter(|(_, cached)| {
                Arc::strong_count(cached) == 1 && cached.permit.is_some() && is_candidate(cached)
            });
            let rank = |cached: &CachedService| {
                let has_instances = !cached.set.snapshot().online().is_empty();
                (has_instances, cached.last_used_ms.load(Ordering::Relaxed))
            };
            let victim = unused.min_by_key(|(_, cached)| rank(cached));
            if let Some(name) = victim.map(|(name, _)| name.clone()) {
                all.remove(&name);
                if let Ok(permit) = self.quota.admit(peer, 0, None) {
                    return Ok(permit);
                }
            }
        }
        Err(refused)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn services(&self) -> MutexGuard<'_, WatchedServices> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
