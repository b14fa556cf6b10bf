//! Cache of watched services: one watch for each service, shared by all clients of the agent and kept open
//! for a while after its last use.

pub mod catalog_cache;
pub mod component;
pub mod history;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use discover_core::{Client, Error, ErrorKind, Result, ServiceName, ServiceSet, Snapshot};
use tokio::time::{Instant, sleep};

use history::{History, SetId};

/// Time for which an unused set stays open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A watched service with its recent states.
pub struct CachedService {
    /// The set of instances.
    pub set: ServiceSet,
    set_id: SetId,
    history: Mutex<History<Snapshot, Bytes>>,
    start: Instant,
    /// Last use, in milliseconds since the start of the cache.
    last_used_ms: AtomicU64,
}

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
        self.history()
            .record(from, state.version(), &state, &text, at);
        (text, state)
    }

    fn history(&self) -> MutexGuard<'_, History<Snapshot, Bytes>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watched services, by name.
pub struct ServiceCache {
    client: Client,
    boot: String,
    max_services: usize,
    start: Instant,
    opened_count: AtomicU64,
    services: Mutex<HashMap<ServiceName, Arc<CachedService>>>,
}

impl ServiceCache {
    /// Creates a cache of at most `max_services` sets. The caller spawns [`ServiceCache::close_idle`].
    pub fn new(client: Client, boot: String, max_services: usize) -> Arc<ServiceCache> {
        Arc::new(ServiceCache {
            client,
            boot,
            max_services,
            start: Instant::now(),
            opened_count: AtomicU64::new(0),
            services: Mutex::default(),
        })
    }

    /// Returns a watched service, and starts to watch it if necessary. Call this on a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if the limit is reached.
    pub fn open(&self, service: &ServiceName) -> Result<Arc<CachedService>> {
        let mut all = self.services();
        if let Some(cached) = all.get(service) {
            cached.last_used_ms.store(self.now(), Ordering::Relaxed);
            return Ok(cached.clone());
        }
        if all.len() >= self.max_services {
            let max_services = self.max_services;
            let text = format!(
                "the agent already watches {max_services} services; the limit is {max_services}"
            );
            return Err(Error::new(ErrorKind::Resource, text));
        }
        let set = self.client.services(service.as_str())?;
        let number = self.opened_count.fetch_add(1, Ordering::Relaxed);
        let cached = Arc::new(CachedService {
            set,
            set_id: SetId::new(&self.boot, number),
            history: Mutex::default(),
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
                service.history().remove_expired(self.start.elapsed());
                Arc::strong_count(service) > 1
                    || service.last_used_ms.load(Ordering::Relaxed) >= oldest
            });
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn services(&self) -> MutexGuard<'_, HashMap<ServiceName, Arc<CachedService>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
