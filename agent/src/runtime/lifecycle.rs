//! The agent as a whole: one client, its parts, and the order in which they begin and end.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use discover_core::{Client, Error, ErrorKind, Result, ServiceName};
use percent_encoding::NON_ALPHANUMERIC;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::advertise;
use crate::api::server::{Phase, serve};
use crate::api::{AccessPolicy, Gauges, router};
use crate::config::{EMBEDDED, Settings};
use crate::health::policy::CheckPolicy;
use crate::health::{Checks, Looked};
use crate::net::credentials::Credentials;
use crate::net::listener::{Given, Listener};
use crate::registry::Registry;
use crate::runtime::handover::{self, Inherited, State};
use crate::service_cache::ServiceCache;
use crate::service_cache::catalog_cache::CatalogCache;
use crate::sources::config_file::ConfigFileServices;

/// How long the end may take: registrations are taken away first.
const ENDING: Duration = Duration::from_secs(5);

/// What all parts share. They know this, and not each other.
pub struct Agent {
    /// The one connection to the store.
    pub client: Client,
    /// What applications registered here.
    pub registry: Arc<Registry>,
    /// What is watched.
    pub sets: Arc<ServiceCache>,
    /// The names of all services, as of lately.
    pub names: CatalogCache,
    /// How instances that do not say so themselves are found to be.
    pub checks: Arc<Checks>,
    /// What the configuration file asks for.
    pub jobs: ConfigFileServices,
    /// What checks may be declared over the API.
    pub allowed: CheckPolicy,
    /// How far it is.
    pub phase: watch::Sender<Phase>,
    /// Tells this run from others.
    pub boot: String,
    /// Where the store is, secrets hidden.
    pub store: String,
    /// The host of registrations that name none.
    pub address: IpAddr,
    /// When it began.
    pub start: Instant,
    /// What is counted.
    pub gauges: Gauges,
}

/// A running agent. It ends when `end` is called, and not when this is dropped.
pub struct Running {
    /// Where it listens, as registry URLs.
    pub urls: Vec<String>,
    agent: Arc<Agent>,
    secrets: Arc<Credentials>,
    /// Each gives back its listener, if it is to be handed over.
    listeners: JoinSet<Option<Listener>>,
    chores: JoinSet<()>,
    /// The one among the chores that takes away who is silent.
    reaping: AbortHandle,
}

/// Opens the store and starts to listen, or goes on where the run before listened; the jobs of the settings
/// are for the caller to begin. Must be called on a tokio runtime.
pub async fn start(settings: &Settings, inherited: Inherited) -> Result<Running> {
    let secrets = Arc::new(secrets(settings)?);
    let mut listeners = listen(settings, &secrets, inherited.listeners).await?;
    if handover::store(&listeners) {
        listeners.iter_mut().for_each(Listener::stay);
    }
    let address = own_address(settings)?;
    let client = open(settings).await?;
    let boot = format!("{:08x}", fastrand::u32(..));
    let sets = ServiceCache::new(client.clone(), boot.clone(), settings.services);
    let registry = Registry::new(client.clone(), sets.clone(), address);
    let checks = Arc::new(Checks::new(registry.clone()));
    let phase = watch::Sender::new(Phase::Serving);
    let agent = Arc::new(Agent {
        jobs: ConfigFileServices::new(client.clone(), registry.clone(), checks.clone(), address),
        checks,
        allowed: settings.allowed.clone(),
        store: client.uri().to_string(),
        client,
        registry: registry.clone(),
        sets: sets.clone(),
        names: CatalogCache::default(),
        boot,
        address,
        start: Instant::now(),
        gauges: Gauges::new(settings.streams, phase.subscribe()),
        phase,
    });
    agent.adopt(inherited.state).await;
    let mut chores = JoinSet::new();
    chores.spawn(registry.clone().tend());
    let reaping = chores.spawn(registry.reap());
    chores.spawn(sets.sweep());
    chores.spawn(secrets.clone().follow());
    let urls = listeners.iter().map(Listener::url).collect();
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let guard = Arc::new(guard(&listener, &agent, settings, &secrets));
        let router = router(agent.clone(), guard);
        let (agent, secrets) = (agent.clone(), secrets.clone());
        tasks.spawn(serve(listener, router, agent, settings.limits, secrets));
    }
    Ok(Running {
        urls,
        agent,
        secrets,
        listeners: tasks,
        chores,
        reaping,
    })
}

impl Agent {
    /// The names of all services; of those known here, where the store cannot list them.
    pub async fn services(&self) -> Result<Vec<ServiceName>> {
        match self.client.catalog().await {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(self.registry.services()),
            other => other,
        }
    }

    /// Goes on with what the run before knew, as far as the settings allow it now.
    async fn adopt(&self, state: State) {
        let (mut looked, mut over) = (Vec::new(), HashSet::new());
        for Looked { service, id, check } in state.looked {
            match self.allowed.again(check) {
                Some(check) => looked.push((service, id, check)),
                None => drop(over.insert((service, id))),
            }
        }
        let (over, registered): (Vec<_>, Vec<_>) = state
            .registered
            .into_iter()
            .partition(|one| over.contains(&one.place()));
        for one in over {
            let (service, id) = one.place();
            log::warn!("{id} of {service} is let go of: its check is not allowed any more");
        }
        self.registry.adopt_held(state.held);
        let adopted = self.registry.adopt(registered);
        for (service, id, check) in looked {
            if let Some((key, grant, health)) = adopted.get(&(service, id)) {
                self.checks.resume(key.clone(), *grant, check, *health);
            }
        }
        self.jobs.adopt(state.begun).await;
    }
}

impl Running {
    /// What its parts share.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Reads the certificate and the token again.
    pub fn secrets(&self) -> &Credentials {
        &self.secrets
    }

    /// Lets nobody in any more, answers who is there, and gives what the next run needs. All that is
    /// registered stays where it is: afterwards this process may be replaced, and not much else.
    pub async fn hand_over(&mut self) -> (Vec<Listener>, State) {
        // Whoever cannot say meanwhile that it lives is not to go for that; the next run gives all a whole TTL.
        self.reaping.abort();
        self.agent.phase.send_replace(Phase::HandingOver);
        let mut listeners = Vec::new();
        while let Some(served) = self.listeners.join_next().await {
            listeners.extend(served.ok().flatten());
        }
        let looked = self.agent.checks.looked();
        self.agent.checks.close().await;
        self.agent.jobs.close().await;
        let held = self.agent.registry.held_back().into_iter();
        let held = held.map(|(whom, mode)| {
            let [service, id] = [whom.service(), whom.id()].map(|part| part.map(str::to_owned));
            (service, id, mode)
        });
        let state = State {
            registered: self.agent.registry.registered(),
            looked,
            begun: self.agent.jobs.begun().await,
            held: held.collect(),
        };
        (listeners, state)
    }

    /// Takes all registrations away, then lets go of everybody.
    pub async fn end(mut self) {
        self.agent.checks.close().await;
        self.agent.jobs.close().await;
        self.agent.registry.close(ENDING / 2).await;
        self.agent.phase.send_replace(Phase::Ending);
        // The sets end with the client, and the streams with the sets.
        if let Err(error) = self.agent.client.close(ENDING / 2).await {
            log::warn!("{error:#}");
        }
        while self.listeners.join_next().await.is_some() {}
        self.chores.shutdown().await;
    }
}

/// An agent whose store is down still starts, and says how it fares.
async fn open(settings: &Settings) -> Result<Client> {
    let store = &settings.store;
    let said = |option: &str| option.split('=').next() == Some("lazy");
    let url = match (store.split_once('?'), &settings.state) {
        (None, Some(state)) if store == EMBEDDED => {
            let state = state.as_os_str().as_encoded_bytes();
            let state = percent_encoding::percent_encode(state, NON_ALPHANUMERIC);
            format!("{store}?state={state}")
        }
        (Some((_, options)), _) if options.split('&').any(said) => store.to_owned(),
        (Some(_), _) => format!("{store}&lazy=true"),
        (None, _) => format!("{store}?lazy=true"),
    };
    Client::connect(&url).await
}

/// Whether it could start like this, as far as that can be known beforehand.
pub fn check(settings: &Settings) -> Result<()> {
    secrets(settings)?;
    own_address(settings)?;
    discover_core::Url::parse(&settings.store).map(drop)
}

/// What is read from files, before anything begins.
pub fn secrets(settings: &Settings) -> Result<Credentials> {
    Credentials::read(settings.tls.clone(), settings.token_file.clone())
}

/// What was inherited comes in place of what would be opened.
async fn listen(
    settings: &Settings,
    secrets: &Credentials,
    inherited: Vec<Given>,
) -> Result<Vec<Listener>> {
    let (bind, socket) = (settings.bind.as_deref(), settings.socket.as_deref());
    let mut listeners = Vec::new();
    for given in inherited {
        let name = given.name.clone();
        match Listener::inherited(given, bind, socket)? {
            Some(listener) => listeners.push(listener),
            None => handover::forget(&name),
        }
    }
    let (has_tcp, has_unix) = {
        let is_tcp = |listener: &Listener| listener.address().is_some();
        (listeners.iter().any(is_tcp), !listeners.iter().all(is_tcp))
    };
    if let (Some(address), false) = (bind, has_tcp) {
        listeners.push(Listener::tcp(address).await?);
    }
    for at in listeners.iter().filter_map(Listener::address) {
        if !at.ip().to_canonical().is_loopback() && !secrets.is_complete() {
            return Err(Error::invalid(format!(
                "bind {at} is open to the network; that takes TLS and a token: give tls_cert, \
                 tls_key and token_file, or bind 127.0.0.1"
            )));
        }
    }
    if let (Some(path), false) = (socket, has_unix) {
        listeners.push(Listener::unix(path)?);
    }
    Ok(listeners)
}

fn guard(
    listener: &Listener,
    agent: &Agent,
    settings: &Settings,
    secrets: &Arc<Credentials>,
) -> AccessPolicy {
    let Some(address) = listener.address() else {
        // Its permissions say who may.
        return AccessPolicy::default();
    };
    let own = [address.ip(), agent.address].map(|ip| ip.to_string());
    AccessPolicy {
        hosts: Some(settings.hosts.iter().cloned().chain(own).collect()),
        secrets: Some(secrets.clone()),
    }
}

/// By the rules that were given; else the loopback for a registry of this host alone, and an address that
/// others may reach for one of many hosts.
fn own_address(settings: &Settings) -> Result<IpAddr> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if !settings.advertise.is_empty() {
        return advertise::choose(&settings.advertise, advertise::candidates()?);
    }
    if settings.store == EMBEDDED {
        return Ok(loopback);
    }
    let rules = advertise::DEFAULT.map(str::to_owned);
    Ok(advertise::choose(&rules, advertise::candidates()?).unwrap_or(loopback))
}
