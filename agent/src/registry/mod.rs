//! What applications registered with this agent: written to the store through the agent's one client, and
//! kept there for as long as each application says that it lives.

pub mod table;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_core::{
    Attributes, Claim, Client, Error, Instance, Kind, Lease, Registration, Result, ServiceName,
    Standing,
};
use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until, timeout};

use crate::health::check::Check;
use crate::health::machine::{Plan, State};
use crate::health::{self, Looks};
use crate::sets::Sets;
use table::{Held, Key, Table, Verdict};

/// The TTL of who names none.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// How long a registration tries to reach the store.
const WRITING: Duration = Duration::from_secs(5);
/// How long to wait until the agent's own watch has seen what was just written.
const SEEING: Duration = Duration::from_secs(2);
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
    pub claim: Claim,
    /// Which client asks; empty for one that does not say.
    pub owner: String,
    /// How the agent looks after it; by heartbeats where it does not.
    pub check: Option<(Check, Plan)>,
    /// Whether it is there for as long as the agent is, without heartbeats.
    pub ours: bool,
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
}

/// What the agent has of an instance.
struct Life {
    lease: Arc<Lease>,
    /// As its owner wants them.
    attributes: Attributes,
    /// What its check says.
    checked: Option<State>,
    /// What its operator says, which counts more.
    put: Option<State>,
    _looks: Option<Looks>,
}

impl Life {
    /// The attributes that others see.
    fn shown(&self) -> Attributes {
        shown(&self.attributes, self.put.or(self.checked))
    }
}

/// See the module.
pub struct Registry {
    client: Client,
    sets: Arc<Sets>,
    /// The host of who names none.
    host: IpAddr,
    start: Instant,
    table: Mutex<Table<Life>>,
    gates: [Arc<tokio::sync::Mutex<()>>; GATES],
    hasher: RandomState,
    changed: Notify,
    expired: AtomicU64,
}

impl Registry {
    /// Registers through `client`. Whoever calls it runs [`Registry::reap`] too.
    pub fn new(client: Client, sets: Arc<Sets>, host: IpAddr) -> Arc<Registry> {
        Arc::new(Registry {
            client,
            sets,
            host,
            start: Instant::now(),
            table: Mutex::default(),
            gates: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
            changed: Notify::new(),
            expired: AtomicU64::new(0),
        })
    }

    /// Makes the instance visible. Once it returns, readers of this agent and of the store see it.
    pub async fn register(self: &Arc<Registry>, asked: Asked) -> Result<Granted> {
        // Until its check has found that it is well, it is not.
        let checked = asked.check.is_some().then_some(State::Critical);
        let registration = self.registration(&asked, checked)?;
        let key = (asked.service.clone(), registration.instance_id());
        let _gate = self.gate(&key).await;
        let verdict = self.table().judge(&key, &asked.owner, asked.claim)?;
        if verdict == Verdict::Unknown {
            self.check_free(&key, &registration, asked.ttl).await?;
        }
        let lease = self
            .client
            .register_within(registration.clone(), WRITING)
            .await?;
        let grant = fastrand::u64(1..);
        let until = self.start.elapsed() + asked.ttl;
        let looks = asked.check.map(|(check, plan)| {
            let key = key.clone();
            health::start(self, key, grant, check, plan)
        });
        let held = Held {
            grant,
            owner: asked.owner,
            ttl: asked.ttl,
            until: (looks.is_none() && !asked.ours).then_some(until),
            lease: Life {
                lease: Arc::new(lease),
                attributes: asked.attributes,
                checked,
                put: None,
                _looks: looks,
            },
        };
        // The one before ends with the last who holds it; what is written now is not its own.
        drop(self.table().insert(key.clone(), held));
        self.changed.notify_one();
        self.see(&key, Some(&registration)).await;
        Ok(Granted {
            grant,
            ttl: asked.ttl,
            id: key.1,
            address: registration.address(),
        })
    }

    /// The application says that it lives.
    pub fn heartbeat(&self, key: &Key, grant: Option<u64>) -> Result<()> {
        let standing = {
            let mut table = self.table();
            let held = table.beat(key, grant, self.start.elapsed())?;
            held.lease.lease.standing()
        };
        match standing {
            Standing::Live => Ok(()),
            Standing::Lapsed(error) => {
                let text = format!("{} of {} is not confirmed by the store", key.1, key.0);
                Err(Error::caused_by(Kind::Unavailable, text, error))
            }
            Standing::Replaced(_) => {
                // To be forgotten, so that what its owner does next is judged anew.
                drop(self.table().remove(key, grant));
                Err(table::replaced(key))
            }
            Standing::Released => {
                drop(self.table().remove(key, grant));
                let text = format!("{} of {} was released", key.1, key.0);
                Err(Error::new(Kind::LeaseLost, text))
            }
        }
    }

    /// Replaces the attributes; age and tags stay.
    pub async fn update(
        &self,
        key: &Key,
        grant: Option<u64>,
        attributes: Attributes,
    ) -> Result<()> {
        let _gate = self.gate(key).await;
        let (lease, shown) = {
            let mut table = self.table();
            let life = &mut table.get_mut(key, grant)?.lease;
            let state = life.put.or(life.checked);
            (life.lease.clone(), shown(&attributes, state))
        };
        lease.update(shown).await?;
        self.table().get_mut(key, grant)?.lease.attributes = attributes;
        // Whoever changes what it is, is alive.
        self.heartbeat(key, grant)
    }

    /// What the check of an instance says.
    pub async fn checked(&self, key: &Key, grant: u64, state: State) -> Result<()> {
        let note = |life: &mut Life| life.checked = Some(state);
        self.show(key, Some(grant), note).await
    }

    /// What its operator says, until none is said again.
    pub async fn put(&self, key: &Key, grant: Option<u64>, state: Option<State>) -> Result<()> {
        self.show(key, grant, |life| life.put = state).await
    }

    async fn show(
        &self,
        key: &Key,
        grant: Option<u64>,
        note: impl FnOnce(&mut Life),
    ) -> Result<()> {
        let _gate = self.gate(key).await;
        let (lease, shown) = {
            let mut table = self.table();
            let life = &mut table.get_mut(key, grant)?.lease;
            note(life);
            (life.lease.clone(), life.shown())
        };
        lease.update(shown).await
    }

    /// Takes the instance away. One that another owner holds, or that is gone, is left alone, and that is
    /// no error for who names the grant.
    pub async fn unregister(&self, key: &Key, grant: Option<u64>) -> Result<()> {
        let _gate = self.gate(key).await;
        let held = match self.table().remove(key, grant) {
            Ok(held) => held,
            Err(_) if grant.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        held.lease.lease.unregister().await?;
        self.see(key, None).await;
        Ok(())
    }

    /// Takes away what was asked for.
    pub async fn withdraw(&self, asked: &Asked) -> Result<()> {
        let registration = self.registration(asked, None)?;
        let key = (asked.service.clone(), registration.instance_id());
        self.unregister(&key, None).await
    }

    /// Takes all away, within this time.
    pub async fn close(&self, within: Duration) {
        let all = self.table().drain();
        let released = all.iter().map(|(_, held)| held.lease.lease.unregister());
        if timeout(within, join_all(released)).await.is_err() {
            log::warn!("not all registrations were released within {within:?}");
            return;
        }
        // Those who listen to a service hear of the end before their streams do.
        let last: HashMap<&ServiceName, &Key> = all.iter().map(|(key, _)| (&key.0, key)).collect();
        let seen = last.values().map(|key| self.see(key, None));
        // Whoever looks again finds the same; it only comes later.
        let _ = timeout(within, join_all(seen)).await;
    }

    /// Takes away those whose owners are silent, for ever.
    pub async fn reap(self: Arc<Registry>) {
        loop {
            let over = self.table().expire(self.start.elapsed());
            for ((service, id), held) in over {
                self.expired.fetch_add(1, Ordering::Relaxed);
                log::info!("{id} of {service} goes: no heartbeat for {:?}", held.ttl);
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

    fn registration(&self, asked: &Asked, checked: Option<State>) -> Result<Registration> {
        let mut made = Registration::at(asked.service.as_str(), &asked.address)?
            .attributes(shown(&asked.attributes, checked))?
            .tags(asked.tags.clone())?
            .ttl(asked.ttl)?;
        if asked.address.starts_with(':') {
            made = made.host(&self.host.to_string())?;
        }
        let own_id = asked.id != made.address() && asked.id != asked.address;
        if own_id { made.id(&asked.id) } else { Ok(made) }
    }

    /// Whoever comes back to an agent that does not know it is let in where nobody is, or where all is as
    /// it left it. Soon after the start it may well be its own that is there: what the last run of the
    /// agent left, perhaps from before the last change.
    async fn check_free(
        &self,
        key: &Key,
        registration: &Registration,
        ttl: Duration,
    ) -> Result<()> {
        if self.start.elapsed() < ttl.max(LEFT) {
            return Ok(());
        }
        let kept = self.sets.open(&key.0)?;
        kept.set.wait(0, SEEING).await?;
        let now = kept.set.snapshot();
        let there = now.online().iter().find(|i| i.id() == key.1);
        match there {
            Some(there) if !is_as(there, registration) => Err(table::replaced(key)),
            _ => Ok(()),
        }
    }

    /// Waits a moment until the agent's own watch, where there is one, shows what was just written.
    async fn see(&self, key: &Key, written: Option<&Registration>) {
        let Some(kept) = self.sets.peek(&key.0) else {
            return;
        };
        let mut cursor = kept.set.cursor();
        let seen = async {
            while cursor.changed().await {
                cursor.drain();
                let now = cursor.seen();
                let there = now.online().iter().find(|i| i.id() == key.1);
                let done = match (there, written) {
                    (Some(there), Some(written)) => is_as(there, written),
                    (there, None) => there.is_none(),
                    (None, Some(_)) => false,
                };
                if done {
                    return;
                }
            }
        };
        // Another one may have written meanwhile; then there is nothing to wait for.
        let _ = timeout(SEEING, seen).await;
    }

    async fn gate(&self, key: &Key) -> OwnedMutexGuard<()> {
        let at = self.hasher.hash_one(key) as usize % GATES;
        self.gates[at].clone().lock_owned().await
    }

    fn table(&self) -> MutexGuard<'_, Table<Life>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others see of the attributes that an owner wants.
fn shown(wanted: &Attributes, state: Option<State>) -> Attributes {
    let mut shown = wanted.clone();
    if let Some(state) = state {
        shown.insert(health::ATTRIBUTE.to_owned(), state.name().to_owned());
    }
    shown
}

/// Whether others see what was asked for; how well it does is another matter.
fn is_as(there: &Instance, asked: &Registration) -> bool {
    let asked = asked.instance(there.created());
    let lasting = |of: &Instance| {
        let all = of.attributes().iter();
        let lasting = all.filter(|(name, _)| *name != health::ATTRIBUTE);
        lasting
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<Attributes>()
    };
    there.id() == asked.id()
        && there.address() == asked.address()
        && there.tags() == asked.tags()
        && lasting(there) == lasting(&asked)
}
