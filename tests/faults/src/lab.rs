//! One lab: the machines, the store, the load, the truth and the programs under test, all running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Micros, now, pause, wait_until};
use crate::cut::received;
use crate::etcd::{Cluster, PORT};
use crate::load::{self, Load};
use crate::netns::{Host, Network};
use crate::proxy::Proxy;
use crate::raw::Login;
use crate::record::State;
use crate::truth::Truth;
use crate::wall::Wall;
use crate::watchers::{LANGUAGES, MEMBERS, Watcher};

/// More bytes than this in a second are news of the load, and not only heartbeats.
const NEWS: u64 = 2000;

/// How the registrations of the programs under test live, in seconds.
pub const TTL: f64 = 5.0;

/// The name of the store, where it has one: that of its first member.
pub const NAME: &str = "store.lab";

/// What a scenario wants of its lab.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many members the store has.
    pub members: usize,
    /// Whether the clients reach it through the proxy.
    pub proxied: bool,
    /// Whether the clients know the store by a name.
    pub named: bool,
    /// Whether the wall clock of the clients can be moved.
    pub clocked: bool,
    /// Whether one must log in, with tokens that live three seconds.
    pub login: bool,
    /// Further arguments of etcd.
    pub arguments: Vec<String>,
    /// How many writes a second.
    pub rate: f64,
    /// How often the programs look, in milliseconds.
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
            arguments: Vec::new(),
            rate: 40.0,
            pace: 20,
        }
    }
}

/// See the module. Everything ends and is removed when it is dropped, in this order.
pub struct Lab {
    /// The programs under test.
    pub watchers: Vec<Watcher>,
    /// The writers.
    pub load: Load,
    /// The recorder of what is written.
    pub truth: Truth,
    /// In the clients' way, if the scenario wants it.
    pub proxy: Option<Proxy>,
    /// The store.
    pub cluster: Cluster,
    /// The machine of the programs under test.
    pub clients: Host,
    wall: Option<Wall>,
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
        let truth = Truth::start(&admin, &cluster.addresses());
        let mut login: Login = None;
        if setup.login {
            login = Some(crate::scenario::login::enable(&cluster)?);
            truth.log_in(login.clone());
        }
        let targets: Vec<SocketAddr> = cluster
            .addresses()
            .iter()
            .map(|a| (*a, PORT).into())
            .collect();
        let proxy = setup.proxied.then(|| Proxy::start(&clients, &targets));
        let ways = proxy.as_ref().map_or(&targets[..], Proxy::addresses);
        let mut ways: Vec<String> = ways.iter().map(ToString::to_string).collect();
        if setup.named {
            clients.resolve(NAME, cluster.addresses()[0])?;
            ways = vec![format!("{NAME}:{PORT}")];
        }
        let url = url(&ways, &login);
        let wall = setup.clocked.then(|| Wall::new(directory.path()));
        let wall = wall.transpose()?;
        let environment = wall.as_ref().map_or(Vec::new(), Wall::environment);
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
            truth,
            proxy,
            cluster,
            clients,
            wall,
            faults,
            _network: network,
            directory,
        };
        lab.wait_even(20.0)
            .map_err(|why| format!("before any fault: {why}"))?;
        pause(1.0);
        Ok(lab)
    }

    /// A folder for what the lab needs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps the logs of the run in a folder that stays, and gives it.
    pub fn keep(self) -> PathBuf {
        let Lab { directory, .. } = self;
        // Under another name, or the next lab takes it for a leftover.
        let from = directory.keep();
        let name = from
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let to = from.with_file_name(format!("faults-{name}"));
        std::fs::rename(&from, &to).map_or(from, |()| to)
    }

    /// Does a fault and remembers when; its work returns what must have happened, counted.
    pub fn fault(
        &self,
        work: impl FnOnce() -> Result<Evidence, String>,
    ) -> Result<Evidence, String> {
        let began = now();
        let evidence = work()?;
        self.was_fault(began);
        Ok(evidence)
    }

    /// Remembers a fault that is healed now.
    pub fn was_fault(&self, began: Micros) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push((began, now()));
    }

    /// When faults began and were healed.
    pub fn faults(&self) -> Vec<(Micros, Micros)> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The proxy of a scenario that asked for it.
    pub fn proxy(&self) -> Result<&Proxy, String> {
        self.proxy
            .as_ref()
            .ok_or_else(|| "the scenario has no proxy".to_owned())
    }

    /// The wall clock of the programs in a scenario that asked for it.
    pub fn clock(&self) -> Result<&Wall, String> {
        self.wall
            .as_ref()
            .ok_or_else(|| "the scenario does not move the clock".to_owned())
    }

    /// Makes that member the leader through which most programs are told the news, so that it is them
    /// who are hit; gives it, and how many they are.
    pub fn lead_where_watched(&self) -> Result<(usize, u64), String> {
        let mut chosen = (0, 0);
        // A change of the leader may make them move.
        for _ in 0..5 {
            let told = self.told()?;
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

    /// How many connections each member tells news through.
    fn told(&self) -> Result<Vec<u64>, String> {
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
            if let (Some(member), true) = (address, news > NEWS) {
                told[member] += 1;
            }
        }
        Ok(told)
    }

    /// Waits until all members answer and something can be written again.
    pub fn wait_whole(&self) -> Result<(), String> {
        self.cluster.wait_healthy()?;
        self.load.wait_writable()
    }

    /// Waits until every program has got as far as the store is now, and says who has not.
    pub fn wait_even(&self, seconds: f64) -> Result<(), String> {
        let owed = self.owed();
        self.wait_for(seconds, || owed)
    }

    /// Waits until every program has got as far as the store then is. For a store at rest.
    pub fn wait_rest(&self, seconds: f64) -> Result<(), String> {
        self.wait_for(seconds, || self.owed())
    }

    /// The last revision of each service.
    fn owed(&self) -> [(&'static str, u64); 2] {
        [load::SERVICE, MEMBERS].map(|service| (service, self.truth.last_of(service)))
    }

    fn wait_for(
        &self,
        seconds: f64,
        owed: impl Fn() -> [(&'static str, u64); 2],
    ) -> Result<(), String> {
        let mut behind = Vec::new();
        let even = wait_until(seconds, || {
            let owed = owed();
            let shown = |watcher: &Watcher, (service, revision): &(&str, u64)| {
                let seen = watcher.last(service);
                seen.is_some_and(|s| s.state == State::Current && s.revision >= *revision)
            };
            let late = |w: &&Watcher| !owed.iter().all(|one| shown(w, one));
            behind = self
                .watchers
                .iter()
                .filter(late)
                .map(|w| w.language)
                .collect();
            behind.is_empty()
        });
        let who = || format!("{} not as far as the store", behind.join(", "));
        even.then_some(()).ok_or_else(who)
    }
}

/// What must have happened in a fault, or it was none: each thing with its count.
pub type Evidence = Vec<(&'static str, u64)>;

fn url(ways: &[String], login: &Login) -> String {
    let login = login.as_ref().map_or(String::new(), |(name, password)| {
        format!("{name}:{password}@")
    });
    format!(
        "etcd://{login}{}?ttl={TTL}s&connect_timeout=20s",
        ways.join(",")
    )
}
