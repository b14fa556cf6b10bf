//! What a configuration file asks for: services that are registered for programs that know nothing of us,
//! and commands that are run when others change.

pub mod plan;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use discover_core::{Client, Cursor, Error, OnConflict, Registration, Result, ServiceName};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::advertise;
use crate::exec;
use crate::health::Checks;
use crate::health::check;
use crate::health::policy::TargetPolicy;
use crate::hooks::change::Change;
use crate::registry::state::Health;
use crate::registry::table::{Keep, Key};
use crate::registry::{Asked, DEFAULT_TTL, Registry};
use plan::{Placed, Plan, Service, Steps, Watch};

/// See the module.
pub struct ConfigFileServices {
    client: Client,
    registry: Arc<Registry>,
    checks: Arc<Checks>,
    /// The host of who names no interfaces.
    address: IpAddr,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    registered: Vec<Registered>,
    watched: Vec<Watched>,
}

struct Registered {
    placed: Placed,
    key: Key,
    grant: u64,
}

/// A service that is registered, on its way from one run of the agent to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    service: Service,
    /// A run that did not say it may have had it anywhere.
    #[serde(default)]
    host: Option<IpAddr>,
    id: String,
    grant: u64,
}

struct Watched {
    watch: Watch,
    /// One task, ended when dropped, with the command that it runs.
    task: JoinSet<()>,
}

/// How a service is registered, looked up before anything is done.
struct Ready {
    placed: Placed,
    asked: Asked,
    watch: Option<check::Watch>,
}

impl Ready {
    fn key(&self) -> Key {
        (self.asked.service.clone(), self.asked.id.clone())
    }
}

impl ConfigFileServices {
    /// Nothing yet.
    pub fn new(
        client: Client,
        registry: Arc<Registry>,
        checks: Arc<Checks>,
        address: IpAddr,
    ) -> ConfigFileServices {
        ConfigFileServices {
            client,
            registry,
            checks,
            address,
            running: Mutex::default(),
        }
    }

    /// Makes it so: what is new begins, what is gone ends, what stays is left alone. When it fails, all is
    /// as it was. What begins is written as soon as the store takes it.
    pub async fn apply(&self, plan: Plan) -> Result<()> {
        let mut running = self.running.lock().await;
        let registered = running.registered.iter().map(|r| r.placed.clone());
        let registered: Vec<Placed> = registered.collect();
        let wanted = plan.placed(|service| self.host(service, &registered))?;
        let steps = Steps::new(&registered, &wanted);
        let begin: Vec<Ready> = steps
            .begin
            .into_iter()
            .map(|placed| self.ready(placed))
            .collect::<Result<_>>()?;
        let new = |watch: &&Watch| running.watched.iter().all(|old| old.watch != **watch);
        let watches = plan.watches.iter().filter(new);
        let watches = watches
            .map(|watch| self.cursor(watch).map(|cursor| (watch.clone(), cursor)))
            .collect::<Result<Vec<_>>>()?;
        self.change_services(&mut running.registered, &steps.end, begin)
            .await;
        let (stays, mut over): (Vec<_>, Vec<_>) = std::mem::take(&mut running.watched)
            .into_iter()
            .partition(|old| plan.watches.contains(&old.watch));
        running.watched = stays;
        join_all(over.iter_mut().map(|old| old.task.shutdown())).await;
        for (watch, cursor) in watches {
            let mut task = JoinSet::new();
            task.spawn(follow(watch.clone(), cursor));
            running.watched.push(Watched { watch, task });
        }
        Ok(())
    }

    async fn change_services(
        &self,
        registered: &mut Vec<Registered>,
        end: &[Placed],
        begin: Vec<Ready>,
    ) {
        let (over, stays): (Vec<_>, Vec<_>) = std::mem::take(registered)
            .into_iter()
            .partition(|old| end.contains(&old.placed));
        *registered = stays;
        // Whoever begins anew at its place is registered over what is there: others see one change.
        let (mut anew, gone): (Vec<_>, Vec<_>) = over
            .into_iter()
            .partition(|old| begin.iter().any(|ready| ready.key() == old.key));
        let unregistered = gone.iter().map(async |old| {
            let (key, grant) = (&old.key, Some(old.grant));
            if let Err(error) = self.registry.unregister(key, grant).await {
                log::warn!("{} of {} goes with its TTL: {error:#}", key.1, key.0);
            }
        });
        join_all(unregistered).await;
        let begun = begin.into_iter().map(|ready| {
            let at = anew.iter().position(|old| ready.key() == old.key);
            self.begin(ready, at.map(|at| anew.swap_remove(at)))
        });
        let begun: Vec<_> = begun.collect();
        registered.extend(join_all(begun).await.into_iter().flatten());
    }

    /// What is registered.
    pub async fn begun(&self) -> Vec<Begun> {
        let running = self.running.lock().await;
        let all = running.registered.iter().map(|one| Begun {
            service: one.placed.service.clone(),
            host: Some(one.placed.host),
            id: one.key.1.clone(),
            grant: one.grant,
        });
        all.collect()
    }

    /// Goes on with what the run before had registered, which is in the registry.
    pub async fn adopt(&self, begun: Vec<Begun>) {
        let mut running = self.running.lock().await;
        for one in begun {
            if let Ok(name) = ServiceName::new(&one.service.name) {
                let host = one.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                let service = one.service;
                running.registered.push(Registered {
                    placed: Placed { service, host },
                    key: (name, one.id),
                    grant: one.grant,
                });
            }
        }
    }

    /// How many services are registered, and how many watched.
    pub async fn counts(&self) -> (usize, usize) {
        let running = self.running.lock().await;
        (running.registered.len(), running.watched.len())
    }

    /// Ends the commands. The registrations are the registry's to end.
    pub async fn close(&self) {
        let mut running = self.running.lock().await;
        let tasks = running.watched.iter_mut().map(|old| old.task.shutdown());
        join_all(tasks).await;
    }

    /// Where its rules lead now. What is registered stays where it is while they lead nowhere.
    fn host(&self, service: &Service, registered: &[Placed]) -> Result<IpAddr> {
        let rules = match service.interfaces.0.as_slice() {
            [] => return Ok(self.address),
            rules => rules,
        };
        let chosen = advertise::candidates().and_then(|found| advertise::choose(rules, found));
        let there = registered.iter().find(|old| old.service == *service);
        chosen.or_else(|error| match there {
            Some(old) => Ok(old.host),
            None => Err(of(service, &error)),
        })
    }

    fn ready(&self, placed: Placed) -> Result<Ready> {
        let (service, host) = (&placed.service, placed.host);
        let of = |e: Error| of(service, &e);
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
        let watch =
            check.map(|check| check.watch(&host.to_string(), service.port, TargetPolicy::Anywhere));
        let watch = watch.transpose().map_err(of)?;
        let asked = Asked {
            service: ServiceName::new(&service.name)?,
            id: registration.instance_id(),
            address: registration.address(),
            attributes: service.attributes.clone(),
            tags: service.tags.clone(),
            ttl,
            claim: OnConflict::Replace,
            owner: String::new(),
            // The file names it for as long as it names it.
            keep: Keep::Check(Duration::MAX),
            beat: None,
            health: check.map_or(Health::Passing, check::Declared::initial),
            patient: true,
        };
        Ok(Ready {
            placed,
            asked,
            watch,
        })
    }

    /// Gives what is registered afterwards at its place, if anything is.
    async fn begin(&self, mut ready: Ready, before: Option<Registered>) -> Option<Registered> {
        // What the same check found out holds until it finds something else.
        let found = before
            .as_ref()
            .filter(|old| old.placed.service.check == ready.placed.service.check);
        if let Some(health) = found.and_then(|old| self.registry.health(&old.key, old.grant)) {
            ready.asked.health = health;
        }
        let (key, health) = (ready.key(), ready.asked.health);
        let granted = match self.registry.register(ready.asked).await {
            Ok(granted) => granted,
            Err(error) => {
                log::error!("{} of {} is not registered: {error:#}", key.1, key.0);
                return before;
            }
        };
        if let Some(check::Watch::Check(check)) = ready.watch {
            self.checks.begin(key.clone(), granted.grant, check, health);
        }
        Some(Registered {
            placed: ready.placed,
            key,
            grant: granted.grant,
        })
    }

    fn cursor(&self, watch: &Watch) -> Result<Cursor> {
        let set = self.client.services(&watch.service)?;
        let narrowed = set.filter(watch.attributes.clone(), watch.tag.0.iter().cloned());
        Ok(narrowed.cursor())
    }
}

/// What is wrong with a service of the file.
fn of(service: &Service, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("service {:?}: {error:#}", service.name),
    )
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
            Err(error) => log::warn!("watch of {}: {error:#}", watch.service),
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

#[cfg(test)]
mod tests;
