//! Health checks: each looks at one instance again and again, and tells the registry how it is.

pub mod check;
pub mod machine;
mod probe;
mod secure;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use discover_core::Kind;
use tokio::sync::oneshot;
use tokio::time::{Duration, sleep};

use crate::registry::Registry;
use crate::registry::state::Health;
use crate::registry::table::Key;
use check::Check;
use machine::{Machine, Outcome};

/// All checks that are made. They end with this, and with the registrations that they are about.
pub struct Checks {
    registry: Arc<Registry>,
    /// A check ends when its end of this is dropped.
    running: Mutex<HashMap<Key, oneshot::Sender<()>>>,
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
    pub fn begin(&self, key: Key, grant: u64, check: Check, initial: Health) {
        let (stop, stopped) = oneshot::channel();
        let registry = self.registry.clone();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, stop| !stop.is_closed());
        running.insert(key.clone(), stop);
        tokio::spawn(tend(registry, key, grant, check, initial, stopped));
    }

    /// How many are made.
    pub fn len(&self) -> usize {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().filter(|stop| !stop.is_closed()).count()
    }

    /// Whether none is made.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all.
    pub fn close(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.clear();
    }
}

async fn tend(
    registry: Arc<Registry>,
    key: Key,
    grant: u64,
    check: Check,
    initial: Health,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut machine = Machine::new(&check, initial);
    let mut before = initial;
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
            log::warn!(
                "{id} of {service} is critical: {}: {note}",
                check.what.text()
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
fn is_over(kind: Kind) -> bool {
    matches!(kind, Kind::LeaseLost | Kind::Replaced | Kind::NotFound)
}

/// A tenth more or less, so that checks that began together do not stay together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}
