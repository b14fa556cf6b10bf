//! State of a registered instance, derived from its health and from maintenance. Pure.
//!
//! Only instances that a client may pick are in the store: critical ones and those in maintenance or draining
//! are withdrawn, so that programs in every language, including old releases, pass over them. An instance
//! with health `warning` is published with the attribute `health=warning`.

use std::collections::BTreeMap;
use std::sync::Arc;

use discover_core::{Error, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits, QuotaPermit};
use crate::registry::key::{InstanceKey, MAX_ID_BYTES};

/// Attribute that marks a published instance with health `warning`.
pub const WARNING_ATTRIBUTE: (&str, &str) = ("health", "warning");

/// Health of an instance, reported by a check or by the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The check passes.
    #[default]
    Passing,
    /// The instance works, but needs attention.
    Warning,
    /// The instance does not work.
    Critical,
}

/// Reason why an operator withholds an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceMode {
    /// The instance finishes its work and gets no new calls.
    Draining,
    /// The instance is being worked on.
    Maintenance,
}

impl MaintenanceMode {
    /// Returns `maintenance` or `draining`.
    pub fn name(self) -> &'static str {
        match self {
            MaintenanceMode::Draining => "draining",
            MaintenanceMode::Maintenance => "maintenance",
        }
    }
}

/// State of an instance. Maintenance takes precedence over health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Not in maintenance; the state is the health.
    Active(Health),
    /// Withheld by an operator, whatever the health is.
    Withheld(MaintenanceMode),
}

impl InstanceState {
    /// Returns the state of an instance with this health, which an operator may withhold.
    pub fn new(health: Health, mode: Option<MaintenanceMode>) -> InstanceState {
        mode.map_or(InstanceState::Active(health), InstanceState::Withheld)
    }

    /// Returns true if the instance is published.
    pub fn is_visible(self) -> bool {
        matches!(
            self,
            InstanceState::Active(Health::Passing | Health::Warning)
        )
    }

    /// Returns true if the instance is published with the attribute `health=warning`.
    pub fn is_warning(self) -> bool {
        self == InstanceState::Active(Health::Warning)
    }

    /// Returns `passing`, `warning`, `critical`, `maintenance` or `draining`.
    pub fn name(self) -> &'static str {
        match self {
            InstanceState::Active(Health::Passing) => "passing",
            InstanceState::Active(Health::Warning) => "warning",
            InstanceState::Active(Health::Critical) => "critical",
            InstanceState::Withheld(mode) => mode.name(),
        }
    }
}

/// Selects registrations of this agent: all, those of one service, or one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceSelector {
    service: Option<ServiceName>,
    id: Option<String>,
}

impl InstanceSelector {
    /// Selects all if both are `None`, or all of a service if `id` is `None`.
    ///
    /// # Errors
    ///
    /// Fails if `id` is given without `service`, or if `service` is not a service name.
    pub fn new(service: Option<&str>, id: Option<&str>) -> Result<InstanceSelector> {
        if service.is_none() && id.is_some() {
            return Err(Error::invalid("id is given without service; specify both"));
        }
        if let Some(id) = id.filter(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
            let n = id.len();
            let text = format!("id has {n} bytes; it must have 1 to {MAX_ID_BYTES}");
            return Err(Error::invalid(text));
        }
        Ok(InstanceSelector {
            service: service.map(ServiceName::new).transpose()?,
            id: id.map(str::to_owned),
        })
    }

    /// Returns the service, unless the selector matches all services.
    pub fn service(&self) -> Option<&str> {
        self.service.as_ref().map(ServiceName::as_str)
    }

    /// Returns the instance id, unless the selector matches all instances.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns true if the selector matches this instance.
    pub fn matches(&self, (service, id): &InstanceKey) -> bool {
        self.service.as_ref().is_none_or(|own| own == service)
            && self.id.as_ref().is_none_or(|own| own == id)
    }

    /// Returns true if the selector matches every instance that `other` matches.
    fn covers(&self, other: &InstanceSelector) -> bool {
        (self.service.is_none() || self.service == other.service)
            && (self.id.is_none() || self.id == other.id)
    }
}

/// Maximum number of maintenance modes that differ by selector. One client may set half of them.
const MAX_MAINTENANCE_RULES: usize = 1024;

/// Maintenance modes that operators have set, by selector.
#[derive(Debug)]
pub struct MaintenanceRules {
    modes: BTreeMap<InstanceSelector, (MaintenanceMode, Option<QuotaPermit>)>,
    quota: Arc<Quota>,
}

impl Default for MaintenanceRules {
    fn default() -> MaintenanceRules {
        let limits = QuotaLimits {
            count: Some((MAX_MAINTENANCE_RULES, None)),
            bytes: None,
        };
        MaintenanceRules {
            modes: BTreeMap::new(),
            quota: Quota::new("maintenance modes", limits),
        }
    }
}

impl MaintenanceRules {
    /// Sets or clears (`None`) the mode for a selector. Modes of selectors that it covers are removed. The mode
    /// counts for `peer`; `None` counts for no client.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`](discover_core::ErrorKind::Resource) if a new mode exceeds the limit. Then
    /// nothing changes.
    pub fn set(
        &mut self,
        selector: InstanceSelector,
        mode: Option<MaintenanceMode>,
        peer: Option<Peer>,
    ) -> Result<()> {
        let next = match (mode, peer) {
            (Some(mode), Some(peer)) => {
                let covered = self.modes.iter().find(|(other, _)| selector.covers(other));
                let replaced = covered.and_then(|(_, (_, permit))| permit.as_ref());
                Some((mode, Some(self.quota.admit(peer, 0, replaced)?)))
            }
            (mode, _) => mode.map(|mode| (mode, None)),
        };
        self.modes.retain(|other, _| !selector.covers(other));
        if let Some(next) = next {
            self.modes.insert(selector, next);
        }
        Ok(())
    }

    /// Returns the mode of an instance. If several selectors match it, maintenance takes precedence over
    /// draining.
    pub fn mode_of(&self, key: &InstanceKey) -> Option<MaintenanceMode> {
        let matching = self
            .modes
            .iter()
            .filter(|(selector, _)| selector.matches(key));
        matching.map(|(_, (mode, _))| *mode).max()
    }

    /// Returns all selectors with their modes.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceSelector, MaintenanceMode)> {
        self.modes
            .iter()
            .map(|(selector, (mode, _))| (selector, *mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str, id: &str) -> InstanceKey {
        (ServiceName::new(service).unwrap(), id.to_owned())
    }

    fn selector(service: Option<&str>, id: Option<&str>) -> InstanceSelector {
        InstanceSelector::new(service, id).unwrap()
    }

    #[test]
    fn only_passing_and_warning_instances_outside_maintenance_are_visible() {
        for (health, mode, visible, name) in [
            (Health::Passing, None, true, "passing"),
            (Health::Warning, None, true, "warning"),
            (Health::Critical, None, false, "critical"),
            (
                Health::Passing,
                Some(MaintenanceMode::Draining),
                false,
                "draining",
            ),
            (
                Health::Critical,
                Some(MaintenanceMode::Maintenance),
                false,
                "maintenance",
            ),
        ] {
            let state = InstanceState::new(health, mode);
            assert_eq!((state.is_visible(), state.name()), (visible, name));
            assert_eq!(state.is_warning(), name == "warning");
        }
    }

    #[test]
    fn maintenance_takes_precedence_over_draining() {
        let mut maintenance = MaintenanceRules::default();
        maintenance
            .set(
                selector(Some("web"), None),
                Some(MaintenanceMode::Draining),
                None,
            )
            .unwrap();
        maintenance
            .set(
                selector(Some("web"), Some("a")),
                Some(MaintenanceMode::Maintenance),
                None,
            )
            .unwrap();
        assert_eq!(
            maintenance.mode_of(&key("web", "a")),
            Some(MaintenanceMode::Maintenance)
        );
        assert_eq!(
            maintenance.mode_of(&key("web", "b")),
            Some(MaintenanceMode::Draining)
        );
        assert_eq!(maintenance.mode_of(&key("db", "a")), None);
    }

    #[test]
    fn clearing_a_selector_clears_all_that_it_covers() {
        let mut maintenance = MaintenanceRules::default();
        maintenance
            .set(
                selector(Some("web"), Some("a")),
                Some(MaintenanceMode::Maintenance),
                None,
            )
            .unwrap();
        maintenance
            .set(
                selector(Some("db"), None),
                Some(MaintenanceMode::Maintenance),
                None,
            )
            .unwrap();
        maintenance
            .set(selector(Some("web"), None), None, None)
            .unwrap();
        assert_eq!(maintenance.mode_of(&key("web", "a")), None);
        assert_eq!(
            maintenance.mode_of(&key("db", "x")),
            Some(MaintenanceMode::Maintenance)
        );
        maintenance
            .set(InstanceSelector::default(), None, None)
            .unwrap();
        assert_eq!(maintenance.iter().count(), 0);
        // Clearing one service does not clear the mode that was set for all.
        maintenance
            .set(
                InstanceSelector::default(),
                Some(MaintenanceMode::Maintenance),
                None,
            )
            .unwrap();
        maintenance
            .set(selector(Some("web"), None), None, None)
            .unwrap();
        assert_eq!(
            maintenance.mode_of(&key("web", "a")),
            Some(MaintenanceMode::Maintenance)
        );
        assert!(InstanceSelector::new(None, Some("a")).is_err());
    }
}
