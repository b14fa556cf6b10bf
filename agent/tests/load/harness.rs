//! Harness shared by the owners, the watchers and the store observer of one run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_testkit::clock::{Micros, now};
use tokio::sync::watch;

use crate::owners::OwnedInstance;

/// Scale of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub watchers: usize,
    /// Number of the watchers that use the library.
    pub clients: usize,
    pub instances: usize,
    pub services: usize,
    /// Changes per second.
    pub rate: f64,
    /// Duration of the changes.
    pub time: Duration,
    /// TTL of an instance without a heartbeat.
    pub ttl: Duration,
    /// Interval of the heartbeats of an instance: short, so that none expires on a slow machine.
    pub heartbeat: Duration,
}

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The owners register their instances.
    Registering,
    /// The owners change their instances.
    Changing,
    /// The owners only send heartbeats.
    Idle,
    /// The owners and watchers return.
    Finished,
}

/// The registered instances, by service number and id, with the number of their last write.
pub type RegisteredInstances = BTreeMap<(usize, String), u64>;

/// State of a run.
pub struct Harness {
    pub scale: Scale,
    /// Address of the agent.
    pub address: String,
    pub phase: watch::Sender<Phase>,
    /// Start time of each write, by its number.
    sent: Vec<AtomicU64>,
    numbers: AtomicUsize,
    /// Latency from the start of a write until a watcher receives it.
    pub latency: Histogram,
    /// Of each service, the digest seen at each revision, and the watcher that saw it first.
    pub seen: Vec<Mutex<BTreeMap<u64, (u64, usize)>>>,
    /// The latest digest of each watcher.
    pub latest_digests: Vec<AtomicU64>,
    pub violations: Mutex<Vec<String>>,
    /// What the owners registered, as confirmed by the agent.
    pub owned: Mutex<RegisteredInstances>,
    pub batches: AtomicU64,
    pub changes: AtomicU64,
    /// Changes in progress.
    busy: AtomicU64,
    /// Removals that owners requested, or that may follow from a failed write.
    pub removals: AtomicU64,
    /// Number of instances that were registered again because the agent did not know them.
    pub returns: AtomicU64,
    /// Streams that were opened.
    pub streams: AtomicU64,
    /// Resets that were received.
    pub resets: AtomicU64,
}

impl Harness {
    pub fn new(scale: Scale, address: String) -> Harness {
        let most = scale.instances * 3 + (scale.rate * scale.time.as_secs_f64() * 2.0) as usize;
        let many = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Harness {
            scale,
            address,
            phase: watch::Sender::new(Phase::Registering),
            sent: many(most),
            numbers: AtomicUsize::new(1),
            latency: Histogram::default(),
            seen: (0..scale.services).map(|_| Mutex::default()).collect(),
            latest_digests: many(scale.watchers),
            violations: Mutex::default(),
            owned: Mutex::default(),
            batches: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            returns: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            resets: AtomicU64::new(0),
        }
    }

    pub fn service(number: usize) -> String {
        format!("s{number}")
    }

    /// Returns the number of the next write, and records its start time.
    pub fn next(&self) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        if let Some(sent) = self.sent.get(number) {
            sent.store(now(), Ordering::Relaxed);
        }
        number as u64
    }

    /// Records the latency of a write that a watcher received.
    pub fn record_latency(&self, number: u64) {
        let sent = self.sent.get(number as usize);
        let sent = sent.map_or(0, |sent| sent.load(Ordering::Relaxed));
        if sent > 0 && *self.phase.borrow() == Phase::Changing {
            self.latency.record(now().saturating_sub(sent));
        }
    }

    /// Records a write of an owner that the agent confirmed; `None` for a removal.
    pub fn record_write(&self, own: &OwnedInstance) {
        let key = (own.service, own.id.clone());
        let mut owned = lock(&self.owned);
        match own.version {
            Some(number) => owned.insert(key, number),
            None => owned.remove(&key),
        };
    }

    /// Records the digest of a watcher at a revision.
    pub fn record_state(&self, watcher: usize, service: usize, revision: u64, digest: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.latest_digests[watcher].store(digest, Ordering::Relaxed);
        let mut seen = lock(&self.seen[service]);
        let (first, by) = *seen.entry(revision).or_insert((digest, watcher));
        drop(seen);
        if first != digest {
            self.report_violation(format!(
                "watchers {by} and {watcher} see different sets of {service} at {revision}"
            ));
        }
    }

    /// Begins a change; returns false outside of the phase [`Phase::Changing`].
    pub fn begin(&self) -> bool {
        self.busy.fetch_add(1, Ordering::SeqCst);
        // Checked after the increment: a caller that waits for idleness sees this change, or this sees the
        // new phase.
        let begun = *self.phase.borrow() == Phase::Changing;
        if !begun {
            self.busy.fetch_sub(1, Ordering::SeqCst);
        }
        begun
    }

    /// Ends a change.
    pub fn end(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns true if no change is in progress.
    pub fn is_idle(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    pub fn report_violation(&self, text: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < 100 {
            violations.push(text);
        }
    }

    /// Returns true if the run has reached this phase.
    pub fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() >= phase
    }

    /// Waits until the run reaches this phase.
    pub async fn until(&self, phase: Phase) {
        let mut now = self.phase.subscribe();
        now.wait_for(|now| *now >= phase).await.unwrap();
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of buckets per power of two.
const STEPS_PER_DOUBLING: u64 = 16;

/// Histogram of times, with a relative error of at most a sixteenth.
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(
            (0..64 * STEPS_PER_DOUBLING)
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }
}

impl Histogram {
    pub fn record(&self, time: Micros) {
        let doublings = u64::from(time.max(STEPS_PER_DOUBLING).ilog2());
        let within = (time.max(STEPS_PER_DOUBLING) >> (doublings - 4)) - STEPS_PER_DOUBLING;
        self.0[(doublings * STEPS_PER_DOUBLING + within) as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Returns the time, in milliseconds, that this fraction of all times does not exceed.
    pub fn percentile(&self, fraction: f64) -> f64 {
        let wanted = (self.count() as f64 * fraction).ceil() as u64;
        let mut sum = 0;
        for (at, count) in self.0.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            if sum >= wanted {
                let (doublings, within) = (
                    at as u64 / STEPS_PER_DOUBLING,
                    at as u64 % STEPS_PER_DOUBLING,
                );
                return ((STEPS_PER_DOUBLING + within) << doublings >> 4) as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}
