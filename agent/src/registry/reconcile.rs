//! Reconciler: publishes instances in the store and withdraws them, according to their health and maintenance
//! mode.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use discover_core::{ErrorKind, Instance, Result, Standing};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::Registry;
use crate::net::peer::Peer;
use crate::registry::change_log::ChangeOrigin;
use crate::registry::entry::LivenessSource;
use crate::registry::key::InstanceKey;
use crate::registry::state::{Health, InstanceSelector, InstanceState, MaintenanceMode};
use crate::registry::table::{self};

/// Interval between attempts to reconcile instances after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of instances that are published or withdrawn at a time.
const MAX_CONCURRENT_RECONCILES: usize = 32;

/// Status of a registration.
pub struct RegistrationStatus {
    /// The instance. Its creation time is not known here; it is in the store.
    pub instance: Instance,
    /// State of the instance.
    pub state: InstanceState,
    /// Text of the last check result.
    pub note: String,
    /// Time since the health last changed.
    pub health_age: Duration,
    /// Source of the evidence that the instance is alive.
    pub liveness: LivenessSource,
    /// Reason why the store does not show the wanted state.
    pub error: Option<String>,
}

impl Registry {
    /// Records the result of a health check and reconciles the instance.
    ///
    /// # Errors
    ///
    /// Fails if the registration was removed or has another grant, or if the store could not be changed.
    pub async fn report(
        &self,
        key: &InstanceKey,
        grant: u64,
        health: Health,
        note: String,
    ) -> Result<()> {
        let now = self.start.elapsed();
        if self
            .table()
            .record_check(key, Some(grant), health, note, now)?
        {
            self.deadlines_changed.notify_one();
        }
        self.reconcile_one(key, Some(grant)).await
    }

    /// Returns the health of a registration, if it has this grant.
    pub fn health(&self, key: &InstanceKey, grant: u64) -> Option<Health> {
        self.table()
            .get(key, Some(grant))
            .ok()
            .map(|entry| entry.health)
    }

    /// Sets or clears the maintenance mode of instances, including those that register later. Returns the
    /// number of registrations that the selector matches now.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if this client may set no more modes.
    pub async fn set_maintenance(
        &self,
        selector: InstanceSelector,
        mode: Option<MaintenanceMode>,
        peer: Peer,
    ) -> Result<usize> {
        self.maintenance().set(selector.clone(), mode, Some(peer))?;
        let count = {
            let table = self.table();
            table
                .iter()
                .filter(|(key, _)| selector.matches(key))
                .count()
        };
        ChangeOrigin::new(Some(peer)).log_maintenance(&selector, mode, count);
        if self.reconcile_all().await {
            self.reconcile_needed.notify_one();
        }
        Ok(count)
    }

    /// Returns the maintenance modes that operators have set.
    pub fn maintenance_rules(&self) -> Vec<(InstanceSelector, MaintenanceMode)> {
        let maintenance = self.maintenance();
        maintenance
            .iter()
            .map(|(selector, mode)| (selector.clone(), mode))
            .collect()
    }

    /// Returns the status of all registrations, sorted by service and id.
    pub fn list(&self) -> Vec<RegistrationStatus> {
        let now = self.start.elapsed();
        let maintenance = self.maintenance();
        let table = self.table();
        let mut all: Vec<(&InstanceKey, RegistrationStatus)> = table
            .iter()
            .map(|(key, entry)| {
                let known = RegistrationStatus {
                    instance: entry.published.instance(),
                    state: InstanceState::new(entry.health, maintenance.mode_of(key)),
                    note: entry.note.clone(),
                    health_age: now.saturating_sub(entry.health_since),
                    liveness: entry.liveness,
                    error: entry.published.error(),
                };
                (key, known)
            })
            .collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, known)| known).collect()
    }

    /// Returns the number of registrations in each state. States without registrations are left out.
    pub fn states(&self) -> BTreeMap<&'static str, u64> {
        let maintenance = self.maintenance();
        let table = self.table();
        let mut states = BTreeMap::new();
        for (key, entry) in table.iter() {
            let state = InstanceState::new(entry.health, maintenance.mode_of(key));
            *states.entry(state.name()).or_default() += 1;
        }
        states
    }

    /// Reconciles instances when their state changes, and retries after failures, until cancelled.
    pub async fn reconcile(self: Arc<Registry>) {
        loop {
            self.reconcile_needed.notified().await;
            while self.reconcile_all().await {
                sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Reconciles all instances that need it. Returns true if some failed and should be retried.
    async fn reconcile_all(&self) -> bool {
        let todo: Vec<(InstanceKey, u64)> = {
            let maintenance = self.maintenance();
            let table = self.table();
            let pending = table.iter().filter(|(key, entry)| {
                let state = InstanceState::new(entry.health, maintenance.mode_of(key));
                !entry.published.is_reconciled(state)
                    || matches!(entry.published.standing(), Standing::Replaced(_))
            });
            pending
                .map(|(key, entry)| (key.clone(), entry.grant))
                .collect()
        };
        let mut needs_retry = false;
        for batch in todo.chunks(MAX_CONCURRENT_RECONCILES) {
            let results = batch
                .iter()
                .map(|(key, grant)| self.reconcile_one(key, Some(*grant)));
            let failed = |result: &Result<()>| result.as_ref().is_err_and(|e| e.is_retriable());
            needs_retry |= join_all(results).await.iter().any(failed);
        }
        needs_retry
    }

    /// Publishes, updates or withdraws one instance, so that the store shows its state.
    pub(super) async fn reconcile_one(&self, key: &InstanceKey, grant: Option<u64>) -> Result<()> {
        let key_lock = self.lock_key(key).await;
        if self.is_closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mode = self.maintenance().mode_of(key);
        let (published, health) = {
            let table = self.table();
            let entry = table.get(key, grant)?;
            (entry.published.clone(), entry.health)
        };
        let state = InstanceState::new(health, mode);
        let replaced = matches!(published.standing(), Standing::Replaced(_));
        if published.is_reconciled(state) && !replaced {
            return Ok(());
        }
        let result = if replaced {
            Err(table::replaced_error(key))
        } else if state.is_visible() {
            let registration = published.published_registration(state.is_warning())?;
            // While the instance was withdrawn, another owner may have taken its id.
            let claim = match published.was_withdrawn() {
                true => self.check_id_is_free(key, &registration, None).await,
                false => Ok(()),
            };
            match claim {
                Ok(()) => published.publish(state.is_warning()).await,
                conflict => conflict,
            }
        } else {
            published.withdraw().await
        };
        let (service, id) = (&key.0, &key.1);
        match result {
            Ok(()) => {
                published.set_error(None);
                tracing::info!(%service, instance = %id, state = state.name(), "instance published or withheld");
                let registration = state
                    .is_visible()
                    .then(|| published.published_registration(state.is_warning()));
                self.wait_until_observed(key, registration.transpose()?.as_ref())
                    .await;
                drop(key_lock);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Replaced => {
                tracing::warn!(%service, instance = %id, "registration removed: replaced by another owner");
                self.remove_lost(key, grant, table::replaced_error(key));
                Err(table::replaced_error(key))
            }
            Err(error) => {
                // Logged once for each reason, not at every check.
                if published.set_error(Some(error.report())) {
                    tracing::warn!(
                        %service,
                        instance = %id,
                        state = state.name(),
                        error = %error.report(),
                        "cannot publish or withhold an instance, retrying"
                    );
                }
                Err(error)
            }
        }
    }
}
