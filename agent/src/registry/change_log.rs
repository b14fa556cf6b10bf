//! Log records of the changes that clients request, with the client that requested them.
//!
//! Changes by programs that keep their own registration alive are logged at `debug` if they change nothing that readers
//! see, or if the library logs them already. All others are changes of operators and are logged at `info`.

use std::sync::Arc;

use crate::net::peer::Peer;
use crate::registry::entry::TableEntry;
use crate::registry::key::InstanceKey;
use crate::registry::published::PublishedInstance;
use crate::registry::state::{InstanceSelector, MaintenanceMode};

/// Name of the configuration file in log records, as the origin of a change.
const CONFIGURATION_FILE: &str = "configuration file";

/// What a registration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationChange {
    /// The instance was not registered with this agent.
    New,
    /// Its owner registered it with other contents.
    Changed,
    /// Its owner repeated the registration.
    Repeated,
    /// Another owner had registered it.
    TakenOver,
}

impl RegistrationChange {
    /// Compares a registration with the one that it replaces.
    pub fn new(
        before: Option<&TableEntry<Arc<PublishedInstance>>>,
        after: &TableEntry<Arc<PublishedInstance>>,
    ) -> RegistrationChange {
        match before {
            None => RegistrationChange::New,
            Some(before) if before.owner != after.owner => RegistrationChange::TakenOver,
            Some(before)
                if before.published.requested_instance()
                    != after.published.requested_instance() =>
            {
                RegistrationChange::Changed
            }
            Some(_) => RegistrationChange::Repeated,
        }
    }
}

/// The client that requested a change.
pub struct ChangeOrigin(String);

impl ChangeOrigin {
    /// Names a client; `None` stands for the configuration file.
    pub fn new(peer: Option<Peer>) -> ChangeOrigin {
        let name = peer.map(|peer| peer.to_string());
        ChangeOrigin(name.unwrap_or_else(|| CONFIGURATION_FILE.to_owned()))
    }

    /// Logs a registration.
    pub fn log_registration(&self, (service, id): &InstanceKey, change: RegistrationChange) {
        let peer = self.0.as_str();
        match change {
            RegistrationChange::New => {
                tracing::info!(%service, instance = %id, peer, "registration accepted");
            }
            RegistrationChange::Changed => {
                tracing::info!(%service, instance = %id, peer, "registration changed");
            }
            RegistrationChange::TakenOver => {
                tracing::info!(%service, instance = %id, peer, "registration of another owner replaced");
            }
            RegistrationChange::Repeated => {
                tracing::debug!(%service, instance = %id, peer, "registration repeated");
            }
        }
    }

    /// Logs an update of the attributes.
    pub fn log_update(&self, (service, id): &InstanceKey, is_by_owner: bool) {
        let peer = self.0.as_str();
        match is_by_owner {
            true => tracing::debug!(%service, instance = %id, peer, "attributes changed"),
            false => tracing::info!(%service, instance = %id, peer, "attributes changed"),
        }
    }

    /// Logs a removal.
    pub fn log_removal(&self, (service, id): &InstanceKey, is_by_owner: bool) {
        let peer = self.0.as_str();
        match is_by_owner {
            true => tracing::debug!(%service, instance = %id, peer, "registration removed"),
            false => tracing::info!(%service, instance = %id, peer, "registration removed"),
        }
    }

    /// Logs a change of the maintenance mode.
    pub fn log_maintenance(
        &self,
        selector: &InstanceSelector,
        mode: Option<MaintenanceMode>,
        instances: usize,
    ) {
        tracing::info!(
            service = selector.service(),
            instance = selector.id(),
            mode = mode.map_or("off", MaintenanceMode::name),
            instances,
            peer = self.0,
            "maintenance mode changed"
        );
    }
}
