//! Harness shared by the owners, the watchers and the store observer of one run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_testkit::clock::{Micros, now};
use tokio::sync::watch;

/// Scale of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub watchers: usize,
    /// Number of the watchers that use the library.
    pub clients: usize,
    pub instances: usize,
    pub services: usize,
    /// Changes in a second.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
    /// How long an instance lives without a heartbeat.
    pub ttl: Duration,
    /// How often it has one: a slow machine must not be taken for a dead application.
    pub heartbeat: Duration,
}

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They register.
    Registering,
    /// They change.
    Changing,
    /// They live.
    Idle,
    Finished,
}

/// State of a run.
pub struct Harness {
    pub scale: Scale,
    /// Where the agent listens.
    pub address: String,
    pub phase: watch::Sender<Phase>,
    /// Start time of each write whose latency is not measured yet.
    sent: Vec<AtomicU64>,
    numbers: AtomicUsize,
    /// How long it took from there until each watcher saw it.
    pub latency: Histogram,
    /// The digest that was seen of each service at each revision, and by whom first.
    pub seen: Vec<Mutex<BTreeMap<u64, (u64, usize)>>>,
    /// The digest that each watcher has now.
    pub ends: Vec<AtomicU64>,
    pub violations: Mutex<Vec<String>>,
    pub batches: AtomicU64,
    pub changes: AtomicU64,
    /// Changes under way.
    busy: AtomicU64,
    /// Instances that applications took away.
    pub removals: AtomicU64,
    /// Number of instances that were registered again because the agent did not know them.
    pub returns: AtomicU64,
    /// Streams that were opened, and those of them that began with a reset.
    pub streams: AtomicU64,
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
            ends: many(scale.watchers),
            violations: Mutex::default(),
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

    /// A number for the next write, which begins now.
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

    /// A watcher has this digest at this revision.
    pub fn record_state(&self, watcher: usize, service: usize, revision: u64, digest: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.ends[watcher].store(digest, Ordering::Relaxed);
        let mut seen = lock(&self.seen[service]);
        let (first, by) = *seen.entry(revision).or_insert((digest, watcher));
        drop(seen);
        if first != digest {
            self.report_violation(format!(
                "watchers {by} and {watcher} see different sets of {service} at {revision}"
            ));
        }
    }

    /// Begins a change, if it is the time for that.
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

    /// Ends it.
    pub fn end(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether nothing changes.
    pub fn is_quiet(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    pub fn report_violation(&self, text: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < 100 {
            violations.push(text);
        }
    }

    /// Whether it has come so far.
    pub fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() >= phase
    }

    /// Waits until it has.
    pub async fn until(&self, phase: Phase) {
        let mut now = self.phase.subscribe();
        now.wait_for(|now| *now >= phase).await.unwrap();
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many of a logarithmic measure fall into one doubling.
const STEPS_PER_DOUBLING: u64 = 16;

/// Times, each counted where it belongs to within a sixteenth.
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

    /// The time within which this part of all was, in milliseconds.
    pub fn percentile(&self, part: f64) -> f64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
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
