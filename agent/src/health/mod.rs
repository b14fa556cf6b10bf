//! Health checks: each looks at one instance again and again, and tells the registry how it is.

pub mod check;
pub mod component;
pub mod policy;
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

/// How long the end of the checks is waited for.
const ENDING: Duration = Duration::from_millis(500);

/// All checks that are made. They end with this, and with the registrations that they are about.
pub struct Checks {
    registry: Arc<Registry>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    checks: HashMap<InstanceKey, Open>,
    tasks: JoinSet<()>,
    /// Set by [`Checks::close`]: checks that are added later are recorded for the hand-over, and do not run.
    is_closed: bool,
}

/// A check that is made.
struct Open {
    /// The check ends when this is dropped. `None` if it does not run any more.
    stop: Option<oneshot::Sender<()>>,
    /// The registration that it is about.
    grant: u64,
    check: Check,
}

/// An instance that is looked at, on its way from one run of the agent to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Looked {
    /// The service.
    pub service: String,
    /// The instance.
    pub id: String,
    /// How it is looked at.
    pub check: Check,
}

impl Checks {
    /// None yet.
    pub fn new(registry: Arc<Registry>) -> Checks {
        Checks {
            registry,
            running: Mutex::default(),
        }
    }

    /// Begins to look at what has just been registered, and ends what was looked at there before. Must be
    /// called on a tokio runtime.
    pub fn begin(&self, key: InstanceKey, grant: u64, check: Check, initial: Health) {
        let machine = Threshold::new(&check, initial);
        self.look(key, grant, check, machine);
    }

    /// Goes on with what the run before looked at. Must be called on a tokio runtime.
    pub fn resume(&self, key: InstanceKey, grant: u64, check: Check, health: Health) {
        let machine = Threshold::resumed(&check, health);
        self.look(key, grant, check, machine);
    }

    fn look(&self, key: InstanceKey, grant: u64, check: Check, machine: Threshold) {
        let (stop, stopped) = oneshot::channel();
        let registry = self.registry.clone();
        let mut running = self.running();
        while running.tasks.try_join_next().is_some() {}
        let open = Open {
            stop: (!running.is_closed).then_some(stop),
            grant,
            check: check.clone(),
        };
        running.checks.insert(key.clone(), open);
        if running.is_closed {
            return;
        }
        let task = tend(registry, key, grant, check, machine, stopped);
        running.tasks.spawn(task);
    }

    /// All that are made.
    pub fn looked(&self) -> Vec<Looked> {
        let running = self.running();
        let all = running.checks.iter();
        all.map(|((service, id), open)| Looked {
            service: service.to_string(),
            id: id.clone(),
            check: open.check.clone(),
        })
        .collect()
    }

    /// Returns true if this instance has a check.
    pub fn contains(&self, key: &InstanceKey) -> bool {
        self.running().checks.contains_key(key)
    }

    /// How many are made.
    pub fn len(&self) -> usize {
        self.running().checks.len()
    }

    /// How many are made of others than this one.
    pub fn of_others(&self, key: &InstanceKey) -> usize {
        let running = self.running();
        running.checks.keys().filter(|other| *other != key).count()
    }

    /// Whether none is made.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all, with the commands that they run. They are still listed by [`Checks::looked`].
    pub async fn close(&self) {
        let mut tasks = {
            let mut running = self.running();
            running.is_closed = true;
            running
                .checks
                .values_mut()
                .for_each(|open| open.stop = None);
            std::mem::take(&mut running.tasks)
        };
        let ended = async { while tasks.join_next().await.is_some() {} };
        // A store that hangs may keep one from telling what it found.
        if timeout(ENDING, ended).await.is_err() {
            tasks.shutdown().await;
        }
    }

    /// Without those that are about nobody any more, which end with this.
    fn running(&self) -> MutexGuard<'_, Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let lives =
            |key: &InstanceKey, open: &mut Open| self.registry.health(key, open.grant).is_some();
        running.checks.retain(lives);
        running
    }
}

async fn tend(
    registry: Arc<Registry>,
    key: InstanceKey,
    grant: u64,
    check: Check,
    mut machine: Threshold,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut before = machine.health();
    loop {
        let pause = spread(machine.pause());
        let look = async {
            sleep(pause).await;
            probe::look(&check).await
        };
        // What is told to the registry is told to the end; only looking can be broken off.
        let outcome = tokio::select! {
            _ = &mut stopped => return,
            outcome = look => outcome,
        };
        let health = machine.step(&outcome);
        let (Outcome::Pass(note) | Outcome::Warn(note) | Outcome::Fail(note)) = outcome;
        if health != before && health == Health::Critical {
            let (service, id) = (&key.0, &key.1);
            tracing::warn!(
                %service,
                instance = %id,
                check = check.what.text(),
                result = note,
                "instance is critical: its check failed"
            );
        }
        before = health;
        let told = registry.report(&key, grant, health, note).await;
        // What else went wrong is tried again with the next check.
        if told.is_err_and(|error| is_over(error.kind())) {
            return;
        }
    }
}

/// The registration is not there any more, or another's.
fn is_over(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::LeaseLost | ErrorKind::Replaced | ErrorKind::NotFound
    )
}

/// A tenth more or less, so that checks that began together do not stay together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}
