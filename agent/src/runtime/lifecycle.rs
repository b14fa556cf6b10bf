//! The agent as a whole: creates the components from the configuration, starts and stops them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use discover_core::{Client, Error, Result, Url};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::advertise;
use crate::api::metrics::HttpMetrics;
use crate::api::server::ApiServer;
use crate::api::state::{AgentIdentity, ApiState};
use crate::api::stream_limit::StreamLimiter;
use crate::api::unread::UnreadResponses;
use crate::api::v1::extract::body_quota;
use crate::api::{AccessPolicy, router};
use crate::config::plan::Plan;
use crate::config::{Config, EMBEDDED_STORE, NetConfig};
use crate::health::Checks;
use crate::health::component::HealthComponent;
use crate::hooks::Hooks;
use crate::net::credentials::{Credentials, CredentialsComponent};
use crate::net::inherited::{InheritedSocket, NamedSocket};
use crate::net::listener::Listener;
use crate::net::occupied;
use crate::registry::Registry;
use crate::registry::component::RegistryComponent;
use crate::runtime::component::Component;
use crate::runtime::exposition::Exposition;
use crate::runtime::handover::{self, Inherited};
use crate::runtime::handover_state::HandOverState;
use crate::runtime::phase::Phase;
use crate::runtime::process_metrics::ProcessMetrics;
use crate::runtime::supervisor::Supervisor;
use crate::service_cache::ServiceCache;
use crate::service_cache::catalog_cache::CatalogCache;
use crate::service_cache::component::ServiceCacheComponent;
use crate::sources::config_file::ConfigFileServices;
use crate::store::{self, StoreConnection};

/// A running agent. [`RunningAgent::stop`] stops it; dropping it does not.
pub struct RunningAgent {
    /// The registry URLs of the listeners.
    pub urls: Vec<String>,
    client: Client,
    registry: Arc<Registry>,
    credentials: Arc<Credentials>,
    services: Arc<ConfigFileServices>,
    hooks: Arc<Hooks>,
    supervisor: Supervisor,
}

/// Starts the agent, or continues the previous process from what it handed over. The services and hooks of the
/// configuration start with [`RunningAgent::apply`]. Requires a tokio runtime.
///
/// # Errors
///
/// Fails if the configuration cannot be used or a listener cannot be opened. A store that does not respond is no
/// error.
pub async fn start(config: &Config, inherited: Inherited) -> Result<RunningAgent> {
    let credentials = Arc::new(read_credentials(&config.net)?);
    let listeners = open_listeners(&config.net, &credentials, inherited.sockets).await?;
    let has_socket = listeners
        .iter()
        .any(|listener| listener.address().is_none());
    check_exec(config, has_socket)?;
    let address = own_address(config)?;
    let client = store::connect(&config.store).await?;
    let phase = watch::Sender::new(Phase::Starting);
    let identity = AgentIdentity {
        boot: format!("{:08x}", fastrand::u32(..)),
        address,
        start: Instant::now(),
    };
    let service_cache =
        ServiceCache::new(client.clone(), identity.boot.clone(), config.max_services);
    let registry = Registry::new(
        client.clone(),
        service_cache.clone(),
        address,
        config.registration_limits,
    );
    let checks = Arc::new(Checks::new(
        registry.clone(),
        config.check_policy.max_checks,
    ));
    let exposition = Arc::new(Exposition::default());
    let state = Arc::new(ApiState {
        identity,
        client: client.clone(),
        registry: registry.clone(),
        service_cache: service_cache.clone(),
        catalog: CatalogCache::default(),
        checks: checks.clone(),
        check_policy: config.check_policy.clone(),
        bodies: body_quota(),
        unread: UnreadResponses::new(config.max_unread_bytes),
        streams: StreamLimiter::new(config.max_streams, phase.subscribe()),
        http_metrics: HttpMetrics::default(),
        exposition: exposition.clone(),
        phase: phase.subscribe(),
    });
    let urls = listeners.iter().map(Listener::url).collect();
    let listeners: Vec<(Listener, Router)> = listeners
        .into_iter()
        .map(|listener| {
            let policy = access_policy(&listener, address, &config.net, &credentials);
            (listener, router(state.clone(), Arc::new(policy)))
        })
        .collect();
    let services = ConfigFileServices::new(registry.clone(), checks.clone(), address);
    let services = Arc::new(services);
    let hooks = Arc::new(Hooks::new(client.clone()));
    // The order of the start; components stop in reverse order.
    let components: Vec<Arc<dyn Component>> = vec![
        Arc::new(ProcessMetrics),
        Arc::new(CredentialsComponent::new(credentials.clone())),
        Arc::new(ApiServer::new(
            state,
            listeners,
            credentials.clone(),
            config.net.limits,
        )),
        Arc::new(StoreConnection::new(client.clone())),
        Arc::new(ServiceCacheComponent::new(service_cache)),
        Arc::new(RegistryComponent::new(registry.clone(), phase.subscribe())),
        Arc::new(HealthComponent::new(
            checks,
            registry.clone(),
            config.check_policy.clone(),
        )),
        services.clone(),
        hooks.clone(),
    ];
    exposition.add(components.iter().map(Arc::downgrade).collect());
    let supervisor = Supervisor::new(components, phase);
    let inherited = inherited.state.unwrap_or_else(|error| {
        // Clients whose registrations are unknown register again.
        tracing::warn!(error = %error.report(), "skipping the hand-over state of the previous process");
        HandOverState::default()
    });
    supervisor.start(inherited).await?;
    Ok(RunningAgent {
        urls,
        client,
        registry,
        credentials,
        services,
        hooks,
        supervisor,
    })
}

impl RunningAgent {
    /// Returns the URL of the store, with secrets masked.
    pub fn store(&self) -> String {
        self.client.uri().to_string()
    }

    /// Returns the number of registrations.
    pub fn registrations(&self) -> usize {
        self.registry.counts().0
    }

    /// Returns the credentials, which can be reloaded.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Makes the services and hooks of a configuration file effective: new entries start, removed ones end, and
    /// unchanged ones continue.
    ///
    /// # Errors
    ///
    /// Fails if an entry cannot be used; then nothing changes.
    pub async fn apply(&self, plan: Plan) -> Result<()> {
        let services = self.services.prepare(&plan.services).await?;
        let hooks = self.hooks.prepare(plan.hooks).await?;
        self.services.commit(services).await;
        self.hooks.commit(hooks).await;
        Ok(())
    }

    /// Stops accepting requests, finishes those in flight, and returns what the next process needs. Registrations
    /// stay in the store. Afterwards, this process can only be replaced or stopped.
    pub async fn hand_over(&self) -> (Vec<NamedSocket>, HandOverState) {
        self.supervisor.hand_over().await
    }

    /// Withdraws all registrations and stops.
    pub async fn stop(self) {
        self.supervisor.stop().await;
    }
}

/// Validates what can be validated without starting. Returns the addresses on which an agent listens already.
///
/// # Errors
///
/// Fails if the agent could not start with this configuration, for example because another program uses its port.
pub async fn check(config: &Config) -> Result<Vec<String>> {
    read_credentials(&config.net)?;
    check_exec(config, config.net.socket.is_some())?;
    own_address(config)?;
    Url::parse(&config.store.url)?;
    let net = &config.net;
    // The agent that runs this check for a hand-over does not answer without TLS.
    let is_own_port = net.tls.is_some() && handover::is_check_of_running_agent();
    occupied::check_addresses(net.bind.as_deref(), net.socket.as_deref(), is_own_port).await
}

/// Refuses to allow exec checks over the API if every client is anonymous.
fn check_exec(config: &Config, has_socket: bool) -> Result<()> {
    let is_possible = has_socket || config.net.token_file.is_some();
    if config.check_policy.allow_exec && !is_possible {
        return Err(Error::invalid(
            "allow_exec would let every local user run commands as this user over TCP; set socket or token_file",
        ));
    }
    Ok(())
}

fn read_credentials(config: &NetConfig) -> Result<Credentials> {
    Credentials::read(config.tls.clone(), config.token_file.clone())
}

/// Listens on inherited sockets, and opens the ones that the configuration names in addition.
async fn open_listeners(
    config: &NetConfig,
    credentials: &Credentials,
    inherited: Vec<InheritedSocket>,
) -> Result<Vec<Listener>> {
    let (bind, socket) = (config.bind.as_deref(), config.socket.as_deref());
    let mut listeners = inherited_listeners(inherited, bind, socket)?;
    let is_tcp = |listener: &Listener| listener.address().is_some();
    let (has_tcp, has_unix) = (listeners.iter().any(is_tcp), !listeners.iter().all(is_tcp));
    if let (Some(address), false) = (bind, has_tcp) {
        listeners.push(Listener::tcp(address).await?);
    }
    for address in listeners.iter().filter_map(Listener::address) {
        if !address.ip().to_canonical().is_loopback() && !credentials.is_complete() {
            return Err(Error::invalid(format!(
                "bind {address} is open to the network; that takes TLS and a token: give tls_cert, \
                 tls_key and token_file, or bind 127.0.0.1"
            )));
        }
    }
    if let (Some(path), false) = (socket, has_unix) {
        listeners.push(Listener::unix(path)?);
    }
    if handover::store_in_systemd(&listeners) {
        listeners.iter_mut().for_each(Listener::keep_file);
    }
    Ok(listeners)
}

fn inherited_listeners(
    inherited: Vec<InheritedSocket>,
    bind: Option<&str>,
    socket: Option<&Path>,
) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for inherited in inherited {
        let name = inherited.name.clone();
        match Listener::inherited(inherited, bind, socket)? {
            Some(listener) => listeners.push(listener),
            None => handover::remove_from_systemd(&name),
        }
    }
    Ok(listeners)
}

fn access_policy(
    listener: &Listener,
    address: IpAddr,
    config: &NetConfig,
    credentials: &Arc<Credentials>,
) -> AccessPolicy {
    let Some(bound) = listener.address() else {
        // The permissions of the Unix socket decide who may connect.
        return AccessPolicy::default();
    };
    let own = [bound.ip(), address].map(|ip| ip.to_string());
    AccessPolicy {
        hosts: Some(config.hosts.iter().cloned().chain(own).collect()),
        credentials: Some(credentials.clone()),
        wrong_tokens: Arc::default(),
    }
}

/// Returns this host's address for other hosts: by the configured rules, or loopback for a registry of this host
/// alone, or by the default rules in front of a store.
fn own_address(config: &Config) -> Result<IpAddr> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if !config.advertise.is_empty() {
        return advertise::choose(&config.advertise, advertise::candidates()?);
    }
    if config.store.url == EMBEDDED_STORE {
        return Ok(loopback);
    }
    let rules = advertise::DEFAULT_RULES.map(str::to_owned);
    Ok(advertise::choose(&rules, advertise::candidates()?).unwrap_or(loopback))
}
