//! What the agent's own watch shows of what is registered here.

use std::time::Duration;

use discover_core::{Event, Instance, Registration, Result};
use tokio::time::timeout;

use super::Registry;
use crate::registry::key::InstanceKey;
use crate::registry::state::ATTRIBUTE;
use crate::registry::table;

/// How long to wait until the agent's own watch has seen what was just written.
const SEEING: Duration = Duration::from_secs(2);

impl Registry {
    /// Whoever comes back to an agent that does not know it is let in where nobody is, or where all is as
    /// it left it.
    pub(super) async fn check_free(
        &self,
        key: &InstanceKey,
        registration: &Registration,
    ) -> Result<()> {
        let kept = self.sets.open(&key.0)?;
        kept.set.wait(0, SEEING).await?;
        let now = kept.set.snapshot();
        let there = now.online().iter().find(|i| i.id() == key.1);
        match there {
            Some(there) if !was_as(there, registration) => Err(table::replaced(key)),
            _ => Ok(()),
        }
    }

    /// Waits a moment until the agent's own watch, where there is one, shows what was just written.
    pub(super) async fn see(&self, key: &InstanceKey, written: Option<&Registration>) {
        let Some(kept) = self.sets.peek(&key.0) else {
            return;
        };
        let mut cursor = kept.set.cursor();
        let seen = async {
            let mut is_seen = written.is_none();
            while cursor.changed().await {
                // First all that there is, then what differs: a large set is gone through once.
                for event in cursor.drain() {
                    match event {
                        Event::Up(there) | Event::Update(there) if there.id() == key.1 => {
                            is_seen = written.is_some_and(|written| is_as(&there, written));
                        }
                        Event::Down(gone) if gone.id() == key.1 => is_seen = written.is_none(),
                        _ => {}
                    }
                }
                if is_seen {
                    return;
                }
            }
        };
        // Another one may have written meanwhile; then there is nothing to wait for.
        let _ = timeout(SEEING, seen).await;
    }
}

/// Whether others see what was asked for, in whatever layout.
fn is_as(there: &Instance, asked: &Registration) -> bool {
    let asked = asked.instance(there.created());
    there.id() == asked.id()
        && there.address() == asked.address()
        && there.attributes() == asked.attributes()
        && there.tags() == asked.tags()
}

/// Whether that is what somebody left behind; how well it was then is another matter.
fn was_as(there: &Instance, asked: &Registration) -> bool {
    let asked = asked.instance(there.created());
    let lasting = |of: &Instance| {
        let mut lasting = of.attributes().clone();
        lasting.remove(ATTRIBUTE.0);
        lasting
    };
    there.id() == asked.id()
        && there.address() == asked.address()
        && there.tags() == asked.tags()
        && lasting(there) == lasting(&asked)
}
