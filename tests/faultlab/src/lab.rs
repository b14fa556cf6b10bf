//! One lab: network namespaces, store, load, recorder and the programs under test, all running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::etcd::{Cluster, PORT};
use crate::fake_clock::FakeClock;
use crate::ground_truth::GroundTruth;
use crate::grpc_proxy::GrpcProxy;
use crate::load::{self, Load};
use crate::netns::{Host, Network};
use crate::partition::received;
use crate::raw_client::Login;
use crate::watcher_output::State;
use crate::watchers::{LANGUAGES, MEMBERS, Watcher};
use discover_testkit::clock::{Micros, now, pause, wait_until};
use discover_testkit::proxy::FaultProxy;

/// Connections that receive more bytes per second than this deliver events, not only heartbeats.
const EVENT_BYTES_PER_SECOND: u64 = 2000;

/// Endpoints without a server: a closed port, and an address that no host has.
const DEAD_ENDPOINTS: [&str; 2] = ["127.0.0.1:9", "10.77.0.250:2379"];

/// The usual TTL of the registrations of the programs under test, in seconds.
pub const TTL: f64 = 5.0;

/// The host name of the store, if it has one: that of its first member.
pub const NAME: &str = "store.lab";

/// Requirements of a scenario.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of members of the store.
    pub members: usize,
    /// Clients connect through the proxy.
    pub proxied: bool,
    /// Clients know the store by a host name.
    pub named: bool,
    /// The wall clock of the clients can be shifted.
    pub clocked: bool,
    /// Authentication is enabled, with tokens that expire after three seconds.
    pub login: bool,
    /// Clients connect through `etcd grpc-proxy`.
    pub grpc_proxied: bool,
    /// The URL of the clients begins with endpoints at which nothing answers.
    pub dead_endpoints: bool,
    /// The TTL of the registrations of the programs under test, in seconds.
    pub ttl: f64,
    /// Further arguments of etcd.
    pub arguments: Vec<String>,
    /// Writes per second.
    pub rate: f64,
    /// How often the programs read their sets, in milliseconds.
    pub pace: u32,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            members: 3,
            proxied: false,
            named: false,
            clocked: false,
            login: false,
            grpc_proxied: false,
            dead_endpoints: false,
            ttl: TTL,
            arguments: Vec::new(),
            rate: 40.0,
            pace: 20,
        }
    }
}

/// The lab. Everything ends and is removed when it is dropped, in this order.
pub struct Lab {
    /// The programs under test.
    pub watchers: Vec<Watcher>,
    /// The writers.
    pub load: Load,
    /// The recorder of all writes.
    pub ground_truth: GroundTruth,
    /// The proxy between the clients and the store, if the scenario needs it.
    pub proxy: Option<FaultProxy>,
    /// `etcd grpc-proxy` between the clients and the store, if the scenario needs it.
    pub grpc_proxy: Option<GrpcProxy>,
    /// The store.
    pub cluster: Cluster,
    /// The host of the programs under test.
    pub clients: Host,
    fake_clock: Option<FakeClock>,
    faults: Mutex<Vec<(Micros, Micros)>>,
    _network: Network,
    directory: tempfile::TempDir,
}

impl Lab {
    /// Starts everything, and waits until the programs have the set of the load.
    pub fn start(setup: &Setup) -> Result<Lab, String> {
        let network = Network::new(2 + setup.members)?;
        let prefix = format!("{}-{}-", crate::netns::TAG, std::process::id());
        let directory = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .map_err(|e| e.to_string())?;
        let admin = network.host(0).clone();
        let clients = network.host(1).clone();
        let hosts: Vec<Host> = (0..setup.members)
            .map(|m| network.host(2 + m).clone())
            .collect();
        let mut arguments = setup.arguments.clone();
        if setup.login {
            arguments.extend(crate::scenario::login::tokens(directory.path())?);
        }
        let cluster = Cluster::start(hosts, admin.clone(), directory.path(), &arguments)?;
        let ground_truth = GroundTruth::start(&admin, &cluster.addresses());
        let mut login: Login = None;
        if setup.login {
            login = Some(crate::scenario::login::enable(&cluster)?);
            ground_truth.log_in(login.clone());
        }
        let targets: Vec<SocketAddr> = cluster
            .addresses()
            .iter()
            .map(|a| (*a, PORT).into())
            .collect();
        let proxy = setup.proxied.then(|| {
            let host = clients.clone();
            let enter = move || host.enter().expect("the namespace of the lab exists");
            FaultProxy::start_in(enter, &targets)
        });
        let ways = proxy.as_ref().map_or(&targets[..], FaultProxy::addresses);
        let mut ways: Vec<String> = ways.iter().map(ToString::to_string).collect();
        if setup.named {
            clients.resolve(NAME, cluster.addresses()[0])?;
            ways = vec![format!("{NAME}:{PORT}")];
        }
        let grpc_proxy = setup
            .grpc_proxied
            .then(|| GrpcProxy::start(&clients, &targets));
        if let Some(proxy) = &grpc_proxy {
            ways = vec![proxy.address()];
        }
        if setup.dead_endpoints {
            ways.splice(0..0, DEAD_ENDPOINTS.map(str::to_owned));
        }
        let url = url(&ways, &login, setup.ttl);
        let fake_clock = setup.clocked.then(|| FakeClock::new(directory.path()));
        let fake_clock = fake_clock.transpose()?;
        let environment = fake_clock
            .as_ref()
            .map_or(Vec::new(), FakeClock::environment);
        let mut watchers = Vec::new();
        for language in LANGUAGES {
            let services = [load::SERVICE, MEMBERS];
            watchers.push(Watcher::start(
                language,
                &clients,
                &url,
                setup.pace,
                &services,
                &environment,
                directory.path(),
            )?);
        }
        for watcher in &mut watchers {
            watcher.wait_ready()?;
        }
        let load = Load::start(&admin, &cluster.addresses(), setup.rate, login);
        let faults = Mutex::default();
        let lab = Lab {
            watchers,
            load,
            ground_truth,
            proxy,
            grpc_proxy,
            cluster,
            clients,
            fake_clock,
            faults,
            _network: network,
            directory,
        };
        lab.wait_caught_up(20.0)
            .map_err(|why| format!("before any fault: {why}"))?;
        pause(1.0);
        Ok(lab)
    }

    /// Returns a directory for files of the lab.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Moves the logs of the run to a directory that stays, and returns it.
    pub fn keep(self) -> PathBuf {
        let Lab { directory, .. } = self;
        // Under another name, or the next lab would remove it as stale.
        let from = directory.keep();
        let name = from
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let to = from.with_file_name(format!("faults-{name}"));
        std::fs::rename(&from, &to).map_or(from, |()| to)
    }

    /// Runs a fault and records its interval; `work` returns the evidence that it happened.
    pub fn fault(
        &self,
        work: impl FnOnce() -> Result<Evidence, String>,
    ) -> Result<Evidence, String> {
        let began = now();
        let evidence = work()?;
        self.record_fault(began);
        Ok(evidence)
    }

    /// Records a fault that ends now.
    pub fn record_fault(&self, began: Micros) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push((began, now()));
    }

    /// Returns the intervals of all faults.
    pub fn faults(&self) -> Vec<(Micros, Micros)> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the proxy of a scenario that requires it.
    pub fn proxy(&self) -> Result<&FaultProxy, String> {
        self.proxy
            .as_ref()
            .ok_or_else(|| "the scenario has no proxy".to_owned())
    }

    /// Returns the wall clock of a scenario that requires it.
    pub fn clock(&self) -> Result<&FakeClock, String> {
        self.fake_clock
            .as_ref()
            .ok_or_else(|| "the scenario does not move the clock".to_owned())
    }

    /// Makes the member that most programs watch the leader, so that a fault of it affects them. Returns it with their number.
    pub fn make_most_watched_leader(&self) -> Result<(usize, u64), String> {
        let mut chosen = (0, 0);
        // Clients may reconnect when the leader changes.
        for _ in 0..5 {
            let told = self.watchers_per_member()?;
            let most = told.iter().enumerate().max_by_key(|(_, count)| **count);
            chosen = most
                .map(|(member, count)| (member, *count))
                .ok_or("no member")?;
            if self.cluster.leader()? == chosen.0 {
                return Ok(chosen);
            }
            self.cluster.lead(chosen.0)?;
            pause(1.0);
        }
        Err(format!("member {} cannot be made the leader", chosen.0))
    }

    /// Returns the number of connections through which each member delivers events.
    fn watchers_per_member(&self) -> Result<Vec<u64>, String> {
        let before = received(&self.clients)?;
        pause(1.0);
        let mut told = vec![0; self.cluster.size()];
        for (connection, bytes) in received(&self.clients)? {
            let news = bytes.saturating_sub(before.get(&connection).copied().unwrap_or(bytes));
            let address = self
                .cluster
                .addresses()
                .into_iter()
                .position(|a| connection.1 == a.to_string());
            if let (Some(member), true) = (address, news > EVENT_BYTES_PER_SECOND) {
                told[member] += 1;
            }
        }
        Ok(told)
    }

    /// Waits until all members are healthy and writes succeed.
    pub fn wait_healthy(&self) -> Result<(), String> {
        self.cluster.wait_healthy()?;
        self.load.wait_writable()
    }

    /// Waits until every program has reached the current revision of the store; the error names the others.
    pub fn wait_caught_up(&self, seconds: f64) -> Result<(), String> {
        let expected = self.expected();
        self.wait_for(seconds, || expected)
    }

    /// Waits until every program has reached the last revision of a store at rest.
    pub fn wait_quiescent(&self, seconds: f64) -> Result<(), String> {
        self.wait_for(seconds, || self.expected())
    }

    /// Returns the last revision of each service.
    fn expected(&self) -> [(&'static str, u64); 2] {
        [load::SERVICE, MEMBERS].map(|service| (service, self.ground_truth.last_of(service)))
    }

    fn wait_for(
        &self,
        seconds: f64,
        expected: impl Fn() -> [(&'static str, u64); 2],
    ) -> Result<(), String> {
        let mut behind = Vec::new();
        let even = wait_until(seconds, || {
            let expected = expected();
            let shown = |watcher: &Watcher, (service, revision): &(&str, u64)| {
                let seen = watcher.last(service);
                seen.is_some_and(|s| s.state == State::Current && s.revision >= *revision)
            };
            let late = |w: &&Watcher| !expected.iter().all(|one| shown(w, one));
            behind = self
                .watchers
                .iter()
                .filter(late)
                .map(|w| w.language)
                .collect();
            behind.is_empty()
        });
        let who = || format!("{} have not caught up with the store", behind.join(", "));
        even.then_some(()).ok_or_else(who)
    }
}

/// What must have happened in a fault, with counts. A zero count voids the run.
pub type Evidence = Vec<(&'static str, u64)>;

fn url(ways: &[String], login: &Login, ttl: f64) -> String {
    let login = login.as_ref().map_or(String::new(), |(name, password)| {
        format!("{name}:{password}@")
    });
    format!(
        "etcd://{login}{}?ttl={ttl}s&connect_timeout=20s",
        ways.join(",")
    )
}
