//! One run: an agent, its owners and watchers, and the comparison at the end.

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

use crate::WAIT_TIMEOUT;
use crate::etcd::Etcd;
use crate::harness::{Harness, Phase, Scale, lock};
use crate::owners::{HttpOwner, assign_instances, run_library_owner};
use crate::store_observer::StoreObserver;
use crate::support::Agent;
use crate::watchers::{Watcher, watch_by_library};

/// Interval between two samples of the agent's memory, descriptors and threads.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// A running load test.
pub struct Run {
    agent: Agent,
    harness: Arc<Harness>,
    observer: StoreObserver,
    owners: JoinSet<()>,
    watchers: JoinSet<(usize, Option<Observations>)>,
    clients: Vec<Client>,
    samples: Vec<ProcessStats>,
    /// The start and the end of each fault.
    faults: Vec<(Micros, Micros)>,
    figures: String,
    _directory: tempfile::TempDir,
}

impl Run {
    /// Starts the agent, the owners and the watchers. Returns when all instances are registered and all watchers see
    /// them.
    pub async fn start(scale: Scale, store: Option<&Etcd>) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let (flag, value) = match store {
            None => ("--state", state.display().to_string()),
            Some(etcd) => ("--store", format!("etcd://{}", etcd.endpoint())),
        };
        let agent = Agent::start(&[flag, &value]);
        let observer = match store {
            None => StoreObserver::of_file(scale.services, state),
            Some(etcd) => StoreObserver::of_etcd(scale.services, &etcd.endpoint()).await,
        };
        let address = agent.address().to_owned();
        let mut run = Run {
            agent,
            harness: Arc::new(Harness::new(scale, address)),
            observer,
            owners: JoinSet::new(),
            watchers: JoinSet::new(),
            clients: Vec::new(),
            samples: Vec::new(),
            faults: Vec::new(),
            figures: String::new(),
            _directory: directory,
        };
        run.register().await;
        run.start_watchers().await;
        run
    }

    async fn register(&mut self) {
        let began = Instant::now();
        let harness = &self.harness;
        let socket = self.agent.directory().join("socket");
        for _ in 0..harness.scale.clients {
            let url = format!("discoverd+unix://{}", socket.display());
            self.clients.push(Client::connect(&url).await.unwrap());
        }
        let (plain, library) = assign_instances(harness, self.clients.len());
        for all in plain {
            self.owners
                .spawn(HttpOwner::new(harness.clone(), all).run());
        }
        for (client, all) in self.clients.iter().zip(library) {
            let owner = run_library_owner(harness.clone(), client.clone(), all);
            self.owners.spawn(owner);
        }
        let (observer, instances) = (self.observer.clone(), harness.scale.instances);
        until("all instances are registered", || {
            observer.count() == instances
        })
        .await;
        self.add_figure(
            "registered",
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }

    async fn start_watchers(&mut self) {
        let began = Instant::now();
        let (harness, clients) = (&self.harness, self.clients.len());
        for (number, client) in self.clients.iter().enumerate() {
            let watcher = watch_by_library(harness.clone(), number, client.clone());
            tokio::spawn(watcher);
        }
        for number in clients..harness.scale.watchers {
            // One watcher of each service is recorded.
            let is_recorded = number - clients < harness.scale.services;
            let watcher = Watcher::new(harness.clone(), number, is_recorded);
            self.watchers.spawn(watcher.watch());
        }
        self.wait_until_idle().await;
        self.add_figure(
            "all watchers current",
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }

    /// Waits until nothing changes, the store has what the owners registered, and all watchers have the state of the
    /// store.
    async fn wait_until_idle(&self) {
        let (harness, observer) = (&self.harness, &self.observer);
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while !harness.is_idle() || observer.instances() != *lock(&harness.owned) {
            if Instant::now() > deadline {
                self.report_lost_writes();
            }
            sleep(Duration::from_millis(50)).await; // tidy: sleep, polling a condition
        }
        until("all watchers see the state of the store", || {
            let stored = observer.digests();
            let is_current = |(number, latest): (usize, &AtomicU64)| {
                latest.load(Ordering::SeqCst) == stored[number % stored.len()]
            };
            harness.latest_digests.iter().enumerate().all(is_current)
        })
        .await;
    }

    /// Fails with what the store has and what the owners registered.
    fn report_lost_writes(&self) {
        let (stored, owned) = (self.observer.instances(), lock(&self.harness.owned));
        for (key, number) in owned.iter() {
            assert_eq!(stored.get(key), Some(number), "{key:?} in the store");
        }
        for (key, number) in &stored {
            assert_eq!(Some(number), owned.get(key), "{key:?} of the owners");
        }
        assert!(self.harness.is_idle(), "timed out: the changes end");
    }

    /// Lets the owners change their instances for the configured time. With `kills`, kills and restarts the agent
    /// after a third of it.
    pub async fn change(&mut self, kills: bool) {
        let (began, before) = (Instant::now(), cpu_seconds(self.agent.pid()));
        let time = self.harness.scale.time;
        self.harness.phase.send_replace(Phase::Changing);
        while began.elapsed() < time {
            if kills && self.faults.is_empty() && began.elapsed() > time / 3 {
                self.kill_and_restart().await;
            }
            self.samples.extend(sample(self.agent.pid()));
            sleep(SAMPLE_INTERVAL).await; // tidy: sleep, polling a condition
        }
        let took = began.elapsed().as_secs_f64();
        let changes = self.harness.changes.load(Ordering::SeqCst) as f64;
        let batches = self.harness.batches.load(Ordering::SeqCst) as f64;
        self.harness.phase.send_replace(Phase::Idle);
        self.add_figure("changes/s", format!("{:.0}", changes / took));
        self.add_figure("batches/s", format!("{:.0}", batches / took));
        if !kills {
            let cores = (cpu_seconds(self.agent.pid()) - before) / took;
            self.add_figure("cores", format!("{cores:.2}"));
            let latency = &self.harness.latency;
            let [half, most, all] = [0.5, 0.99, 0.999].map(|fraction| latency.percentile(fraction));
            self.add_figure("p50/p99/p99.9", format!("{half:.1}/{most:.1}/{all:.1} ms"));
        }
    }

    async fn kill_and_restart(&mut self) {
        let killed = now();
        self.agent.kill();
        let streams = self.harness.streams.load(Ordering::SeqCst);
        // Long enough for all clients to notice.
        sleep(SAMPLE_INTERVAL * 2).await; // tidy: sleep, the fault lasts for a time
        self.agent.restart();
        self.faults.push((killed, now()));
        let began = Instant::now();
        let harness = self.harness.clone();
        let all = streams + (harness.scale.watchers - harness.scale.clients) as u64;
        until("all streams are back", || {
            harness.streams.load(Ordering::SeqCst) >= all
        })
        .await;
        self.add_figure(
            "streams back",
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }

    /// Checks that memory, descriptors and threads do not grow after the first third of the run.
    pub fn check_flat(&mut self) {
        let minutes = self.harness.scale.time.as_secs_f64() / 60.0;
        for (what, course) in trends(&self.samples, minutes) {
            self.add_figure(what, course.to_string());
            // In a short run the agent's event history, kept for reconnecting watchers, is still filling.
            if what != "KiB" || minutes > 1.0 {
                assert!(course.is_flat(), "{what}: {course}");
            }
        }
    }

    /// Returns the number of the agent's connections to this address.
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

    /// Waits until idle and compares what the watchers saw with the store.
    pub async fn verify(mut self, what: &str) {
        self.wait_until_idle().await;
        let stored = self.observer.instances();
        let agent = &self.agent;
        until("the agent knows all registrations", || {
            let (_, status) = agent.request("GET", "/v1/status", &Value::Null);
            status["registrations"] == stored.len()
        })
        .await;
        self.wait_until_idle().await;
        assert_eq!(
            self.observer.instances(),
            stored,
            "restoring registrations changes nothing in the store"
        );
        let (removals, requested) = (self.observer.removals(), &self.harness.removals);
        let requested = requested.load(Ordering::SeqCst);
        assert!(
            removals <= requested,
            "{removals} instances were removed, {requested} removals were requested"
        );
        let end = now();
        self.harness.phase.send_replace(Phase::Finished);
        self.owners.join_all().await;
        let rules = Expectations {
            bound: 30 * SECOND,
            faults: self.faults.clone(),
            end,
            ..Expectations::default()
        };
        let history = self.observer.history();
        let (mut checked, mut longest) = (0, 0);
        while let Some(watched) = self.watchers.join_next().await {
            let (service, seen) = watched.unwrap();
            let Some(mut seen) = seen else { continue };
            seen.snapshots.retain(|snapshot| snapshot.at <= end);
            seen.events.retain(|event| event.at <= end);
            let report = check(&history, &Harness::service(service), &seen, &rules);
            for violation in &report.violations {
                self.harness
                    .report_violation(format!("service {service}: {violation}"));
            }
            checked += report.compared;
            longest = longest.max(report.longest);
        }
        let compared = self.observer.compare(&self.harness);
        let (returns, resets) = (&self.harness.returns, &self.harness.resets);
        println!(
            "{what}: {}; {} batches, {compared} states compared, {checked} of recorded watchers, at most \
             {:.2} s behind; {} streams, {} resets, {} instances registered again",
            self.figures,
            self.harness.batches.load(Ordering::SeqCst),
            seconds(longest),
            self.harness.streams.load(Ordering::SeqCst),
            resets.load(Ordering::SeqCst),
            returns.load(Ordering::SeqCst),
        );
        let violations = lock(&self.harness.violations);
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }

    fn add_figure(&mut self, name: &str, value: String) {
        if !self.figures.is_empty() {
            self.figures.push_str(", ");
        }
        self.figures += &format!("{name} {value}");
    }
}

/// Returns the processor time of a process, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|t| t.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

/// Waits until a condition holds; fails after [`WAIT_TIMEOUT`].
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        sleep(Duration::from_millis(50)).await; // tidy: sleep, polling a condition
    }
}
