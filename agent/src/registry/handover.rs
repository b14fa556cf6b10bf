//! What is registered, on its way from one run of the agent to the next.

use std::sync::Arc;
use std::time::Duration;

use discover_core::{Attributes, OnConflict, Result, ServiceName, Standing};
use serde::{Deserialize, Serialize};

use crate::registry::key::InstanceKey;
use crate::registry::published::PublishedInstance;
use crate::registry::state::{Health, Mode, Whom};
use crate::registry::table::{Held, Keep};
use crate::registry::{Asked, DEFAULT_TTL, Registry};

/// One registration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registered {
    service: String,
    id: String,
    address: String,
    attributes: Attributes,
    tags: Vec<String>,
    owner: String,
    grant: u64,
    /// How long it lives without a heartbeat.
    ttl: Duration,
    /// How long it stays in the store without the agent, where a run has said so: who reports does that
    /// another often.
    asked: Option<Duration>,
    keep: Keep,
    health: Health,
    note: String,
    /// For how long it may go on being critical.
    left: Option<Duration>,
}

impl Registry {
    /// All that is registered. Nothing of it is changed, nor taken away. Without those that have lost their
    /// place and were not told yet: the next run writes over what is there, and would take it from whoever
    /// has it rightly.
    pub fn registered(&self) -> Vec<Registered> {
        let now = self.start.elapsed();
        let table = self.table();
        let mut all: Vec<Registered> = table
            .iter()
            .filter(|(_, held)| match held.lease.standing() {
                Standing::Live | Standing::Lapsed(_) => true,
                Standing::Replaced(_) | Standing::Released => false,
            })
            .map(|((service, id), held)| {
                let instance = held.lease.instance();
                let over = held.health == Health::Critical && held.until < Duration::MAX;
                Registered {
                    service: service.to_string(),
                    id: id.clone(),
                    address: instance.address().to_owned(),
                    attributes: instance.attributes().clone(),
                    tags: instance.tags().to_vec(),
                    owner: held.owner.clone(),
                    grant: held.grant,
                    ttl: held.ttl,
                    asked: Some(held.lease.ttl()),
                    keep: held.keep,
                    health: held.health,
                    note: held.note.clone(),
                    left: over.then(|| held.until.saturating_sub(now)),
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        all
    }

    /// Goes on with what the run before had registered: under the same numbers, for a whole TTL more, to be
    /// written again as soon as the store takes it, over what is there.
    pub fn adopt(&self, all: Vec<Registered>) {
        for one in all {
            let (service, id) = (one.service.clone(), one.id.clone());
            if let Err(error) = self.adopt_one(one) {
                tracing::warn!(%service, instance = %id, error = %error.report(), "cannot restore a registration");
            }
        }
        self.unsettled.notify_one();
        self.changed.notify_one();
    }

    /// Returns the grant and the health of a registration.
    pub fn grant_and_health(&self, key: &InstanceKey) -> Option<(u64, Health)> {
        let table = self.table();
        let held = table.get(key, None).ok()?;
        Some((held.grant, held.health))
    }

    /// Drops a registration without withdrawing it from the store: the entry there expires with its TTL.
    pub fn forget(&self, key: &InstanceKey, grant: u64) {
        // The registration may have been replaced in the meantime.
        let _ = self.table().remove(key, Some(grant));
    }

    fn adopt_one(&self, one: Registered) -> Result<()> {
        let service = ServiceName::new(&one.service)?;
        let asked = Asked {
            service: service.clone(),
            id: one.id,
            address: one.address,
            attributes: one.attributes,
            tags: one.tags,
            ttl: one.asked.unwrap_or(match one.keep {
                // That is how often it reports.
                Keep::Reports(_) => one.ttl.max(DEFAULT_TTL),
                _ => one.ttl,
            }),
            claim: OnConflict::Replace,
            owner: one.owner,
            keep: one.keep,
            beat: None,
            health: one.health,
            patient: true,
        };
        let registration = self.registration(&asked)?;
        let key: InstanceKey = (service, registration.instance_id());
        let now = self.start.elapsed();
        let held = Held {
            grant: one.grant,
            owner: asked.owner,
            ttl: one.ttl,
            until: Duration::ZERO,
            keep: one.keep,
            health: one.health,
            since: Duration::ZERO,
            note: one.note,
            lease: Arc::new(PublishedInstance::new(
                self.client.clone(),
                registration,
                asked.ttl,
            )),
        };
        let mut held = held.begun(now);
        if let Some(left) = one.left {
            held.until = now.saturating_add(left);
        }
        drop(self.table().insert(key, held));
        Ok(())
    }

    /// Holds back whom the run before did.
    pub fn adopt_held(&self, held: Vec<(Option<String>, Option<String>, Mode)>) {
        for (service, id, mode) in held {
            match Whom::new(service.as_deref(), id.as_deref()) {
                Ok(whom) => self.withheld().set(whom, Some(mode)),
                Err(error) => {
                    tracing::warn!(error = %error.report(), "cannot restore a maintenance mode");
                }
            }
        }
    }
}
