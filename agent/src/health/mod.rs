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

use discover_core::{ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits, QuotaPermit};
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
    quota: Arc<Quota>,
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
    /// Counts the check for the client that defined it. `None` for those of the configuration file.
    permit: Option<QuotaPermit>,
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
    /// Client for which the check counts. Missing in the state of older releases.
    #[serde(default)]
    pub peer: Option<Peer>,
}

impl Checks {
    /// Creates an empty set, in which clients may define `max_checks` checks, and one client half of them.
    pub fn new(registry: Arc<Registry>, max_checks: usize) -> Checks {
        let limits = QuotaLimits {
            count: Some((max_checks, Some("checks"))),
            bytes: None,
        };
        Checks {
            registry,
            quota: Quota::new("checked instances", limits),
            running: Mutex::default(),
        }
    }

    /// Counts a check for a client, in place of the one that it replaces.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if a limit is reached.
    pub fn admit(&self, key: &InstanceKey, peer: Peer) -> Result<QuotaPermit> {
        let running = self.running();
        let replaced = running.checks.get(key);
        let replaced = replaced.and_then(|check| check.permit.as_ref());
        self.quota.admit(peer, 0, replaced)
    }

    /// Starts to check a new registration, and stops the check of the one that it replaced. Call this on a
    /// tokio runtime.
    pub fn start(
        &self,
        key: InstanceKey,
        grant: u64,
        check: Check,
        initial: Health,
        permit: Option<QuotaPermit>,
    ) {
        let threshold = Threshold::new(&check, initial);
        self.spawn(key, grant, check, threshold, permit);
    }

    /// Continues a check of the previous process. Call this on a tokio runtime.
    pub fn resume(
        &self,
        key: InstanceKey,
        grant: u64,
        check: Check,
        health: Health,
        peer: Option<Peer>,
    ) {
        // It was admitted by the previous process, so it continues, even if the limit is lower now.
        let permit = peer.and_then(|peer| self.admit(&key, peer).ok());
        let threshold = Threshold::resumed(&check, health);
        self.spawn(key, grant, check, threshold, permit);
    }

    fn spawn(
        &self,
        key: InstanceKey,
        grant: u64,
        check: Check,
        threshold: Threshold,
        permit: Option<QuotaPermit>,
    ) {
        let (stop, stopped) = oneshot::channel();
        let registry = self.registry.clone();
        let mut running = self.running();
        while running.tasks.try_join_next().is_some() {}
        let running_check = RunningCheck {
            stop: (!running.is_closed).then_some(stop),
            grant,
            check: check.clone(),
            permit,
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
            peer: running_check.permit.as_ref().map(QuotaPermit::peer),
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
