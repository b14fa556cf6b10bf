//! Registrations in the hand-over state: export by one process of the agent, restore by the next.

use std::sync::Arc;
use std::time::Duration;

use discover_core::{Attributes, OnConflict, Result, ServiceName, Standing};
use serde::{Deserialize, Serialize};

use crate::net::peer::Peer;
use crate::net::quota::QuotaPermit;
use crate::registry::entry::{LivenessSource, TableEntry};
use crate::registry::key::InstanceKey;
use crate::registry::published::PublishedInstance;
use crate::registry::state::{Health, InstanceSelector, MaintenanceMode};
use crate::registry::{DEFAULT_TTL, RegistrationRequest, Registry};

/// A registration in the hand-over state. The names of the fields are part of its format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedRegistration {
    service: String,
    id: String,
    address: String,
    attributes: Attributes,
    tags: Vec<String>,
    owner: String,
    /// Client for which the registration counts. Missing in the state of older releases.
    #[serde(default)]
    peer: Option<Peer>,
    grant: u64,
    /// Longest time between two heartbeats.
    ttl: Duration,
    /// TTL of the entry in the store. Missing in the state of older releases.
    #[serde(rename = "asked")]
    store_ttl: Option<Duration>,
    #[serde(rename = "keep")]
    liveness: LivenessSource,
    health: Health,
    note: String,
    /// Time until a critical registration expires.
    #[serde(rename = "left")]
    time_to_expiry: Option<Duration>,
}

impl Registry {
    /// Returns all registrations. Nothing is changed or removed. Registrations that were replaced are left
    /// out, even if their owners do not know yet: the next process would overwrite the entry of the new
    /// owner.
    pub fn export(&self) -> Vec<SavedRegistration> {
        let now = self.start.elapsed();
        let table = self.table();
        let mut all: Vec<SavedRegistration> = table
            .iter()
            .filter(|(_, entry)| match entry.published.standing() {
                Standing::Live | Standing::Lapsed(_) => true,
                Standing::Replaced(_) | Standing::Released => false,
            })
            .map(|((service, id), entry)| {
                let instance = entry.published.requested_instance();
                let expires = entry.health == Health::Critical && entry.deadline < Duration::MAX;
                SavedRegistration {
                    service: service.to_string(),
                    id: id.clone(),
                    address: instance.address().to_owned(),
                    attributes: instance.attributes().clone(),
                    tags: instance.tags().to_vec(),
                    owner: entry.owner.clone(),
                    peer: entry.permit.as_ref().map(QuotaPermit::peer),
                    grant: entry.grant,
                    ttl: entry.ttl,
                    store_ttl: Some(entry.published.ttl()),
                    liveness: entry.liveness,
                    health: entry.health,
                    note: entry.note.clone(),
                    time_to_expiry: expires.then(|| entry.deadline.saturating_sub(now)),
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        all
    }

    /// Restores the registrations of the previous process with their grants and a whole TTL. The reconciler
    /// then publishes them, overwriting what is in the store.
    pub fn restore(&self, all: Vec<SavedRegistration>) {
        for saved in all {
            let (service, id) = (saved.service.clone(), saved.id.clone());
            if let Err(error) = self.restore_registration(saved) {
                tracing::warn!(%service, instance = %id, error = %error.report(), "cannot restore a registration");
            }
        }
        self.reconcile_needed.notify_one();
        self.deadlines_changed.notify_one();
    }

    /// Returns the grant and the health of a registration.
    pub fn grant_and_health(&self, key: &InstanceKey) -> Option<(u64, Health)> {
        let table = self.table();
        let entry = table.get(key, None).ok()?;
        Some((entry.grant, entry.health))
    }

    /// Drops a registration without withdrawing it from the store, where the entry expires with its TTL.
    pub fn drop_registration(&self, key: &InstanceKey, grant: u64) {
        // Another grant may have replaced it in the meantime.
        let _ = self.table().remove(key, Some(grant));
    }

    fn restore_registration(&self, saved: SavedRegistration) -> Result<()> {
        let service = ServiceName::new(&saved.service)?;
        let request = RegistrationRequest {
            service: service.clone(),
            id: saved.id,
            address: saved.address,
            attributes: saved.attributes,
            tags: saved.tags,
            ttl: saved.store_ttl.unwrap_or(match saved.liveness {
                // The interval of the heartbeats, not the TTL in the store.
                LivenessSource::HealthReports(_) => saved.ttl.max(DEFAULT_TTL),
                _ => saved.ttl,
            }),
            on_conflict: OnConflict::Replace,
            owner: saved.owner,
            peer: saved.peer,
            liveness: saved.liveness,
            heartbeat_interval: None,
            health: saved.health,
            is_deferred: true,
        };
        let registration = self.registration(&request)?;
        let key: InstanceKey = (service, registration.instance_id());
        let now = self.start.elapsed();
        let instance = registration.instance(0);
        let permit = self.admit(request.peer, &key, &request.owner, &instance)?;
        let entry = TableEntry {
            grant: saved.grant,
            owner: request.owner,
            ttl: saved.ttl,
            deadline: Duration::ZERO,
            liveness: saved.liveness,
            health: saved.health,
            health_since: Duration::ZERO,
            note: saved.note,
            permit,
            published: Arc::new(
                PublishedInstance::new(self.client.clone(), registration, request.ttl, true)
                    .with_reconciler(self.reconcile_needed.clone()),
            ),
        };
        let mut entry = entry.started_at(now);
        if let Some(time) = saved.time_to_expiry {
            entry.deadline = now.saturating_add(time);
        }
        drop(self.table().insert(key, entry));
        Ok(())
    }

    /// Restores the maintenance modes of the previous process.
    pub fn restore_maintenance(
        &self,
        modes: Vec<(Option<String>, Option<String>, MaintenanceMode)>,
    ) {
        for (service, id, mode) in modes {
            let restored = InstanceSelector::new(service.as_deref(), id.as_deref())
                .and_then(|selector| self.maintenance().set(selector, Some(mode), None));
            if let Err(error) = restored {
                tracing::warn!(error = %error.report(), "cannot restore a maintenance mode");
            }
        }
    }
}
