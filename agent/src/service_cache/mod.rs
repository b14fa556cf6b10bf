//! The sets that are watched through this agent: one watch for each service, however many look at it,
//! kept open for a while after the last look.

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

use history::{History, Life};

/// How long a set stays open that nobody looks at.
const IDLE: Duration = Duration::from_secs(60);

/// One set, and its last states.
pub struct CachedService {
    /// The set.
    pub set: ServiceSet,
    life: Life,
    history: Mutex<History<Snapshot, Bytes>>,
    start: Instant,
    /// When it was looked at last, in milliseconds since the start.
    used: AtomicU64,
}

impl CachedService {
    /// How a state of this set is told.
    pub fn index(&self, snapshot: &Snapshot) -> String {
        self.life.index(snapshot.version())
    }

    /// The state that was told by this index, while it is remembered.
    pub fn at(&self, index: &str) -> Option<Arc<Snapshot>> {
        let version = self.life.version(index)?;
        self.history().at(version)
    }

    /// What a listener is told who saw the state `from`, or nothing, and is to see `now`: as somebody
    /// else was told before, or as it is written now, which may lead to a newer state.
    pub fn step(
        &self,
        from: Option<u64>,
        now: Arc<Snapshot>,
        write: impl FnOnce() -> (Bytes, Arc<Snapshot>),
    ) -> (Bytes, Arc<Snapshot>) {
        if let Some(known) = self.history().way(from, now.version()) {
            return known;
        }
        // Without the lock: a large set takes a while.
        let (text, state) = write();
        let at = self.start.elapsed();
        self.history()
            .told(from, state.version(), &state, &text, at);
        (text, state)
    }

    fn history(&self) -> MutexGuard<'_, History<Snapshot, Bytes>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct ServiceCache {
    client: Client,
    boot: String,
    most: usize,
    start: Instant,
    opened: AtomicU64,
    kept: Mutex<HashMap<ServiceName, Arc<CachedService>>>,
}

impl ServiceCache {
    /// At most so many services at a time. Whoever calls it runs [`ServiceCache::sweep`] too.
    pub fn new(client: Client, boot: String, most: usize) -> Arc<ServiceCache> {
        Arc::new(ServiceCache {
            client,
            boot,
            most,
            start: Instant::now(),
            opened: AtomicU64::new(0),
            kept: Mutex::default(),
        })
    }

    /// The set of a service, opened if it is not open yet. Must be called on a tokio runtime.
    pub fn open(&self, service: &ServiceName) -> Result<Arc<CachedService>> {
        let mut all = self.kept();
        if let Some(kept) = all.get(service) {
            kept.used.store(self.now(), Ordering::Relaxed);
            return Ok(kept.clone());
        }
        if all.len() >= self.most {
            let most = self.most;
            let text = format!("{most} services are watched already; the limit is {most}");
            return Err(Error::new(ErrorKind::Resource, text));
        }
        let set = self.client.services(service.as_str())?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let kept = Arc::new(CachedService {
            set,
            life: Life::new(&self.boot, number),
            history: Mutex::default(),
            start: self.start,
            used: AtomicU64::new(self.now()),
        });
        all.insert(service.clone(), kept.clone());
        Ok(kept)
    }

    /// The set of a service, if it is open.
    pub fn peek(&self, service: &ServiceName) -> Option<Arc<CachedService>> {
        self.kept().get(service).cloned()
    }

    /// Returns the services that are watched, with their sets.
    pub fn watched(&self) -> Vec<(ServiceName, ServiceSet)> {
        let kept = self.kept();
        let sets = kept.iter();
        sets.map(|(name, service)| (name.clone(), service.set.clone()))
            .collect()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.kept().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes those that nobody looks at, and forgets what is old, for ever.
    pub async fn sweep(self: Arc<ServiceCache>) {
        loop {
            sleep(IDLE / 4).await;
            let oldest = self.now().saturating_sub(IDLE.as_millis() as u64);
            self.kept().retain(|_, kept| {
                kept.history().forget(self.start.elapsed());
                Arc::strong_count(kept) > 1 || kept.used.load(Ordering::Relaxed) >= oldest
            });
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ServiceName, Arc<CachedService>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
