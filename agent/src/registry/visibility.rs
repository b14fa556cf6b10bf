//! Registrations in the agent's own watch of the store: whether an id is free, and waiting until a change is
//! observed.

use std::time::Duration;

use discover_core::{Event, Instance, Registration, Result};
use tokio::time::timeout;

use super::Registry;
use crate::net::peer::Peer;
use crate::registry::key::InstanceKey;
use crate::registry::state::WARNING_ATTRIBUTE;
use crate::registry::table;
use crate::store::StoreFailure;

/// Limit on the time until the agent's own watch observes a write.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Registry {
    /// Checks if a client may register an instance that this agent does not know.
    ///
    /// # Errors
    ///
    /// Fails with `Replaced` if the store has an instance with this id that differs in more than its health.
    pub(super) async fn check_id_is_free(
        &self,
        key: &InstanceKey,
        registration: &Registration,
        peer: Option<Peer>,
    ) -> Result<()> {
        let cached = self.service_cache.open(&key.0, peer)?;
        let listed = cached.set.wait(0, OBSERVE_TIMEOUT).await;
        listed.map_err(StoreFailure::wrap)?;
        let snapshot = cached.set.snapshot();
        let found = snapshot.online().iter().find(|i| i.id() == key.1);
        match found {
            Some(found) if !is_same_apart_from_health(found, registration) => {
                Err(table::replaced_error(key))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the agent's own watch, if the service is watched, shows a written registration, or the
    /// removal if `written` is `None`. Returns after [`OBSERVE_TIMEOUT`] at the latest.
    pub(super) async fn wait_until_observed(
        &self,
        key: &InstanceKey,
        written: Option<&Registration>,
    ) {
        let Some(cached) = self.service_cache.get(&key.0) else {
            return;
        };
        let mut cursor = cached.set.cursor();
        let observed = async {
            let mut is_observed = written.is_none();
            while cursor.changed().await {
                // The first drain has all instances, later ones only changes, so that a large set is visited
                // once.
                for event in cursor.drain() {
                    match event {
                        Event::Up(found) | Event::Update(found) if found.id() == key.1 => {
                            is_observed =
                                written.is_some_and(|written| is_same_instance(&found, written));
                        }
                        Event::Down(found) if found.id() == key.1 => {
                            is_observed = written.is_none()
                        }
                        _ => {}
                    }
                }
                if is_observed {
                    return;
                }
            }
        };
        // Another owner may have written in the meantime; then the watch never shows this write.
        let _ = timeout(OBSERVE_TIMEOUT, observed).await;
    }
}

/// Returns true if an instance shows the registration, in whatever layout.
fn is_same_instance(found: &Instance, registration: &Registration) -> bool {
    let expected = registration.instance(found.created());
    found.id() == expected.id()
        && found.address() == expected.address()
        && found.attributes() == expected.attributes()
        && found.tags() == expected.tags()
}

/// Returns true if an instance shows the registration, apart from the `health` attribute.
fn is_same_apart_from_health(found: &Instance, registration: &Registration) -> bool {
    let expected = registration.instance(found.created());
    let lasting_attributes = |instance: &Instance| {
        let mut lasting_attributes = instance.attributes().clone();
        lasting_attributes.remove(WARNING_ATTRIBUTE.0);
        lasting_attributes
    };
    found.id() == expected.id()
        && found.address() == expected.address()
        && found.tags() == expected.tags()
        && lasting_attributes(found) == lasting_attributes(&expected)
}
