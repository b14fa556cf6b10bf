//! Observer of the store: its contents at each revision, read without the agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discover_faults::ground_truth::ROOT;
use discover_faults::history::{Change, Epoch, History, Instance, Revision};
use discover_faults::watcher_output::attributes;
use discover_testkit::clock::now;
use etcd_client::{EventType, WatchOptions};
use serde_json::Value;
use tokio::time::sleep;

use crate::event_checker::InstanceSet;
use crate::harness::{Harness, RegisteredInstances, lock};

/// Interval between two reads of the file.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Observer of the contents of the store. Clones share them.
#[derive(Clone)]
pub struct StoreObserver(Arc<Mutex<StoreState>>);

struct StoreState {
    history: History,
    services: Vec<InstanceSet>,
    /// The digest of each service at each revision that changed it.
    digests: Vec<BTreeMap<u64, u64>>,
    removals: u64,
}

impl StoreObserver {
    fn new(services: usize) -> StoreObserver {
        let first = Epoch::default();
        StoreObserver(Arc::new(Mutex::new(StoreState {
            history: History {
                epochs: vec![first],
            },
            services: vec![InstanceSet::default(); services],
            digests: vec![BTreeMap::from([(0, 0)]); services],
            removals: 0,
        })))
    }

    /// Reads the file to which an agent's own registry appends each change.
    pub fn of_file(services: usize, path: PathBuf) -> StoreObserver {
        let observer = StoreObserver::new(services);
        let reader = observer.clone();
        tokio::spawn(async move {
            let mut tail = Tail::default();
            loop {
                for line in tail.lines(&path) {
                    lock(&reader.0).line(&line);
                }
                sleep(POLL_INTERVAL).await; // tidy: sleep, polling a condition
            }
        });
        observer
    }

    /// Watches etcd.
    pub async fn of_etcd(services: usize, endpoint: &str) -> StoreObserver {
        let observer = StoreObserver::new(services);
        let mut client = etcd_client::Client::connect([endpoint], None)
            .await
            .unwrap();
        let options = WatchOptions::new().with_prefix().with_start_revision(1);
        let mut stream = client.watch(ROOT, Some(options)).await.unwrap();
        let reader = observer.clone();
        tokio::spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                let mut state = lock(&reader.0);
                for event in response.events() {
                    let kv = event.kv().unwrap();
                    let revision = kv.mod_revision() as u64;
                    let value = (event.event_type() == EventType::Put)
                        .then(|| (kv.create_revision() as u64, kv.value()));
                    state.change(revision, &String::from_utf8_lossy(kv.key()), value);
                }
            }
            drop(client);
        });
        observer
    }

    /// Returns the current digest of each service.
    pub fn digests(&self) -> Vec<u64> {
        lock(&self.0).services.iter().map(|f| f.digest).collect()
    }

    /// Returns the number of instances.
    pub fn count(&self) -> usize {
        lock(&self.0).services.iter().map(|f| f.set.len()).sum()
    }

    /// Returns the instances of all services.
    pub fn instances(&self) -> RegisteredInstances {
        let state = lock(&self.0);
        let services = state.services.iter().enumerate();
        let of_service = |(service, instances): (usize, &InstanceSet)| {
            let all = instances.set.iter();
            let all = all.map(|(id, (_, number))| ((service, id.clone()), *number));
            all.collect::<Vec<_>>()
        };
        services.flat_map(of_service).collect()
    }

    /// Returns the history for the checker of recorded watchers.
    pub fn history(&self) -> History {
        lock(&self.0).history.clone()
    }

    /// Returns the number of instances that were deleted or expired.
    pub fn removals(&self) -> u64 {
        lock(&self.0).removals
    }

    /// Reports each state that a watcher saw and the store never had. Returns the number of compared states.
    pub fn compare(&self, harness: &Harness) -> usize {
        let state = lock(&self.0);
        let mut compared = 0;
        for (service, seen) in harness.seen.iter().enumerate() {
            for (revision, (digest, watcher)) in lock(seen).iter() {
                compared += 1;
                let stored = state.digests[service].range(..=revision).next_back();
                if stored.map(|(_, stored)| stored) != Some(digest) {
                    harness.report_violation(format!(
                        "watcher {watcher} saw a set of service {service} at revision {revision} that the store never \
                         had"
                    ));
                }
            }
        }
        compared
    }
}

impl StoreState {
    /// Applies a line of the file. An incomplete line was never announced to clients, and is ignored.
    fn line(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let head = self.history.epochs[0].head();
        if let Some(revision) = line["revision"].as_u64() {
            let revisions = &mut self.history.epochs[0].revisions;
            revisions.entry(revision.max(head)).or_default().at = now();
        } else if let Some(key) = line["delete"].as_str() {
            self.change(head, key, None);
        } else if let Some(key) = line["put"].as_str() {
            let value = bytes(line["value"].as_str().unwrap());
            self.change(head, key, Some((line["created"].as_u64().unwrap(), &value)));
        }
    }

    fn change(&mut self, revision: u64, key: &str, value: Option<(u64, &[u8])>) {
        let path = key.strip_prefix(ROOT).unwrap();
        let (service, id) = path.split_once('/').unwrap();
        let number: usize = service[1..].parse().unwrap();
        let now = value.map(|(created, value)| {
            let attributes = attributes(&serde_json::from_slice(value).unwrap()).unwrap();
            Arc::new(Instance {
                created,
                attributes,
            })
        });
        let instances = &mut self.services[number];
        match &now {
            Some(instance) => {
                let n = instance.attributes["n"].parse().unwrap();
                instances.put(id, (instance.created, n));
            }
            None => {
                instances.remove(id).unwrap();
                self.removals += 1;
            }
        }
        self.digests[number].insert(revision, instances.digest);
        let (service, id) = (service.to_owned(), id.to_owned());
        let entry = self.history.epochs[0].revisions.entry(revision);
        let entry = entry.or_insert_with(|| Revision {
            at: discover_testkit::clock::now(),
            changes: Vec::new(),
        });
        entry.changes.push(Change { service, id, now });
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

/// Reader of a file that grows and is occasionally replaced by a shorter one.
#[derive(Default)]
struct Tail {
    open: Option<File>,
    rest: Vec<u8>,
}

impl Tail {
    /// Returns the complete lines since the last call.
    fn lines(&mut self, path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let newest = std::fs::metadata(path).map(|about| about.ino()).ok();
            let current = self.open.as_ref().map(|f| f.metadata().unwrap().ino());
            // Read after the inodes: this includes everything written before the file was replaced.
            if let Some(file) = &mut self.open {
                file.read_to_end(&mut self.rest).unwrap();
            }
            while let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=length).collect();
                lines.push(String::from_utf8(line).unwrap());
            }
            if newest == current {
                return lines;
            }
            self.rest.clear();
            self.open = File::open(path).ok();
        }
    }
}
