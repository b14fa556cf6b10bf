//! Records the ground truth: one plain watcher beside each member. Their events are merged and verified at the end. A revision
//! that none of them saw is a hole, and a run with a hole proves nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions};
use tokio::time::{Duration, sleep, timeout};

use crate::history::{Change, Epoch, History, Instance, Revision, Set};
use crate::netns::Host;
use crate::raw_client::{self, Login};
use crate::watcher_output::attributes;
use discover_testkit::clock::{Micros, now, wait_until};

/// The key prefix of all services in layout native.
pub const ROOT: &str = "/discover/services/";

/// The recorder. Stops when dropped.
pub struct GroundTruth {
    shared: Arc<Recorder>,
    threads: Vec<JoinHandle<()>>,
    first: Ipv4Addr,
    admin: Host,
}

struct Recorder {
    stop: AtomicBool,
    login: Mutex<Login>,
    history: Mutex<History>,
}

impl GroundTruth {
    /// Starts to record an empty store.
    pub fn start(admin: &Host, members: &[Ipv4Addr]) -> GroundTruth {
        let first = Epoch {
            began: now(),
            base: 1,
            ..Epoch::default()
        };
        let shared = Arc::new(Recorder {
            stop: AtomicBool::new(false),
            login: Mutex::default(),
            history: Mutex::new(History {
                epochs: vec![first],
            }),
        });
        let record = |&member: &Ipv4Addr| {
            let shared = shared.clone();
            raw_client::spawn(admin, move || async move { shared.follow(member).await })
        };
        GroundTruth {
            threads: members.iter().map(record).collect(),
            first: members[0],
            admin: admin.clone(),
            shared,
        }
    }

    /// Makes the recorder log in from now on.
    pub fn log_in(&self, login: Login) {
        *self
            .shared
            .login
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = login;
    }

    /// Begins a new epoch that inherits the revisions up to `base`. All members must be stopped.
    pub fn begin_epoch(&self, base: u64) {
        let mut history = self.shared.history();
        let last = history.epochs.last().expect("there is a first");
        let revisions = last
            .revisions
            .range(..=base)
            .map(|(n, r)| (*n, r.clone()))
            .collect();
        history.epochs.push(Epoch {
            began: now(),
            base,
            compacted: 0,
            revisions,
        });
    }

    /// Returns the last known revision.
    pub fn head(&self) -> u64 {
        self.shared.history().epochs.last().map_or(0, Epoch::head)
    }

    /// Returns the last revision of this epoch that concerns a service.
    pub fn last_of(&self, service: &str) -> u64 {
        let history = self.shared.history();
        let Some(epoch) = history.epochs.last() else {
            return 0;
        };
        let touches = |(_, revision): &(&u64, &Revision)| {
            revision.changes.iter().any(|c| c.service == service)
        };
        epoch
            .revisions
            .iter()
            .rfind(touches)
            .map_or(0, |(number, _)| *number)
    }

    /// Returns how many instances of a service were deleted since a time.
    pub fn deletions_since(&self, service: &str, from: Micros) -> usize {
        let history = self.shared.history();
        let revisions = history
            .epochs
            .iter()
            .flat_map(|epoch| epoch.revisions.values());
        let changes = revisions.filter(|r| r.at >= from).flat_map(|r| &r.changes);
        changes
            .filter(|c| c.service == service && c.now.is_none())
            .count()
    }

    /// Returns how many revisions were committed in an interval.
    pub fn count_between(&self, from: Micros, to: Micros) -> usize {
        let history = self.shared.history();
        let within = |epoch: &Epoch| {
            let from = from.max(epoch.began);
            epoch
                .revisions
                .values()
                .filter(|r| r.at >= from && r.at <= to)
                .count()
        };
        history.epochs.iter().map(within).sum()
    }

    /// Returns everything recorded so far.
    pub fn history(&self) -> History {
        self.shared.history().clone()
    }

    /// Merges the revisions up to `revision` into one, for long runs.
    pub fn forget_until(&self, revision: u64) {
        let mut history = self.shared.history();
        if let Some(epoch) = history.epochs.last_mut() {
            epoch.compact_until(revision);
        }
    }

    /// Compares the recording with a range read of the store, which must be at rest.
    pub fn verify(&self) -> Result<(), String> {
        let login = self.shared.login();
        let (answer, asked) = (Arc::new(Mutex::new(None)), self.first);
        let place = answer.clone();
        let reading = raw_client::spawn(&self.admin, move || async move {
            for _ in 0..10 {
                let read = read_all(asked, &login).await;
                let done = read.is_ok();
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
                if done {
                    return;
                }
                sleep(Duration::from_millis(300)).await;
            }
        });
        reading
            .join()
            .map_err(|_| "the verifying read panicked".to_owned())?;
        let read = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (revision, read) = read.ok_or("nothing was read")??;
        wait_until(3.0, || self.head() >= revision);
        let history = self.shared.history();
        history
            .epochs
            .last()
            .map_or(Ok(()), |epoch| agree(epoch, revision, &read))
    }
}

impl Drop for GroundTruth {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Recorder {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn login(&self) -> Login {
        self.login
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn follow(&self, member: Ipv4Addr) {
        let mut from = (0, 0);
        while !self.stop.load(Ordering::SeqCst) {
            // After any end, the next watch resumes at the same position.
            let _ = self.watch(member, &mut from).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Watches one member from the epoch and revision in `from`, and advances it.
    async fn watch(
        &self,
        member: Ipv4Addr,
        from: &mut (usize, u64),
    ) -> Result<(), etcd_client::Error> {
        let newest = self.history().epochs.len();
        if newest > from.0 {
            let base = self.history().epochs[newest - 1].base;
            *from = (newest, base + 1);
        }
        let epoch = from.0 - 1;
        let client = raw_client::connect(member, &self.login()).await?;
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(from.1 as i64);
        let mut stream = raw_client::within(client.watch_client().watch("", Some(options))).await?;
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            let Ok(message) = timeout(Duration::from_millis(200), stream.message()).await else {
                continue;
            };
            let Some(answer) = message? else {
                return Ok(());
            };
            if answer.compact_revision() > 0 {
                // The other members have seen what was compacted.
                from.1 = answer.compact_revision() as u64;
            }
            if answer.canceled() {
                return Ok(());
            }
            let at = now();
            let mut batch: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
            for event in answer.events() {
                let Some(kv) = event.kv() else { continue };
                let revision = kv.mod_revision() as u64;
                let changes = batch.entry(revision).or_default();
                changes.extend(change(kv, event.event_type() == EventType::Put));
                from.1 = revision + 1;
            }
            let mut history = self.history();
            for (number, changes) in batch {
                let epoch = &mut history.epochs[epoch];
                // A member that was away repeats revisions that are merged already.
                if number <= epoch.compacted {
                    continue;
                }
                let revisions = &mut epoch.revisions;
                revisions.entry(number).or_insert(Revision { at, changes });
            }
        }
    }
}

/// Decodes a key as a change; none if it belongs to no service.
fn change(kv: &KeyValue, put: bool) -> Option<Change> {
    let (service, id) = name(kv)?;
    let now = match put {
        true => Some(Arc::new(instance(kv)?)),
        false => None,
    };
    Some(Change { service, id, now })
}

fn name(kv: &KeyValue) -> Option<(String, String)> {
    let path = std::str::from_utf8(kv.key()).ok()?.strip_prefix(ROOT)?;
    let (service, id) = path.split_once('/')?;
    Some((service.to_owned(), id.to_owned()))
}

fn instance(kv: &KeyValue) -> Option<Instance> {
    let value = serde_json::from_slice(kv.value()).ok()?;
    let created = kv.create_revision() as u64;
    Some(Instance {
        created,
        attributes: attributes(&value).ok()?,
    })
}

type ServiceSets = BTreeMap<String, Set>;

async fn read_all(member: Ipv4Addr, login: &Login) -> Result<(u64, ServiceSets), String> {
    let read = async {
        let mut client = raw_client::connect(member, login).await?;
        let options = GetOptions::new().with_prefix();
        raw_client::within(client.get(ROOT, Some(options))).await
    };
    let answer = read.await.map_err(|error| error.to_string())?;
    let mut all = ServiceSets::new();
    for kv in answer.kvs() {
        if let (Some((service, id)), Some(instance)) = (name(kv), instance(kv)) {
            all.entry(service).or_default().insert(id, instance.into());
        }
    }
    let revision = answer.header().map_or(0, |header| header.revision() as u64);
    Ok((revision, all))
}

fn agree(epoch: &Epoch, revision: u64, read: &ServiceSets) -> Result<(), String> {
    let holes = epoch.holes();
    if !holes.is_empty() {
        return Err(format!("the ground truth has holes at {holes:?}"));
    }
    if epoch.head() < revision {
        return Err(format!(
            "recorded up to revision {}, but the store is at {revision}",
            epoch.head()
        ));
    }
    let changes = || epoch.revisions.values().flat_map(|r| &r.changes);
    let services: std::collections::BTreeSet<&String> = changes().map(|c| &c.service).collect();
    for service in services {
        let states = epoch.states(service, &[revision].into());
        let (recorded, none) = (states.at(revision), Set::new());
        if recorded != Some(read.get(service).unwrap_or(&none)) {
            return Err(format!(
                "the ground truth of {service} differs from the store"
            ));
        }
    }
    Ok(())
}
