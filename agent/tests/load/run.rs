//! One run: an agent, those who use it, and what is said of it in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discover_core::Client;
use discover_faults::check::{Expectations, Observations, check};
use discover_faults::process_stats::{ProcessStats, sample, trends};
use discover_testkit::clock::{Micros, SECOND, now, seconds};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::PATIENCE;
use crate::etcd::Etcd;
use crate::owners::{Own, Plain, live_by_library, shares};
use crate::support::Agent;
use crate::watchers::{Watcher, listen_by_library};
use crate::witness::Witness;
use crate::world::{Phase, Scale, World, lock};

/// How often the agent is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// See the module.
pub struct Run {
    agent: Agent,
    world: Arc<World>,
    witness: Witness,
    owners: JoinSet<Vec<Own>>,
    watchers: JoinSet<(usize, Option<Observations>)>,
    clients: Vec<Client>,
    looks: Vec<ProcessStats>,
    /// When a fault began and was healed.
    faults: Vec<(Micros, Micros)>,
    figures: String,
    _directory: tempfile::TempDir,
}

impl Run {
    /// Starts all; everybody is registered and listens when it returns.
    pub async fn start(scale: Scale, store: Option<&Etcd>) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let (flag, value) = match store {
            None => ("--state", state.display().to_string()),
            Some(etcd) => ("--store", format!("etcd://{}", etcd.endpoint())),
        };
        let agent = Agent::start(&[flag, &value]);
        let witness = match store {
            None => Witness::of_file(scale.services, state),
            Some(etcd) => Witness::of_etcd(scale.services, &etcd.endpoint()).await,
        };
        let place = agent.url().replace("discoverd://", "");
        let mut run = Run {
            agent,
            world: Arc::new(World::new(scale, place)),
            witness,
            owners: JoinSet::new(),
            watchers: JoinSet::new(),
            clients: Vec::new(),
            looks: Vec::new(),
            faults: Vec::new(),
            figures: String::new(),
            _directory: directory,
        };
        run.register().await;
        run.listen().await;
        run
    }

    async fn register(&mut self) {
        let began = Instant::now();
        let world = &self.world;
        let socket = self.agent.directory().join("socket");
        for _ in 0..world.scale.clients {
            let url = format!("discoverd+unix://{}", socket.display());
            self.clients.push(Client::connect(&url).await.unwrap());
        }
        let (plain, library) = shares(world, self.clients.len());
        for all in plain {
            self.owners.spawn(Plain::new(world.clone(), all).live());
        }
        for (client, all) in self.clients.iter().zip(library) {
            let owner = live_by_library(world.clone(), client.clone(), all);
            self.owners.spawn(owner);
        }
        let (witness, instances) = (self.witness.clone(), world.scale.instances);
        until("all are registered", || witness.count() == instances).await;
        self.say(
            "registered",
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }

    async fn listen(&mut self) {
        let began = Instant::now();
        let (world, clients) = (&self.world, self.clients.len());
        for (number, client) in self.clients.iter().enumerate() {
            let listener = listen_by_library(world.clone(), number, client.clone());
            tokio::spawn(listener);
        }
        for number in clients..world.scale.watchers {
            // One of each service is looked at more closely.
            let is_kept = number - clients < world.scale.services;
            let watcher = Watcher::new(world.clone(), number, is_kept);
            self.watchers.spawn(watcher.listen());
        }
        self.rest().await;
        self.say("told", format!("{:.1} s", began.elapsed().as_secs_f64()));
    }

    /// Waits until nothing changes, and all see what is true.
    async fn rest(&self) {
        let (world, witness) = (&self.world, &self.witness);
        until("all watchers see what is true", || {
            let right = witness.digests();
            let is_right = |(number, end): (usize, &AtomicU64)| {
                end.load(Ordering::SeqCst) == right[number % right.len()]
            };
            world.is_quiet() && world.ends.iter().enumerate().all(is_right)
        })
        .await;
    }

    /// Changes things for the time; `kills` the agent in the midst of it, and starts it again.
    pub async fn change(&mut self, kills: bool) {
        let (began, before) = (Instant::now(), worked(self.agent.pid()));
        let time = self.world.scale.time;
        self.world.phase.send_replace(Phase::Changing);
        while began.elapsed() < time {
            if kills && self.faults.is_empty() && began.elapsed() > time / 3 {
                self.kill_and_restart().await;
            }
            self.looks.extend(sample(self.agent.pid()));
            sleep(LOOK).await; // tidy: sleep, between two looks
        }
        let took = began.elapsed().as_secs_f64();
        let changes = self.world.changes.load(Ordering::SeqCst) as f64;
        let batches = self.world.batches.load(Ordering::SeqCst) as f64;
        self.world.phase.send_replace(Phase::Resting);
        self.say("changes/s", format!("{:.0}", changes / took));
        self.say("told/s", format!("{:.0}", batches / took));
        if !kills {
            let cores = (worked(self.agent.pid()) - before) / took;
            self.say("cores", format!("{cores:.2}"));
            let latency = &self.world.latency;
            let [half, most, all] = [0.5, 0.99, 0.999].map(|part| latency.within(part));
            self.say("p50/p99/p99.9", format!("{half:.1}/{most:.1}/{all:.1} ms"));
        }
    }

    async fn kill_and_restart(&mut self) {
        let killed = now();
        self.agent.kill();
        let streams = self.world.streams.load(Ordering::SeqCst);
        // Long enough for all to notice.
        sleep(LOOK * 2).await; // tidy: sleep, the fault lasts for a time
        self.agent.restart();
        self.faults.push((killed, now()));
        let began = Instant::now();
        let world = self.world.clone();
        let all = streams + (world.scale.watchers - world.scale.clients) as u64;
        until("all streams are back", || {
            world.streams.load(Ordering::SeqCst) >= all
        })
        .await;
        self.say(
            "streams back",
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }

    /// Whether memory, descriptors and threads are as they were after the first third.
    pub fn check_flat(&mut self) {
        let minutes = self.world.scale.time.as_secs_f64() / 60.0;
        for (what, course) in trends(&self.looks, minutes) {
            self.say(what, course.to_string());
            // What it remembers for those who come back is not full in a short run.
            if what != "KiB" || minutes > 1.0 {
                assert!(course.is_flat(), "{what}: {course}");
            }
        }
    }

    /// How many connections the agent has to this address.
    pub fn connections_to(&self, endpoint: &str) -> usize {
        let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let port = format!(":{port:04X}");
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let open = lines.filter(|fields| fields[2].ends_with(&port) && fields[3] == "01");
        let sockets: Vec<String> = open.map(|f| format!("socket:[{}]", f[9])).collect();
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.agent.pid())).unwrap();
        let links = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok());
        let ours =
            |link: &std::path::PathBuf| sockets.iter().any(|s| link.as_os_str() == s.as_str());
        links.filter(ours).count()
    }

    /// Brings all to rest, and lays what was seen beside what was true.
    pub async fn judge(mut self, what: &str) {
        self.rest().await;
        let right = self.witness.instances();
        let agent = &self.agent;
        until("the agent knows all registrations", || {
            let (_, status) = agent.ask("GET", "/v1/status", &Value::Null);
            status["registrations"] == right.len()
        })
        .await;
        self.rest().await;
        assert_eq!(
            self.witness.instances(),
            right,
            "coming back changes nothing"
        );
        let (removals, asked) = (self.witness.removals(), &self.world.removals);
        let asked = asked.load(Ordering::SeqCst);
        assert!(removals <= asked, "{removals} went, and {asked} were to");
        let end = now();
        self.world.phase.send_replace(Phase::Over);
        let owned = self.owners.join_all().await;
        let mut owned: Vec<Own> = owned.into_iter().flatten().collect();
        owned.retain(|own| own.shows.is_some());
        owned.sort();
        let differ = owned
            .iter()
            .zip(&right)
            .find(|(owned, right)| owned != right);
        assert_eq!(
            (owned.len(), differ),
            (right.len(), None),
            "owned and stored"
        );
        let rules = Expectations {
            bound: 10 * SECOND,
            faults: self.faults.clone(),
            end,
            ..Expectations::default()
        };
        let history = self.witness.history();
        let (mut judged, mut longest) = (0, 0);
        while let Some(watched) = self.watchers.join_next().await {
            let (service, seen) = watched.unwrap();
            let Some(mut seen) = seen else { continue };
            seen.snapshots.retain(|snapshot| snapshot.at <= end);
            seen.events.retain(|event| event.at <= end);
            let report = check(&history, &World::service(service), &seen, &rules);
            for broken in &report.violations {
                self.world.broke(format!("service {service}: {broken}"));
            }
            judged += report.compared;
            longest = longest.max(report.longest);
        }
        let compared = self.witness.compare(&self.world);
        let (returns, resets) = (&self.world.returns, &self.world.resets);
        println!(
            "{what}: {}; {} batches, {compared} states compared, {judged} by the judge, behind {:.2} s \
             at most; {} streams, {} resets, {} returned by themselves",
            self.figures,
            self.world.batches.load(Ordering::SeqCst),
            seconds(longest),
            self.world.streams.load(Ordering::SeqCst),
            resets.load(Ordering::SeqCst),
            returns.load(Ordering::SeqCst),
        );
        let broken = lock(&self.world.broken);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    fn say(&mut self, what: &str, how: String) {
        if !self.figures.is_empty() {
            self.figures.push_str(", ");
        }
        self.figures += &format!("{what} {how}");
    }
}

/// The processor time of a process, in seconds.
fn worked(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|t| t.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

/// Waits for what must happen.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(50)).await; // tidy: sleep, between two looks
    }
}
