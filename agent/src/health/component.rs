//! The health checks as a component of the agent.

use std::fmt;
use std::sync::Arc;

use discover_core::{Result, ServiceName};
use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::Value;
use tokio::time::Instant;

use crate::health::check_policy::CheckPolicy;
use crate::health::{Checks, SavedCheck};
use crate::registry::Registry;
use crate::runtime::component::{Component, HandOver};
use crate::runtime::metrics::MetricsWriter;

/// Continues health checks from one process to the next. Starts after the registry.
pub struct HealthComponent {
    checks: Arc<Checks>,
    registry: Arc<Registry>,
    policy: CheckPolicy,
}

impl HealthComponent {
    /// Wraps the checks of a registry. Checks that `policy` does not allow are not continued.
    pub fn new(
        checks: Arc<Checks>,
        registry: Arc<Registry>,
        policy: CheckPolicy,
    ) -> HealthComponent {
        HealthComponent {
            checks,
            registry,
            policy,
        }
    }

    /// Continues a check of the previous process. If the settings do not allow it any more, the registration is
    /// dropped, too: it would stay as it is without being checked.
    fn resume(&self, saved: SavedCheck) {
        let SavedCheck {
            service,
            id,
            check,
            peer,
        } = saved;
        let Ok(service) = ServiceName::new(&service) else {
            return;
        };
        let key = (service, id);
        let Some((grant, health)) = self.registry.grant_and_health(&key) else {
            return;
        };
        match self.policy.readmit(check) {
            Some(check) => self.checks.resume(key, grant, check, health, peer),
            None => {
                let (service, id) = &key;
                tracing::warn!(
                    %service,
                    instance = %id,
                    "cannot restore a registration: the settings do not allow its check any more"
                );
                self.registry.drop_registration(&key, grant);
            }
        }
    }
}

impl Component for HealthComponent {
    fn name(&self) -> &'static str {
        "health"
    }

    fn start(&self, inherited: Option<Value>) -> BoxFuture<'_, Result<()>> {
        let state = inherited.map_or_else(|| Ok(Vec::new()), serde_json::from_value);
        let state: Vec<SavedCheck> = state.unwrap_or_else(|error| {
            tracing::warn!(component = self.name(), %error, "skipping invalid hand-over state");
            Vec::new()
        });
        state.into_iter().for_each(|saved| self.resume(saved));
        ready(Ok(())).boxed()
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        self.checks.close().boxed()
    }

    fn hand_over(&self) -> BoxFuture<'_, HandOver> {
        ready(HandOver {
            state: serde_json::to_value(self.checks.export()).ok(),
            ..HandOver::default()
        })
        .boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        self.checks.close().boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        let help = "Instances whose health the agent checks";
        out.gauge("discoverd_checks", help, self.checks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_the_release_before_are_read() {
        let check = |what: &str, reach: &str| {
            let time = r#"{"secs": 1, "nanos": 0}"#;
            format!(
                r#"{{"service": "web", "id": "10.0.0.1:80", "check": {{"what": {what}, "interval": {time},
                "timeout": {time}, "start": {time}, "up": 1, "down": 3, "reach": {reach}}}}}"#
            )
        };
        let networks = r#"[{"address": "10.9.0.0", "bits": 16}]"#;
        let state = format!(
            "[{}, {}, {}]",
            check(r#"{"Tcp": "10.0.0.1:80"}"#, r#""Anywhere""#),
            check(
                r#"{"Http": {"address": "h:80", "path": "/", "tls": null}}"#,
                &format!(r#"{{"Ordinary": {networks}}}"#)
            ),
            check(
                r#"{"Exec": [["true"], null]}"#,
                &format!(r#"{{"Only": ["10.0.0.1", {networks}]}}"#)
            ),
        );
        let state: Vec<SavedCheck> = serde_json::from_str(&state).unwrap();
        assert_eq!(state.len(), 3);
    }
}
