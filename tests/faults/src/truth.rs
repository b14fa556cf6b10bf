//! Records the truth: one bare watcher beside each member, their news united, and all of it verified
//! in the end. A revision that none of them saw is a hole, and a run with a hole proves nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions};
use tokio::time::{Duration, sleep, timeout};

use crate::clock::{Micros, now, wait_until};
use crate::history::{Change, Epoch, History, Instance, Revision, Set};
use crate::netns::Host;
use crate::raw::{self, Login};
use crate::record::attributes;

/// Below it lie all services; see layout native.
pub const ROOT: &str = "/discover/services/";

/// The recorder. It ends when dropped.
pub struct Truth {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    first: Ipv4Addr,
    admin: Host,
}

struct Shared {
    stop: AtomicBool,
    login: Mutex<Login>,
    history: Mutex<History>,
}

impl Truth {
    /// Begins to record an empty store.
    pub fn start(admin: &Host, members: &[Ipv4Addr]) -> Truth {
        let first = Epoch {
            began: now(),
            base: 1,
            ..Epoch::default()
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            login: Mutex::default(),
            history: Mutex::new(History {
                epochs: vec![first],
            }),
        });
        let record = |&member: &Ipv4Addr| {
            let shared = shared.clone();
            raw::spawn(admin, move || async move { shared.follow(member).await })
        };
        Truth {
            threads: members.iter().map(record).collect(),
            first: members[0],
            admin: admin.clone(),
            shared,
        }
    }

    /// From now on the recorder logs in.
    pub fn log_in(&self, login: Login) {
        *self
            .shared
            .login
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = login;
    }

    /// Another epoch begins, with what there was up to `base`. No member may be running.
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
            folded: 0,
            revisions,
        });
    }

    /// The last revision known, and when it came.
    pub fn head(&self) -> u64 {
        self.shared.history().epochs.last().map_or(0, Epoch::head)
    }

    /// The last revision of this epoch that concerned a service.
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

    /// How many instances of a service were deleted since a moment.
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

    /// How many revisions came between two moments.
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

    /// What was recorded so far.
    pub fn history(&self) -> History {
        self.shared.history().clone()
    }

    /// Forgets the revisions up to one, but for what they led to. For long runs.
    pub fn forget_until(&self, revision: u64) {
        let mut history = self.shared.history();
        if let Some(epoch) = history.epochs.last_mut() {
            epoch.fold_until(revision);
        }
    }

    /// Compares what was recorded with a range read of the store as it is, which must be at rest.
    pub fn verify(&self) -> Result<(), String> {
        let login = self.shared.login();
        let (answer, asked) = (Arc::new(Mutex::new(None)), self.first);
        let place = answer.clone();
        let reading = raw::spawn(&self.admin, move || async move {
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
            .map_err(|_| "the verifying read died".to_owned())?;
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

impl Drop for Truth {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
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
            // Whatever ends a watch, the next one goes on where it was.
            let _ = self.watch(member, &mut from).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Follows one member from the epoch and revision in `from`, which it moves on.
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
        let client = raw::connect(member, &self.login()).await?;
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(from.1 as i64);
        let mut stream = raw::within(client.watch_client().watch("", Some(options))).await?;
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
                // What was compacted, others have seen.
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
                // A member that was away tells again what is long folded.
                if number <= epoch.folded {
                    continue;
                }
                let revisions = &mut epoch.revisions;
                revisions.entry(number).or_insert(Revision { at, changes });
            }
        }
    }
}

/// What a key says about a service; none if it is of no service.
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

type All = BTreeMap<String, Set>;

async fn read_all(member: Ipv4Addr, login: &Login) -> Result<(u64, All), String> {
    let read = async {
        let mut client = raw::connect(member, login).await?;
        let options = GetOptions::new().with_prefix();
        raw::within(client.get(ROOT, Some(options))).await
    };
    let answer = read.await.map_err(|error| error.to_string())?;
    let mut all = All::new();
    for kv in answer.kvs() {
        if let (Some((service, id)), Some(instance)) = (name(kv), instance(kv)) {
            all.entry(service).or_default().insert(id, instance.into());
        }
    }
    let revision = answer.header().map_or(0, |header| header.revision() as u64);
    Ok((revision, all))
}

fn agree(epoch: &Epoch, revision: u64, read: &All) -> Result<(), String> {
    let holes = epoch.holes();
    if !holes.is_empty() {
        return Err(format!("the recorded truth has holes at {holes:?}"));
    }
    if epoch.head() < revision {
        return Err(format!(
            "recorded up to {}, and the store is at {revision}",
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
                "the recorded truth of {service} is not what the store has"
            ));
        }
    }
    Ok(())
}
