//! Health checks: each probes one instance at intervals and reports its health to the registry.

pub mod check;
pub mod check_policy;
pub mod component;
mod probe;
pub mod target_policy;
pub mod threshold;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discover_core::ErrorKind;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use crate::registry::Registry;
use crate::registry::key::InstanceKey;
use crate::registry::state::Health;
use check::Check;
use threshold::{Outcome, Threshold};

/// Limit on the time until all checks have stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Running health checks. A check stops with its registration, or when this is dropped.
pub struct Checks {
    registry: Arc<Registry>,
    running: Mutex<RunningChecks>,
}

#[derive(Default)]
struct RunningChecks {
    checks: HashMap<InstanceKey, RunningCheck>,
    tasks: JoinSet<()>,
    /// Set by [`Checks::close`]: checks that are added later are recorded for the hand-over, and do not run.
    is_closed: bool,
}

/// A running check.
struct RunningCheck {
    /// The check ends when this is dropped. `None` if it does not run any more.
    stop: Option<oneshot::Sender<()>>,
    /// Grant of the registration that is checked.
    grant: u64,
    check: Check,
}

/// A health check in the hand-over state. The names of the fields are part of its format.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedCheck {
    /// Service name.
    pub service: String,
    /// Instance id.
    pub id: String,
    /// The check.
    pub check: Check,
}

impl Checks {
    /// Creates an empty set of checks.
    pub fn new(registry: Arc<Registry>) -> Checks {
        Checks {
            registry,
            running: Mutex::default(),
        }
    }

    /// Starts to check a new registration, and stops the check of the one that it replaced. Call this on a
    /// tokio runtime.
    pub fn start(&self, key: InstanceKey, grant: u64, check: Check, initial: Health) {
        let threshold = Threshold::new(&check, initial);
        self.spawn(key, grant, check, threshold);
    }

    /// Continues a check of the previous process. Call this on a tokio runtime.
    pub fn resume(&self, key: InstanceKey, grant: u64, check: Check, health: Health) {
        let threshold = Threshold::resumed(&check, health);
        self.spawn(key, grant, check, threshold);
    }

    fn spawn(&self, key: InstanceKey, grant: u64, check: Check, threshold: Threshold) {
        let (stop, stopped) = oneshot::channel();
        let registry = self.registry.clone();
        let mut running = self.running();
        while running.tasks.try_join_next().is_some() {}
        let running_check = RunningCheck {
            stop: (!running.is_closed).then_some(stop),
            grant,
            check: check.clone(),
        };
        running.checks.insert(key.clone(), running_check);
        if running.is_closed {
            return;
        }
        let task = run_check(registry, key, grant, check, threshold, stopped);
        running.tasks.spawn(task);
    }

    /// Returns all checks.
    pub fn export(&self) -> Vec<SavedCheck> {
        let running = self.running();
        let all = running.checks.iter();
        all.map(|((service, id), running_check)| SavedCheck {
            service: service.to_string(),
            id: id.clone(),
            check: running_check.check.clone(),
        })
        .collect()
    }

    /// Returns true if this instance has a check.
    pub fn contains(&self, key: &InstanceKey) -> bool {
        self.running().checks.contains_key(key)
    }

    /// Returns the number of checks.
    pub fn len(&self) -> usize {
        self.running().checks.len()
    }

    /// Returns the number of checks of other instances.
    pub fn count_except(&self, key: &InstanceKey) -> usize {
        let running = self.running();
        running.checks.keys().filter(|other| *other != key).count()
    }

    /// Returns true if there are no checks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops all checks and the commands that they run. [`Checks::export`] still returns them.
    pub async fn close(&self) {
        let mut tasks = {
            let mut running = self.running();
            running.is_closed = true;
            running
                .checks
                .values_mut()
                .for_each(|running_check| running_check.stop = None);
            std::mem::take(&mut running.tasks)
        };
        let stopped = async { while tasks.join_next().await.is_some() {} };
        // A report may hang if the store does not respond.
        if timeout(CLOSE_TIMEOUT, stopped).await.is_err() {
            tasks.shutdown().await;
        }
    }

    /// Removes checks whose registration ended, and returns the rest. This stops them.
    fn running(&self) -> MutexGuard<'_, RunningChecks> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_registered = |key: &InstanceKey, running_check: &mut RunningCheck| {
            self.registry.health(key, running_check.grant).is_some()
        };
        running.checks.retain(is_registered);
        running
    }
}

async fn run_check(
    registry: Arc<Registry>,
    key: InstanceKey,
    grant: u64,
    check: Check,
    mut threshold: Threshold,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut last_health = threshold.health();
    loop {
        let delay = jitter(threshold.next_delay());
        let probe = async {
            sleep(delay).await;
            probe::run(&check).await
        };
        // A report to the registry is not cancelled; only the probe is.
        let outcome = tokio::select! {
            _ = &mut stopped => return,
            outcome = probe => outcome,
        };
        let health = threshold.record(&outcome);
        let (Outcome::Pass(note) | Outcome::Warn(note) | Outcome::Fail(note)) = outcome;
        if health != last_health && health == Health::Critical {
            let (service, id) = (&key.0, &key.1);
            tracing::warn!(
                %service,
                instance = %id,
                check = check.target.description(),
                result = note,
                "instance is critical: its check failed"
            );
        }
        last_health = health;
        let reported = registry.report(&key, grant, health, note).await;
        // After other errors, the next check reports again.
        if reported.is_err_and(|error| is_registration_lost(error.kind())) {
            return;
        }
    }
}

/// Returns true if the registration was removed or replaced.
fn is_registration_lost(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::LeaseLost | ErrorKind::Replaced | ErrorKind::NotFound
    )
}

/// Varies an interval by up to 10 %, so that checks that start together spread out.
fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.9 + 0.2 * fastrand::f64())
}
