//! What a configuration file asks for: services that are registered for programs that know nothing of us,
//! and commands that are run when others change.

pub mod change;
pub mod plan;

use std::net::IpAddr;
use std::sync::Arc;

use discover_core::{Claim, Client, Cursor, Error, Registration, Result, ServiceName};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::advertise;
use crate::exec;
use crate::health::Checks;
use crate::health::check;
use crate::registry::state::Health;
use crate::registry::table::{Keep, Key};
use crate::registry::{Asked, DEFAULT_TTL, Registry};
use change::Change;
use plan::{Plan, Service, Watch};

/// See the module.
pub struct Jobs {
    client: Client,
    registry: Arc<Registry>,
    checks: Arc<Checks>,
    /// The host of who names no interfaces.
    address: IpAddr,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    plan: Plan,
    registered: Vec<(Service, Key, u64)>,
    /// Ended when dropped, with the commands that they run.
    watches: JoinSet<()>,
}

/// How a service is registered, looked up before anything is done.
struct Ready {
    service: Service,
    asked: Asked,
    watch: Option<check::Watch>,
}

impl Jobs {
    /// Nothing yet.
    pub fn new(
        client: Client,
        registry: Arc<Registry>,
        checks: Arc<Checks>,
        address: IpAddr,
    ) -> Jobs {
        Jobs {
            client,
            registry,
            checks,
            address,
            running: Mutex::default(),
        }
    }

    /// Makes it so: what is new begins, what is gone ends, what stays is left alone. When it fails, all is
    /// as it was.
    pub async fn apply(&self, plan: Plan) -> Result<()> {
        let mut running = self.running.lock().await;
        let steps = running.plan.steps(&plan);
        let begin: Vec<Ready> = steps
            .begin
            .into_iter()
            .map(|service| self.ready(service))
            .collect::<Result<_>>()?;
        let watches = plan
            .watches
            .iter()
            .map(|watch| self.cursor(watch).map(|cursor| (watch.clone(), cursor)))
            .collect::<Result<Vec<_>>>()?;
        let (over, stays): (Vec<_>, Vec<_>) = std::mem::take(&mut running.registered)
            .into_iter()
            .partition(|(service, ..)| steps.end.contains(service));
        running.registered = stays;
        for (_, key, grant) in over {
            if let Err(error) = self.registry.unregister(&key, Some(grant)).await {
                log::warn!("{} of {} goes with its TTL: {error}", key.1, key.0);
            }
        }
        for ready in begin {
            let name = ready.service.name.clone();
            match self.begin(ready).await {
                Ok(registered) => running.registered.push(registered),
                Err(error) => log::error!("{name} is not registered: {error}"),
            }
        }
        if running.plan.watches != plan.watches {
            running.watches.shutdown().await;
            for (watch, cursor) in watches {
                running.watches.spawn(follow(watch, cursor));
            }
        }
        running.plan = plan;
        Ok(())
    }

    /// How many services are registered, and how many watched.
    pub async fn counts(&self) -> (usize, usize) {
        let running = self.running.lock().await;
        (running.registered.len(), running.watches.len())
    }

    /// Ends the commands. The registrations are the registry's to end.
    pub async fn close(&self) {
        let mut running = self.running.lock().await;
        running.watches.shutdown().await;
    }

    fn ready(&self, service: Service) -> Result<Ready> {
        let of = |e: Error| Error::new(e.kind(), format!("service {:?}: {e}", service.name));
        let host = match service.interfaces.0.as_slice() {
            [] => self.address,
            rules => advertise::choose(rules, advertise::candidates()?).map_err(of)?,
        };
        let ttl = service.ttl.map_or(DEFAULT_TTL, |ttl| ttl.0);
        let mut registration = Registration::new(&service.name, service.port)
            .and_then(|made| made.host(&host.to_string()))
            .and_then(|made| made.attributes(service.attributes.clone()))
            .and_then(|made| made.tags(service.tags.clone()))
            .and_then(|made| made.ttl(ttl))
            .map_err(of)?;
        if let Some(id) = &service.id {
            registration = registration.id(id).map_err(of)?;
        }
        let check = service.check.as_ref();
        let watch = check.map(|check| check.watch(&host.to_string(), service.port));
        let watch = watch.transpose().map_err(of)?;
        let asked = Asked {
            service: ServiceName::new(&service.name)?,
            id: registration.instance_id(),
            address: registration.address(),
            attributes: service.attributes.clone(),
            tags: service.tags.clone(),
            ttl,
            claim: Claim::TakeOver,
            owner: String::new(),
            // The file names it for as long as it names it.
            keep: Keep::Check(Duration::MAX),
            beat: None,
            health: check.map_or(Health::Passing, check::Declared::initial),
            patient: true,
        };
        Ok(Ready {
            service,
            asked,
            watch,
        })
    }

    async fn begin(&self, ready: Ready) -> Result<(Service, Key, u64)> {
        let health = ready.asked.health;
        let name = ready.asked.service.clone();
        let granted = self.registry.register(ready.asked).await?;
        let key = (name, granted.id);
        if let Some(check::Watch::Check(check)) = ready.watch {
            self.checks.begin(key.clone(), granted.grant, check, health);
        }
        Ok((ready.service, key, granted.grant))
    }

    fn cursor(&self, watch: &Watch) -> Result<Cursor> {
        let set = self.client.services(&watch.service)?;
        let narrowed = set.filter(watch.attributes.clone(), watch.tag.0.iter().cloned());
        Ok(narrowed.cursor())
    }
}

/// Runs the command for each change, one after the other: what happens meanwhile is one change, later.
async fn follow(watch: Watch, mut cursor: Cursor) {
    while cursor.changed().await {
        let events = cursor.drain();
        let Some(change) = Change::of(&watch.service, events, cursor.seen().clone()) else {
            continue;
        };
        let (command, within) = (watch.command.text(), watch.within());
        let ran = exec::run(&watch.command, &change.env(), change.input(), within).await;
        match ran {
            Err(error) => log::warn!("watch of {}: {error}", watch.service),
            Ok(ran) => match ran.status {
                Some(status) if status.success() => {
                    log::info!("{} of {}: ran {command}", change.kind, watch.service);
                }
                Some(status) => log::warn!("{command} failed: {status}: {}", ran.output),
                None => log::warn!("{command} was killed: not done within {within:?}"),
            },
        }
    }
}
