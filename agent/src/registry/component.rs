//! The registry as a component of the agent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use discover_core::Result;
use futures_util::future::{BoxFuture, FutureExt, ready};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::registry::Registry;
use crate::registry::handover::SavedRegistration;
use crate::registry::state::MaintenanceMode;
use crate::runtime::component::{Component, HandOver};
use crate::runtime::metrics::MetricsWriter;
use crate::runtime::phase::{Phase, until_leaving, until_running};

/// Limit on the time to withdraw all registrations.
const STOP_TIMEOUT: Duration = Duration::from_millis(2500);

/// Runs the background tasks of the registry and hands its registrations over.
pub struct RegistryComponent {
    registry: Arc<Registry>,
    phase: watch::Receiver<Phase>,
    tasks: Mutex<JoinSet<()>>,
}

/// The hand-over state, version 1.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RegistryState {
    registrations: Vec<SavedRegistration>,
    /// Services and ids in maintenance mode. A service that is `None` stands for all, and so does an id.
    maintenance: Vec<(Option<String>, Option<String>, MaintenanceMode)>,
}

impl RegistryComponent {
    /// Wraps a registry. `phase` controls when the background tasks start and end.
    pub fn new(registry: Arc<Registry>, phase: watch::Receiver<Phase>) -> RegistryComponent {
        RegistryComponent {
            registry,
            phase,
            tasks: Mutex::default(),
        }
    }
}

impl Component for RegistryComponent {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn start(&self, inherited: Option<Value>) -> BoxFuture<'_, Result<()>> {
        async move {
            let state =
                inherited.map_or_else(|| Ok(RegistryState::default()), serde_json::from_value);
            let state = state.unwrap_or_else(|error| {
                // Clients whose registrations are unknown register again.
                tracing::warn!(component = self.name(), %error, "skipping invalid hand-over state");
                RegistryState::default()
            });
            self.registry.restore_maintenance(state.maintenance);
            self.registry.restore(state.registrations);
            let mut tasks = self.tasks.lock().await;
            let (registry, mut phase) = (self.registry.clone(), self.phase.clone());
            tasks.spawn(async move {
                if until_running(&mut phase).await {
                    registry.reconcile().await;
                }
            });
            let (registry, mut phase) = (self.registry.clone(), self.phase.clone());
            tasks.spawn(async move {
                if until_running(&mut phase).await {
                    // Clients cannot send heartbeats during a hand-over, so nothing expires during it. The next
                    // process grants every registration a whole TTL.
                    tokio::select! {
                        () = registry.run_expiry() => {}
                        () = until_leaving(&mut phase) => {}
                    }
                }
            });
            Ok(())
        }
        .boxed()
    }

    fn hand_over(&self) -> BoxFuture<'_, HandOver> {
        let maintenance = self
            .registry
            .maintenance_rules()
            .into_iter()
            .map(|(selector, mode)| {
                let [service, id] =
                    [selector.service(), selector.id()].map(|part| part.map(str::to_owned));
                (service, id, mode)
            });
        let state = serde_json::to_value(RegistryState {
            registrations: self.registry.export(),
            maintenance: maintenance.collect(),
        });
        ready(HandOver {
            state: state.ok(),
            ..HandOver::default()
        })
        .boxed()
    }

    /// Withdraws all registrations. Registrations that arrive in the meantime fail.
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        async move {
            let timeout = deadline.saturating_duration_since(Instant::now());
            self.registry.close(timeout.min(STOP_TIMEOUT)).await;
            self.tasks.lock().await.shutdown().await;
        }
        .boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        let (registrations, expired) = self.registry.counts();
        out.gauge(
            "discoverd_registrations",
            "Instances registered with this agent, published or withheld",
            registrations,
        )?;
        out.gauge_family(
            "discoverd_instances",
            "Instances registered with this agent, by state",
            ["state"],
            self.registry
                .states()
                .into_iter()
                .map(|(state, count)| ([state], count)),
        )?;
        let mut services: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
        for status in self.registry.list() {
            let service = status.instance.service().to_string();
            *services.entry((service, status.state.name())).or_default() += 1;
        }
        out.gauge_family(
            "discoverd_service_registrations",
            "Instances registered with this agent, by service and state",
            ["service", "state"],
            services
                .iter()
                .map(|((service, state), count)| ([service.as_str(), state], *count)),
        )?;
        out.counter(
            "discoverd_expired",
            "Registrations that were removed because no heartbeat arrived within their TTL",
            expired,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_of_the_release_before_are_read() {
        let state = r#"{"registrations": [{"service": "web", "id": "10.0.0.1:80", "address": "10.0.0.1:80",
            "attributes": {"zone": "eu"}, "tags": ["blue"], "owner": "me", "grant": 7,
            "ttl": {"secs": 10, "nanos": 0}, "asked": {"secs": 30, "nanos": 0},
            "keep": {"Reports": {"secs": 3600, "nanos": 0}}, "health": "warning", "note": "",
            "left": null}], "maintenance": [["web", null, "draining"]]}"#;
        let state: RegistryState = serde_json::from_str(state).unwrap();
        assert_eq!((state.registrations.len(), state.maintenance.len()), (1, 1));
    }
}
