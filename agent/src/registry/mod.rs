//! What applications registered with this agent: written to the store through the agent's one client, and
//! kept there for as long as each application says that it lives.

pub mod component;
pub mod handover;
pub mod key;
mod published;
pub mod reconcile;
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

use crate::service_cache::ServiceCache;
use key::InstanceKey;
use published::PublishedInstance;
use state::{Health, State, Withheld};
use table::{Held, Keep, Table, Verdict};

/// The TTL of who names none.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// For how long, at least, after the start what is there may be what the last run left.
const LEFT: Duration = Duration::from_secs(3);
/// Calls about one instance come one after the other; those about others hardly ever wait for them.
const GATES: usize = 64;

/// What an application asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The service.
    pub service: ServiceName,
    /// The id; the address where it is the same.
    pub id: String,
    /// `host:port`, or `:port` on this host.
    pub address: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its tags.
    pub tags: Vec<String>,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
    /// What becomes of another owner.
    pub claim: OnConflict,
    /// Which client asks; empty for one that does not say.
    pub owner: String,
    /// What says that it lives.
    pub keep: Keep,
    /// How often its owner says that it lives, where that is another time than the TTL.
    pub beat: Option<Duration>,
    /// How it is to begin with.
    pub health: Health,
    /// Whether it is only noted now, to be written as soon as the store takes it.
    pub patient: bool,
}

/// What it gets.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The agent's number for it.
    pub grant: u64,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
    /// The id under which others see it.
    pub id: String,
    /// The whole address.
    pub address: String,
    /// How it is, and whether others see it.
    pub state: State,
}

/// See the module.
pub struct Registry {
    client: Client,
    sets: Arc<ServiceCache>,
    /// The host of who names none.
    host: IpAddr,
    start: Instant,
    table: Mutex<Table<Arc<PublishedInstance>>>,
    withheld: Mutex<Withheld>,
    /// Rung when somebody may be seen otherwise than they should be.
    unsettled: Notify,
    closed: AtomicBool,
    gates: [Arc<tokio::sync::Mutex<()>>; GATES],
    hasher: RandomState,
    changed: Notify,
    expired: AtomicU64,
}

impl Registry {
    /// Registers through `client`. Whoever calls it runs [`Registry::reap`] too.
    pub fn new(client: Client, sets: Arc<ServiceCache>, host: IpAddr) -> Arc<Registry> {
        Arc::new(Registry {
            client,
            sets,
            host,
            start: Instant::now(),
            table: Mutex::default(),
            withheld: Mutex::default(),
            unsettled: Notify::new(),
            closed: AtomicBool::new(false),
            gates: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
            changed: Notify::new(),
            expired: AtomicU64::new(0),
        })
    }

    /// Makes the instance visible, unless its health or an operator keeps it from that. Once it returns,
    /// readers of this agent and of the store see it, unless it is patient.
    pub async fn register(&self, asked: Asked) -> Result<Granted> {
        let registration = self.registration(&asked)?;
        let key = (asked.service.clone(), registration.instance_id());
        let _gate = self.gate(&key).await;
        self.check_open(&key)?;
        let verdict = self.table().judge(&key, &asked.owner, asked.claim)?;
        // Soon after the start it may well be its own that is there: what the last run of the agent left,
        // perhaps from before the last change.
        let left = self.start.elapsed() < asked.ttl.max(LEFT);
        if verdict == Verdict::Unknown && !left {
            self.check_free(&key, &registration).await?;
        }
        let member = Arc::new(PublishedInstance::new(
            self.client.clone(),
            registration.clone(),
            asked.ttl,
        ));
        let state = State::of(asked.health, self.withheld().of(&key));
        if asked.patient {
            if let Ok(before) = self.table().get(&key, None) {
                member.follow(&before.lease);
            }
        } else if state.is_visible() {
            member.show(state.warns()).await?;
        }
        if let Err(closing) = self.check_open(&key) {
            member.hide().await?;
            return Err(closing);
        }
        let grant = fastrand::u64(1..);
        let held = Held {
            grant,
            owner: asked.owner,
            ttl: asked.beat.unwrap_or(asked.ttl),
            until: Duration::ZERO,
            keep: asked.keep,
            health: asked.health,
            since: Duration::ZERO,
            note: String::new(),
            lease: member.clone(),
        };
        let held = held.begun(self.start.elapsed());
        // The one before ends with the last who holds it; what is written now is not its own.
        drop(self.table().insert(key.clone(), held));
        self.changed.notify_one();
        // An operator may have spoken meanwhile; whoever is patient is not written yet.
        if !member.is_settled(State::of(asked.health, self.withheld().of(&key))) {
            self.unsettled.notify_one();
        } else if state.is_visible() {
            self.see(&key, Some(&member.seen(state.warns())?)).await;
        }
        Ok(Granted {
            grant,
            ttl: asked.ttl,
            id: key.1,
            address: registration.address(),
            state,
        })
    }

    /// The application says that it lives, and how it is if it is asked to say that.
    pub async fn heartbeat(
        &self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Option<Health>,
    ) -> Result<()> {
        // What follows is about who holds it now, and not about who may come meanwhile.
        let (member, grant, reports) = {
            let mut table = self.table();
            let before = table.get(key, grant)?.health;
            let held = table.beat(key, grant, health, self.start.elapsed())?;
            if held.health != before {
                self.changed.notify_one();
            }
            let reports = matches!(held.keep, Keep::Reports(_));
            (held.lease.clone(), Some(held.grant), reports)
        };
        if reports {
            self.settle(key, grant).await?;
        }
        match member.standing() {
            Standing::Live => Ok(()),
            Standing::Lapsed(error) => {
                let text = format!("{} of {} is not confirmed by the store", key.1, key.0);
                Err(Error::caused_by(ErrorKind::Unavailable, text, error))
            }
            Standing::Replaced(_) => {
                // To be forgotten, so that what its owner does next is judged anew.
                drop(self.table().remove(key, grant));
                Err(table::replaced(key))
            }
            Standing::Released => {
                drop(self.table().remove(key, grant));
                let text = format!("{} of {} was released", key.1, key.0);
                Err(Error::new(ErrorKind::LeaseLost, text))
            }
        }
    }

    /// Replaces the attributes; age and tags stay.
    pub async fn update(
        &self,
        key: &InstanceKey,
        grant: Option<u64>,
        attributes: Attributes,
    ) -> Result<()> {
        let gate = self.gate(key).await;
        let (member, grant, health) = {
            let table = self.table();
            let held = table.get(key, grant)?;
            (held.lease.clone(), held.grant, held.as_it_is())
        };
        member.update(attributes).await?;
        drop(gate);
        // Whoever changes what it is, is alive, and no better than it said.
        self.heartbeat(key, Some(grant), health).await
    }

    /// Takes the instance away. One that another owner holds, or that is gone, is left alone, and that is
    /// no error for who names the grant.
    pub async fn unregister(&self, key: &InstanceKey, grant: Option<u64>) -> Result<()> {
        let _gate = self.gate(key).await;
        let held = match self.table().remove(key, grant) {
            Ok(held) => held,
            Err(_) if grant.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        held.lease.hide().await?;
        self.see(key, None).await;
        Ok(())
    }

    /// Takes all away, within this time, and waits for those that are being registered. Nobody is let in
    /// any more.
    pub async fn close(&self, within: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        let released = (0..GATES).map(|at| self.close_gate(at));
        let Ok(all) = timeout(within, join_all(released)).await else {
            tracing::warn!(timeout = ?within, "not all registrations were withdrawn in time");
            return;
        };
        // Those who listen to a service hear of the end before their streams do.
        let last: HashMap<&ServiceName, &InstanceKey> =
            all.iter().flatten().map(|key| (&key.0, key)).collect();
        let seen = last.values().map(|key| self.see(key, None));
        // Whoever looks again finds the same; it only comes later.
        let _ = timeout(within, join_all(seen)).await;
    }

    /// Takes away those behind this gate, once whoever is in it has left it.
    async fn close_gate(&self, at: usize) -> Vec<InstanceKey> {
        let _gate = self.gates[at].lock().await;
        let all = self.table().take(|key| self.gate_of(key) == at);
        join_all(all.iter().map(|(_, held)| held.lease.hide())).await;
        all.into_iter().map(|(key, _)| key).collect()
    }

    /// Takes away those whose owners are silent, for ever.
    pub async fn reap(self: Arc<Registry>) {
        loop {
            // One moment for both: whoever fell silent between two would go without having been critical.
            let now = self.start.elapsed();
            for (service, id) in self.table().silence(now) {
                tracing::warn!(%service, instance = %id, "instance is critical: no heartbeat");
                self.unsettled.notify_one();
            }
            let over = self.table().expire(now);
            for ((service, id), held) in over {
                self.expired.fetch_add(1, Ordering::Relaxed);
                match held.health {
                    Health::Critical => {
                        tracing::warn!(%service, instance = %id, "registration removed: critical for too long");
                    }
                    _ => tracing::info!(
                        %service,
                        instance = %id,
                        ttl = ?held.ttl,
                        "registration removed: no heartbeat within the TTL"
                    ),
                }
            }
            let next = self.table().next().map(|next| self.start + next);
            let asleep = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asleep => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// How many registrations there are, and how many ran out since the start.
    pub fn counts(&self) -> (usize, u64) {
        (self.table().len(), self.expired.load(Ordering::Relaxed))
    }

    /// The services that have instances here.
    pub fn services(&self) -> Vec<ServiceName> {
        self.table().services()
    }

    /// What is asked for, with this host where none is named.
    pub fn registration(&self, asked: &Asked) -> Result<Registration> {
        let mut made = Registration::at(asked.service.as_str(), &asked.address)?
            .attributes(asked.attributes.clone())?
            .tags(asked.tags.clone())?
            .ttl(asked.ttl)?;
        if asked.address.starts_with(':') {
            made = made.host(&self.host.to_string())?;
        }
        let own_id = asked.id != made.address() && asked.id != asked.address;
        if own_id { made.id(&asked.id) } else { Ok(made) }
    }

    async fn gate(&self, key: &InstanceKey) -> OwnedMutexGuard<()> {
        self.gates[self.gate_of(key)].clone().lock_owned().await
    }

    fn gate_of(&self, key: &InstanceKey) -> usize {
        self.hasher.hash_one(key) as usize % GATES
    }

    /// Refuses whoever comes while the agent ends: nobody would take it away.
    fn check_open(&self, (service, id): &InstanceKey) -> Result<()> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{id} of {service} is not registered: the agent is ending"),
            )),
            false => Ok(()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<Arc<PublishedInstance>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn withheld(&self) -> MutexGuard<'_, Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
