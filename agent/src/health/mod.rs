//! Whether instances can do their work: a check for each that asked for one, and what others are told in
//! the attribute `health`.

pub mod check;
pub mod machine;

use std::sync::{Arc, Weak};
use std::time::Duration;

use discover_core::{Error, Result};
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::registry::Registry;
use crate::registry::table::Key;
use check::Check;
use machine::{Machine, Outcome, Plan};

/// The attribute in which others see it.
pub const ATTRIBUTE: &str = "health";

/// A check as it is asked for: one way to look, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Declared {
    tcp: Option<String>,
    http: Option<String>,
    exec: Option<Vec<String>>,
    interval_ms: Option<u64>,
    start_interval_ms: Option<u64>,
    timeout_ms: Option<u64>,
    rise: Option<u32>,
    fall: Option<u32>,
}

impl Declared {
    /// The check and its plan, if they make sense; commands only where they are allowed.
    pub fn read(self, commands: bool) -> Result<(Check, Plan)> {
        let one = match (self.tcp, self.http, self.exec) {
            (Some(address), None, None) => Check::Tcp(address),
            (None, Some(url), None) => Check::Http(url),
            (None, None, Some(command)) => Check::Exec(command),
            _ => {
                let text = "a check is one of tcp, http and exec";
                return Err(Error::invalid(text));
            }
        };
        let usual = Plan::default();
        let plan = Plan {
            interval_ms: self.interval_ms.unwrap_or(usual.interval_ms),
            start_interval_ms: self.start_interval_ms.unwrap_or(usual.start_interval_ms),
            timeout_ms: self.timeout_ms.unwrap_or(usual.timeout_ms),
            rise: self.rise.unwrap_or(usual.rise),
            fall: self.fall.unwrap_or(usual.fall),
        };
        Ok((one.checked(commands)?, plan))
    }
}

/// The looks at one instance, which end with this.
#[derive(Debug)]
pub struct Looks(AbortHandle);

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks at an instance again and again, and tells the registry what comes of it.
pub fn start(registry: &Arc<Registry>, key: Key, grant: u64, check: Check, plan: Plan) -> Looks {
    let registry = Arc::downgrade(registry);
    Looks(tokio::spawn(run(registry, key, grant, check, plan)).abort_handle())
}

async fn run(registry: Weak<Registry>, key: Key, grant: u64, check: Check, plan: Plan) {
    let mut machine = Machine::new(plan);
    let within = Duration::from_millis(plan.timeout_ms.max(1));
    let mut untold = None;
    loop {
        let outcome = check.look(within).await;
        untold = machine.take(&outcome).or(untold);
        if let Some(state) = untold {
            let Some(registry) = registry.upgrade() else {
                return;
            };
            let why = match &outcome {
                Outcome::Good => String::new(),
                Outcome::Warn(why) | Outcome::Bad(why) => format!(": {why}"),
            };
            log::info!("{} of {} is {}{why}", key.1, key.0, state.name());
            match registry.checked(&key, grant, state).await {
                Ok(()) => untold = None,
                // Told again after the next look.
                Err(error) => log::warn!("cannot tell it of {} of {}: {error}", key.1, key.0),
            }
        }
        sleep(machine.wait()).await;
    }
}
