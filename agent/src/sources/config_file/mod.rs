//! Services of the configuration file, which the agent registers for programs that do not use libdiscover.

pub mod plan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use discover_core::{Error, OnConflict, Registration, Result, ServiceName};
use futures_util::future::{BoxFuture, FutureExt, join_all, ready};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::advertise;
use crate::health::Checks;
use crate::health::check;
use crate::health::target_policy::TargetPolicy;
use crate::registry::entry::LivenessSource;
use crate::registry::key::InstanceKey;
use crate::registry::state::Health;
use crate::registry::{DEFAULT_TTL, RegistrationRequest, Registry};
use crate::runtime::component::{Component, HandOver};
use crate::runtime::metrics::MetricsWriter;
use plan::{Placed, Service, ServiceChanges};

/// The component that registers the services of the configuration file.
pub struct ConfigFileServices {
    registry: Arc<Registry>,
    checks: Arc<Checks>,
    /// The host of services without `interfaces`.
    address: IpAddr,
    registered: Mutex<Vec<RegisteredService>>,
}

/// A service that is registered.
struct RegisteredService {
    placed: Placed,
    key: InstanceKey,
    grant: u64,
}

/// A registered service in the hand-over state, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct ServiceState {
    service: Service,
    /// The host. `None` if an early release wrote the state.
    #[serde(default)]
    host: Option<IpAddr>,
    id: String,
    grant: u64,
}

/// The result of [`ConfigFileServices::prepare`]: the changes to make. Holds the lock of the services.
pub struct PreparedServices<'a> {
    registered: MutexGuard<'a, Vec<RegisteredService>>,
    unregister: Vec<Placed>,
    register: Vec<PreparedService>,
}

/// A service to register.
struct PreparedService {
    placed: Placed,
    asked: RegistrationRequest,
    watch: Option<check::HealthSource>,
}

impl PreparedService {
    fn key(&self) -> InstanceKey {
        (self.asked.service.clone(), self.asked.id.clone())
    }
}

impl ConfigFileServices {
    /// Creates the component without services.
    pub fn new(
        registry: Arc<Registry>,
        checks: Arc<Checks>,
        address: IpAddr,
    ) -> ConfigFileServices {
        ConfigFileServices {
            registry,
            checks,
            address,
            registered: Mutex::default(),
        }
    }

    /// Prepares the change to these services, without registering any.
    ///
    /// # Errors
    ///
    /// Fails if no address matches the `interfaces` of a service, or if a service is invalid.
    pub async fn prepare(&self, services: &[Service]) -> Result<PreparedServices<'_>> {
        let registered = self.registered.lock().await;
        let current: Vec<Placed> = registered
            .iter()
            .map(|service| service.placed.clone())
            .collect();
        let wanted = plan::place(services, |service| self.host(service, &current))?;
        let changes = ServiceChanges::new(&current, &wanted);
        let new = changes.register.into_iter().map(prepare_service);
        Ok(PreparedServices {
            registered,
            unregister: changes.unregister,
            register: new.collect::<Result<_>>()?,
        })
    }

    /// Registers new services, unregisters removed ones and replaces changed ones. The store receives the new
    /// registrations as soon as it responds.
    pub async fn commit(&self, mut prepared: PreparedServices<'_>) {
        let (ended, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut *prepared.registered)
            .into_iter()
            .partition(|entry| prepared.unregister.contains(&entry.placed));
        *prepared.registered = kept;
        // A changed service is registered over the previous registration, so that subscribers see one update.
        let (mut replaced, removed): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|entry| prepared.register.iter().any(|new| new.key() == entry.key));
        let unregistered = removed.iter().map(async |entry| {
            let (key, grant) = (&entry.key, Some(entry.grant));
            if let Err(error) = self.registry.unregister(None, key, grant).await {
                let (service, id) = key;
                tracing::warn!(
                    %service,
                    instance = %id,
                    error = %error.report(),
                    "unregister failed, it is repeated in the background"
                );
            }
        });
        join_all(unregistered).await;
        let registered = prepared.register.into_iter().map(|new| {
            let previous = replaced.iter().position(|entry| new.key() == entry.key);
            self.register(new, previous.map(|index| replaced.swap_remove(index)))
        });
        let registered: Vec<_> = registered.collect();
        let registered = join_all(registered).await;
        prepared.registered.extend(registered.into_iter().flatten());
    }

    /// Registers a service. If that fails, returns the previous registration, which is still valid.
    async fn register(
        &self,
        mut new: PreparedService,
        previous: Option<RegisteredService>,
    ) -> Option<RegisteredService> {
        // The result of an unchanged check holds until its next run.
        let same_check = previous
            .as_ref()
            .filter(|entry| entry.placed.service.check == new.placed.service.check);
        if let Some(health) =
            same_check.and_then(|entry| self.registry.health(&entry.key, entry.grant))
        {
            new.asked.health = health;
        }
        let (key, health) = (new.key(), new.asked.health);
        let granted = match self.registry.register(new.asked).await {
            Ok(granted) => granted,
            Err(error) => {
                tracing::error!(
                    service = %key.0,
                    instance = %key.1,
                    error = %error.report(),
                    "cannot register a service of the configuration file"
                );
                return previous;
            }
        };
        if let Some(check::HealthSource::Agent(check)) = new.watch {
            self.checks
                .start(key.clone(), granted.grant, check, health, None);
        }
        Some(RegisteredService {
            placed: new.placed,
            key,
            grant: granted.grant,
        })
    }

    /// Returns the address that the rules of a service choose. If they choose none now, a registered service stays
    /// where it is.
    fn host(&self, service: &Service, registered: &[Placed]) -> Result<IpAddr> {
        let rules = match service.interfaces.0.as_slice() {
            [] => return Ok(self.address),
            rules => rules,
        };
        let chosen = advertise::candidates().and_then(|found| advertise::choose(rules, found));
        let current = registered.iter().find(|entry| entry.service == *service);
        chosen.or_else(|error| match current {
            Some(current) => Ok(current.host),
            None => Err(in_service(service, &error)),
        })
    }

    /// Takes over a service of the previous process, unless its registration or its check was not restored: then
    /// the next reload registers it again.
    fn adopt(&self, state: ServiceState) -> Option<RegisteredService> {
        let ServiceState {
            service,
            host,
            id,
            grant,
        } = state;
        let key = (ServiceName::new(&service.name).ok()?, id);
        self.registry.health(&key, grant)?;
        if service.check.is_some() && !self.checks.contains(&key) {
            return None;
        }
        let host = host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        Some(RegisteredService {
            placed: Placed { service, host },
            key,
            grant,
        })
    }
}

impl Component for ConfigFileServices {
    fn name(&self) -> &'static str {
        "config_file"
    }

    fn start(&self, inherited: Option<Value>) -> BoxFuture<'_, Result<()>> {
        async move {
            let state = inherited.map_or_else(|| Ok(Vec::new()), serde_json::from_value);
            let state: Vec<ServiceState> = state.unwrap_or_else(|error| {
                tracing::warn!(component = self.name(), %error, "skipping invalid hand-over state");
                Vec::new()
            });
            let adopted = state.into_iter().filter_map(|entry| self.adopt(entry));
            self.registered.lock().await.extend(adopted);
            Ok(())
        }
        .boxed()
    }

    fn hand_over(&self) -> BoxFuture<'_, HandOver> {
        async move {
            let registered = self.registered.lock().await;
            let state = registered.iter().map(|entry| ServiceState {
                service: entry.placed.service.clone(),
                host: Some(entry.placed.host),
                id: entry.key.1.clone(),
                grant: entry.grant,
            });
            HandOver {
                state: serde_json::to_value(state.collect::<Vec<_>>()).ok(),
                ..HandOver::default()
            }
        }
        .boxed()
    }

    /// Does nothing: the registry withdraws the registrations when it stops.
    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        // A reload holds the lock; the gauge is left out meanwhile.
        match self.registered.try_lock() {
            Ok(registered) => out.gauge(
                "discoverd_config_file_services",
                "Services of the configuration file that are registered",
                registered.len(),
            ),
            Err(_) => Ok(()),
        }
    }
}

fn prepare_service(placed: Placed) -> Result<PreparedService> {
    let (service, host) = (&placed.service, placed.host);
    let failed = |e: Error| in_service(service, &e);
    let ttl = service.ttl.map_or(DEFAULT_TTL, |ttl| ttl.0);
    let mut registration = Registration::new(&service.name, service.port)
        .and_then(|registration| registration.host(&host.to_string()))
        .and_then(|registration| registration.attributes(service.attributes.clone()))
        .and_then(|registration| registration.tags(service.tags.clone()))
        .and_then(|registration| registration.ttl(ttl))
        .map_err(failed)?;
    if let Some(id) = &service.id {
        registration = registration.id(id).map_err(failed)?;
    }
    let check = service.check.as_ref();
    let watch =
        check.map(|check| check.resolve(&host.to_string(), service.port, TargetPolicy::Anywhere));
    let watch = watch.transpose().map_err(failed)?;
    let asked = RegistrationRequest {
        service: ServiceName::new(&service.name)?,
        id: registration.instance_id(),
        address: registration.address(),
        attributes: service.attributes.clone(),
        tags: service.tags.clone(),
        ttl,
        on_conflict: OnConflict::Replace,
        owner: String::new(),
        peer: None,
        // The service stays registered for as long as the file names it.
        liveness: LivenessSource::AgentCheck(Duration::MAX),
        heartbeat_interval: None,
        health: check.map_or(Health::Passing, check::CheckDefinition::initial),
        is_deferred: true,
    };
    Ok(PreparedService {
        placed,
        asked,
        watch,
    })
}

/// Adds the name of the service to an error.
fn in_service(service: &Service, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("service {:?}: {error:#}", service.name),
    )
}
