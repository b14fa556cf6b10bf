//! The agent as a whole: one client, its parts, and the order in which they begin and end.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use discover_core::{Client, Error, Kind, Result, ServiceName};
use percent_encoding::NON_ALPHANUMERIC;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::advertise;
use crate::health::Checks;
use crate::http::serve::{Listener, serve};
use crate::http::tls::acceptor;
use crate::http::{Gauges, Guard, router};
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::sets::Sets;
use crate::sets::names::Names;
use crate::settings::{EMBEDDED, Settings};

/// How long the end may take: registrations are taken away first.
const ENDING: Duration = Duration::from_secs(5);

/// What all parts share. They know this, and not each other.
pub struct Agent {
    /// The one connection to the store.
    pub client: Client,
    /// What applications registered here.
    pub registry: Arc<Registry>,
    /// What is watched.
    pub sets: Arc<Sets>,
    /// The names of all services, as of lately.
    pub names: Names,
    /// How instances that do not say so themselves are found to be.
    pub checks: Arc<Checks>,
    /// What the configuration file asks for.
    pub jobs: Jobs,
    /// Whether whoever may register may also have commands run.
    pub allows_exec: bool,
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
    ending: watch::Sender<bool>,
    listeners: JoinSet<()>,
    chores: JoinSet<()>,
}

/// Opens the store and starts to listen; the jobs of the settings are for the caller to begin. Must be called on a tokio runtime.
pub async fn start(settings: &Settings) -> Result<Running> {
    let token = settings.token_file.as_deref().map(token).transpose()?;
    let listeners = listen(settings, token.is_some()).await?;
    let address = own_address(settings)?;
    let client = open(settings).await?;
    let boot = format!("{:08x}", fastrand::u32(..));
    let sets = Sets::new(client.clone(), boot.clone(), settings.services);
    let registry = Registry::new(client.clone(), sets.clone(), address);
    let checks = Arc::new(Checks::new(registry.clone()));
    let agent = Arc::new(Agent {
        jobs: Jobs::new(client.clone(), registry.clone(), checks.clone(), address),
        checks,
        allows_exec: settings.allow_exec,
        store: client.uri().to_string(),
        client,
        registry: registry.clone(),
        sets: sets.clone(),
        names: Names::default(),
        boot,
        address,
        start: Instant::now(),
        gauges: Gauges::new(settings.streams),
    });
    let mut chores = JoinSet::new();
    chores.spawn(registry.clone().tend());
    chores.spawn(registry.reap());
    chores.spawn(sets.sweep());
    let ending = watch::Sender::new(false);
    let urls = listeners.iter().map(Listener::url).collect();
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let guard = Arc::new(guard(&listener, &agent, settings, token.clone()));
        let router = router(agent.clone(), guard);
        let (agent, end) = (agent.clone(), ending.subscribe());
        tasks.spawn(serve(listener, router, agent, settings.limits, end));
    }
    Ok(Running {
        urls,
        agent,
        ending,
        listeners: tasks,
        chores,
    })
}

impl Agent {
    /// The names of all services; of those known here, where the store cannot list them.
    pub async fn services(&self) -> Result<Vec<ServiceName>> {
        match self.client.catalog().await {
            Err(error) if error.kind() == Kind::Unsupported => Ok(self.registry.services()),
            other => other,
        }
    }
}

impl Running {
    /// What its parts share.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Takes all registrations away, then lets go of everybody.
    pub async fn end(mut self) {
        self.agent.checks.close();
        self.agent.jobs.close().await;
        self.agent.registry.close(ENDING / 2).await;
        self.ending.send_replace(true);
        // The sets end with the client, and the streams with the sets.
        if let Err(error) = self.agent.client.close(ENDING / 2).await {
            log::warn!("{error}");
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

async fn listen(settings: &Settings, has_token: bool) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    if let Some(address) = &settings.bind {
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let protected = tls.is_some() && has_token;
        let listener = Listener::tcp(address, tls).await?;
        let open = listener.address().is_some_and(|at| !at.ip().is_loopback());
        if open && !protected {
            return Err(Error::invalid(format!(
                "bind {address} is open to the network; that takes TLS and a token: give tls_cert, \
                 tls_key and token_file, or bind 127.0.0.1"
            )));
        }
        listeners.push(listener);
    }
    if let Some(path) = &settings.socket {
        listeners.push(Listener::unix(path)?);
    }
    Ok(listeners)
}

fn guard(listener: &Listener, agent: &Agent, settings: &Settings, token: Option<String>) -> Guard {
    let Some(address) = listener.address() else {
        // Its permissions say who may.
        return Guard::default();
    };
    let own = [address.ip(), agent.address].map(|ip| ip.to_string());
    Guard {
        hosts: Some(settings.hosts.iter().cloned().chain(own).collect()),
        token,
    }
}

fn token(path: &Path) -> Result<String> {
    let shown = path.display();
    let read = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("token_file: cannot read {shown}");
        Error::caused_by(Kind::InvalidArgument, text, e)
    })?;
    let token = read.trim();
    let fits = token.len() >= 16 && token.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(Error::invalid(format!(
            "token_file: {shown} holds no token; one has at least 16 letters, digits or signs"
        )));
    }
    Ok(token.to_owned())
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
