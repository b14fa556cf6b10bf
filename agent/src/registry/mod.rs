//! Registrations of this agent: instances that applications register, published in the store through the
//! agent's client while they are alive and healthy.

pub mod attribute_change;
mod change_log;
pub mod component;
pub mod entry;
pub mod handover;
pub mod key;
pub mod losses;
mod published;
mod quota;
pub mod reconcile;
mod revoked;
pub mod state;
pub mod table;
#[cfg(test)]
mod tests;
mod visibility;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_core::{
    Attributes, Client, Error, ErrorKind, OnConflict, Registration, Result, ServiceName, Standing,
};
use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits};
use crate::service_cache::ServiceCache;
use crate::store::StoreFailure;
use attribute_change::AttributeChange;
use change_log::{ChangeOrigin, RegistrationChange};
use entry::{LivenessSource, TableEntry};
use key::InstanceKey;
use losses::Losses;
use published::PublishedInstance;
use state::{Health, InstanceState, MaintenanceRules};
use table::{ClaimCheck, RegistrationTable};

/// TTL of a registration that requests none.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// Minimum time after the start of the agent in which an entry in the store may be one that the previous
/// process wrote.
const STARTUP_GRACE: Duration = Duration::from_secs(3);
/// Number of locks that serialize the operations on one instance. Keys are hashed to locks.
const KEY_LOCK_STRIPES: usize = 64;

/// Request to register an instance.
#[derive(Clone, Debug)]
pub struct RegistrationRequest {
    /// Service name.
    pub service: ServiceName,
    /// Instance id; may equal the address.
    pub id: String,
    /// `host:port`, or `:port` for the address of this host.
    pub address: String,
    /// Attributes of the instance.
    pub attributes: Attributes,
    /// Tags of the instance.
    pub tags: Vec<String>,
    /// TTL of the entry in the store; also the longest time between two heartbeats, unless `heartbeat_interval` is set.
    pub ttl: Duration,
    /// Behavior if another owner has the instance.
    pub on_conflict: OnConflict,
    /// Name of the client; empty if it sent none.
    pub owner: String,
    /// Client for which the registration counts. `None` for those of the configuration file, which count for none.
    pub peer: Option<Peer>,
    /// Source of the evidence that the instance is alive.
    pub liveness: LivenessSource,
    /// Longest time between two heartbeats, if it differs from the TTL.
    pub heartbeat_interval: Option<Duration>,
    /// Initial health.
    pub health: Health,
    /// If true, [`Registry::register`] only records the instance, and the reconciler publishes it.
    pub is_deferred: bool,
}

/// Response to a [`RegistrationRequest`].
#[derive(Clone, Debug)]
pub struct RegistrationGrant {
    /// Number that identifies the registration.
    pub grant: u64,
    /// TTL of the entry in the store; also the longest time between two heartbeats, unless `heartbeat_interval` is set.
    pub ttl: Duration,
    /// Id under which the instance is published.
    pub id: String,
    /// Address with the host.
    pub address: String,
    /// State of the instance.
    pub state: InstanceState,
}

/// Registry of the agent: the registrations, their maintenance modes, and the locks that serialize changes of
/// each.
pub struct Registry {
    client: Client,
    service_cache: Arc<ServiceCache>,
    /// Host of registrations whose address has none.
    host: IpAddr,
    start: Instant,
    quota: Arc<Quota>,
    table: Mutex<RegistrationTable<Arc<PublishedInstance>>>,
    maintenance: Mutex<MaintenanceRules>,
    /// Notified when the store may not show the wanted state of an instance.
    reconcile_needed: Arc<Notify>,
    losses: Losses,
    is_closed: AtomicBool,
    key_locks: [Arc<tokio::sync::Mutex<()>>; KEY_LOCK_STRIPES],
    hasher: RandomState,
    deadlines_changed: Notify,
    expired: AtomicU64,
}

impl Registry {
    /// Creates an empty registry that registers through `client`. The caller spawns [`Registry::run_expiry`]
    /// and [`Registry::reconcile`].
    pub fn new(
        client: Client,
        service_cache: Arc<ServiceCache>,
        host: IpAddr,
        limits: QuotaLimits,
    ) -> Arc<Registry> {
        Arc::new(Registry {
            client,
            service_cache,
            host,
            start: Instant::now(),
            quota: Quota::new("registrations", limits),
            table: Mutex::default(),
            maintenance: Mutex::default(),
            reconcile_needed: Arc::default(),
            losses: Losses::default(),
            is_closed: AtomicBool::new(false),
            key_locks: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
            deadlines_changed: Notify::new(),
            expired: AtomicU64::new(0),
        })
    }

    /// Registers an instance and publishes it, unless its health or maintenance prevents that. When this
    /// returns, readers of this agent and of the store see the instance, unless the request is deferred.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if a limit on registrations is reached.
    pub async fn register(&self, request: RegistrationRequest) -> Result<RegistrationGrant> {
        let registration = self.registration(&request)?;
        let key = (request.service.clone(), registration.instance_id());
        let _key_lock = self.lock_key(&key).await;
        self.check_open(&key)?;
        let claim = self
            .table()
            .check_claim(&key, &request.owner, request.on_conflict)?;
        // Soon after the start, an entry in the store may be the owner's own, written by the previous process
        // before the owner's last change.
        let is_startup = self.start.elapsed() < request.ttl.max(STARTUP_GRACE);
        if claim == ClaimCheck::NotInTable && !is_startup {
            self.check_id_is_free(&key, &registration, request.peer)
                .await?;
        }
        let permit = self.admit(
            request.peer,
            &key,
            &request.owner,
            &registration.instance(0),
        )?;
        let is_restored = request.on_conflict == OnConflict::RestoreOnly;
        let published = Arc::new(
            PublishedInstance::new(
                self.client.clone(),
                registration.clone(),
                request.ttl,
                is_restored,
            )
            .with_reconciler(self.reconcile_needed.clone()),
        );
        let state = InstanceState::new(request.health, self.maintenance().mode_of(&key));
        if state.is_visible() && !request.is_deferred {
            published.publish(state.is_warning()).await?;
        } else if let Ok(before) = self.table().get(&key, None) {
            published.take_over(&before.published);
        }
        if let Err(error) = self.check_open(&key) {
            published.withdraw().await?;
            return Err(error);
        }
        let grant = fastrand::u64(1..);
        let entry = TableEntry {
            grant,
            owner: request.owner,
            ttl: request.heartbeat_interval.unwrap_or(request.ttl),
            deadline: Duration::ZERO,
            liveness: request.liveness,
            health: request.health,
            health_since: Duration::ZERO,
            note: String::new(),
            permit,
            published: published.clone(),
        };
        let entry = entry.started_at(self.start.elapsed());
        let origin = ChangeOrigin::new(request.peer);
        // The previous lease ends when its last reference is dropped; it does not delete the entry written
        // here.
        let (change, replaced) = {
            let mut table = self.table();
            let change = RegistrationChange::new(table.get(&key, None).ok(), &entry);
            (change, table.insert(key.clone(), entry))
        };
        origin.log_registration(&key, change);
        if let (RegistrationChange::TakenOver, Some(replaced)) = (change, replaced) {
            self.report_loss(&key, &replaced, table::replaced_error(&key));
        }
        self.deadlines_changed.notify_one();
        if !state.is_visible() && !request.is_deferred && published.withdraw().await.is_ok() {
            // Readers do not see the registration that this one replaces any more.
            self.wait_until_observed(&key, None).await;
        }
        // Maintenance may have changed in the meantime. A deferred request is not published yet.
        if !published.is_reconciled(InstanceState::new(
            request.health,
            self.maintenance().mode_of(&key),
        )) {
            self.reconcile_needed.notify_one();
        } else if state.is_visible() {
            self.wait_until_observed(
                &key,
                Some(&published.published_registration(state.is_warning())?),
            )
            .await;
        }
        Ok(RegistrationGrant {
            grant,
            ttl: request.ttl,
            id: key.1,
            address: registration.address(),
            state,
        })
    }

    /// Records a heartbeat, with the health if the registration has a `ttl` check. Returns the attributes that the
    /// instance adopted from others, as far as its owner did not send them.
    ///
    /// # Errors
    ///
    /// Fails if the registration has another grant, was replaced or released, or if the store has not
    /// confirmed it.
    pub async fn heartbeat(
        &self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Option<Health>,
    ) -> Result<Attributes> {
        // The rest is about this grant, not about one that may replace it in the meantime.
        let (published, grant, reports) = {
            let mut table = self.table();
            let before = table.get(key, grant)?.health;
            let entry = table.record_heartbeat(key, grant, health, self.start.elapsed())?;
            if entry.health != before {
                self.deadlines_changed.notify_one();
            }
            let reports = matches!(entry.liveness, LivenessSource::HealthReports(_));
            (entry.published.clone(), Some(entry.grant), reports)
        };
        if reports {
            self.reconcile_one(key, grant).await?;
        }
        match published.standing() {
            Standing::Live => Ok(published.adopted_attributes()),
            Standing::Lapsed(error) => {
                let text = format!(
                    "{}/{}: the store has not confirmed the registration",
                    key.0, key.1
                );
                let cause = StoreFailure::wrap(error);
                Err(Error::caused_by(ErrorKind::Unavailable, text, cause))
            }
            Standing::Replaced(_) => {
                // Removed so that the owner's next request is checked anew.
                self.remove_lost(key, grant, table::replaced_error(key));
                Err(table::replaced_error(key))
            }
            Standing::Released => {
                drop(self.table().remove(key, grant));
                let text = format!("{}/{}: the registration was released", key.0, key.1);
                Err(Error::new(ErrorKind::LeaseLost, text))
            }
        }
    }

    /// Changes the attributes. The creation time and the tags stay. The registration then counts for `peer`.
    pub async fn update(
        &self,
        peer: Option<Peer>,
        key: &InstanceKey,
        grant: Option<u64>,
        change: AttributeChange,
    ) -> Result<()> {
        let is_by_owner = grant.is_some();
        let key_lock = self.lock_key(key).await;
        let (published, grant, health, owner) = {
            let table = self.table();
            let entry = table.get(key, grant)?;
            (
                entry.published.clone(),
                entry.grant,
                entry.reported_health(),
                entry.owner.clone(),
            )
        };
        let attributes = change.apply(published.attributes());
        let next = published.with_attributes(&attributes)?;
        let permit = self.admit(peer, key, &owner, &next)?;
        published.update(attributes).await?;
        ChangeOrigin::new(peer).log_update(key, is_by_owner);
        self.table().set_permit(key, grant, permit);
        drop(key_lock);
        // An update proves that the owner is alive, and leaves its health as last reported.
        self.heartbeat(key, Some(grant), health).await.map(drop)
    }

    /// Removes an instance. If `grant` is given and the instance is unknown or has another grant, nothing
    /// happens. Without it, an owner that is a program of the library receives [`ErrorKind::Replaced`] and does not
    /// register the instance again.
    pub async fn unregister(
        &self,
        peer: Option<Peer>,
        key: &InstanceKey,
        grant: Option<u64>,
    ) -> Result<()> {
        let _key_lock = self.lock_key(key).await;
        let removed = match grant {
            Some(_) => self.table().remove(key, grant),
            None => self.table().revoke(key),
        };
        let entry = match removed {
            Ok(entry) => entry,
            Err(_) if grant.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        ChangeOrigin::new(peer).log_removal(key, grant.is_some());
        if grant.is_none() {
            self.report_loss(key, &entry, table::revoked_error(key));
        }
        entry.published.withdraw().await?;
        self.wait_until_observed(key, None).await;
        Ok(())
    }

    /// Removes all instances within `within`, including those whose registration is in progress. Later
    /// registrations fail.
    pub async fn close(&self, within: Duration) {
        self.is_closed.store(true, Ordering::SeqCst);
        let released = (0..KEY_LOCK_STRIPES).map(|stripe| self.close_stripe(stripe));
        let Ok(all) = timeout(within, join_all(released)).await else {
            tracing::warn!(timeout = ?within, "not all registrations were withdrawn in time");
            return;
        };
        // Event streams deliver the removal before they end.
        let last: HashMap<&ServiceName, &InstanceKey> =
            all.iter().flatten().map(|key| (&key.0, key)).collect();
        let observed = last.values().map(|key| self.wait_until_observed(key, None));
        // If this times out, readers see the removal later.
        let _ = timeout(within, join_all(observed)).await;
    }

    /// Removes the instances of one lock stripe, after the operation that holds the lock.
    async fn close_stripe(&self, stripe: usize) -> Vec<InstanceKey> {
        let _key_lock = self.key_locks[stripe].lock().await;
        let all = self
            .table()
            .remove_where(|key| self.stripe_of(key) == stripe);
        join_all(all.iter().map(|(_, entry)| entry.published.withdraw())).await;
        all.into_iter().map(|(key, _)| key).collect()
    }

    /// Removes registrations without heartbeats when they expire, until cancelled.
    pub async fn run_expiry(self: Arc<Registry>) {
        loop {
            // Both steps use the same time: a registration that falls silent between two readings would
            // expire without becoming critical first.
            let now = self.start.elapsed();
            for (service, id) in self.table().mark_silent_critical(now) {
                tracing::warn!(%service, instance = %id, "instance is critical: no heartbeat");
                self.reconcile_needed.notify_one();
            }
            let expired = self.table().remove_expired(now);
            for (key, entry) in expired {
                self.expired.fetch_add(1, Ordering::Relaxed);
                self.report_loss(&key, &entry, table::missing_error(&key, Some(entry.grant)));
                let (service, id) = &key;
                match entry.health {
                    Health::Critical => {
                        tracing::warn!(%service, instance = %id, "registration removed: critical for too long");
                    }
                    _ => tracing::info!(
                        %service,
                        instance = %id,
                        ttl = ?entry.ttl,
                        "registration removed: no heartbeat within the TTL"
                    ),
                }
            }
            let next = self.table().next_deadline().map(|next| self.start + next);
            let deadline_passed = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deadline_passed => {}
                () = self.deadlines_changed.notified() => {}
            }
        }
    }

    /// Returns the number of registrations, and how many have expired since the start.
    pub fn counts(&self) -> (usize, u64) {
        (self.table().len(), self.expired.load(Ordering::Relaxed))
    }

    /// Returns the services that have registrations, sorted.
    pub fn services(&self) -> Vec<ServiceName> {
        self.table().services()
    }

    /// Returns the core's registration for a request, with the host of this agent if the address has none.
    pub fn registration(&self, request: &RegistrationRequest) -> Result<Registration> {
        let mut registration = Registration::at(request.service.as_str(), &request.address)?
            .attributes(request.attributes.clone())?
            .tags(request.tags.clone())?
            .ttl(request.ttl)?;
        if request.address.starts_with(':') {
            registration = registration.host(&self.host.to_string())?;
        }
        let has_own_id = request.id != registration.address() && request.id != request.address;
        if has_own_id {
            registration.id(&request.id)
        } else {
            Ok(registration)
        }
    }

    async fn lock_key(&self, key: &InstanceKey) -> OwnedMutexGuard<()> {
        self.key_locks[self.stripe_of(key)]
            .clone()
            .lock_owned()
            .await
    }

    fn stripe_of(&self, key: &InstanceKey) -> usize {
        self.hasher.hash_one(key) as usize % KEY_LOCK_STRIPES
    }

    /// Fails while the agent stops: a later registration would not be removed.
    fn check_open(&self, (service, id): &InstanceKey) -> Result<()> {
        match self.is_closed.load(Ordering::SeqCst) {
            true => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{service}/{id}: not registered: the agent is stopping"),
            )),
            false => Ok(()),
        }
    }

    fn table(&self) -> MutexGuard<'_, RegistrationTable<Arc<PublishedInstance>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn maintenance(&self) -> MutexGuard<'_, MaintenanceRules> {
        self.maintenance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
