//! What a set is at one moment, for as long as somebody holds it.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::error::Error;
use crate::model::{Eligibility, Instance, View};
use crate::set::event::{Event, moves};
use crate::set::{State, Status};

/// How many departed instances a set remembers.
const REMEMBERED: usize = 64;

/// How long what leads from one snapshot to the next may be to be kept for all listeners.
const SHORT: usize = 64;

/// The whole truth of one moment: immutable, and true for as long as it is held.
pub struct Snapshot {
    pub(crate) version: u64,
    pub(crate) view: View,
    /// Whether a view was ever received.
    pub(crate) ready: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) offline: Arc<[OfflineInstance]>,
    /// Who went, came and changed since the version before, where that is known and short.
    pub(crate) step: Option<Box<[Event]>>,
    online: OnceLock<Box<[Arc<Instance>]>>,
    /// Those to choose from, where these are not all.
    trusted: OnceLock<Option<Box<[Arc<Instance>]>>>,
    weights: OnceLock<Box<[u64]>>,
}

/// Why and since when a set is not current.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What the store said, or did not.
    pub error: Error,
    /// When that began.
    pub since: SystemTime,
}

/// An instance that went.
#[derive(Clone, Debug)]
pub struct OfflineInstance {
    /// As it was last seen.
    pub instance: Arc<Instance>,
    /// When its going was noticed.
    pub at: SystemTime,
    /// How it was noticed.
    pub reason: OfflineReason,
}

/// How it was noticed that an instance had gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineReason {
    /// The store told so as it happened: unregistered, or its lease ran out.
    Removed,
    /// It was not there any more when the store could be read again.
    Missing,
}

impl OfflineReason {
    /// `removed` or `missing`.
    pub fn name(self) -> &'static str {
        match self {
            OfflineReason::Removed => "removed",
            OfflineReason::Missing => "missing",
        }
    }
}

impl Snapshot {
    /// Before anything was heard.
    pub(crate) fn empty() -> Snapshot {
        Snapshot::new(0, View::default(), false, None, Arc::new([]))
    }

    pub(crate) fn new(
        version: u64,
        view: View,
        ready: bool,
        fault: Option<Fault>,
        offline: Arc<[OfflineInstance]>,
    ) -> Snapshot {
        let (step, online, trusted, weights) = Default::default();
        Snapshot {
            version,
            view,
            ready,
            fault,
            offline,
            step,
            online,
            trusted,
            weights,
        }
    }

    /// The next snapshot, with a new view from the store.
    pub(crate) fn with_view(&self, view: View, now: SystemTime) -> Snapshot {
        let reason = if self.fault.is_some() {
            OfflineReason::Missing
        } else {
            OfflineReason::Removed
        };
        let version = self.version + 1;
        if self.view.instances.is_empty() && self.offline.is_empty() {
            // The first of all, which may be long: nobody went.
            return Snapshot::new(version, view, true, None, self.offline.clone());
        }
        let step = moves(&self.view, &view);
        let offline = self.remember(&step, now, reason);
        let next = Snapshot::new(version, view, true, None, offline);
        let step = (step.len() <= SHORT).then(|| step.into());
        Snapshot { step, ..next }
    }

    /// The next snapshot, with the store lost: the same view, and why it may be out of date.
    pub(crate) fn with_fault(&self, error: Error, now: SystemTime) -> Snapshot {
        let since = self.fault.as_ref().map_or(now, |fault| fault.since);
        let fault = Some(Fault { error, since });
        let next = self.version + 1;
        Snapshot::new(
            next,
            self.view.clone(),
            self.ready,
            fault,
            self.offline.clone(),
        )
    }

    /// The next snapshot, with a view from an earlier time.
    pub(crate) fn with_cached(&self, view: View, fault: Fault) -> Snapshot {
        Snapshot::new(
            self.version + 1,
            view,
            true,
            Some(fault),
            self.offline.clone(),
        )
    }

    /// A narrowed view of another set's snapshot.
    pub(crate) fn narrowed(&self, view: View, keep: impl Fn(&Instance) -> bool) -> Snapshot {
        let offline = self
            .offline
            .iter()
            .filter(|d| keep(&d.instance))
            .cloned()
            .collect();
        Snapshot::new(self.version, view, self.ready, self.fault.clone(), offline)
    }

    /// Those that go with this step, after those that went before and are not back.
    fn remember(
        &self,
        step: &[Event],
        at: SystemTime,
        reason: OfflineReason,
    ) -> Arc<[OfflineInstance]> {
        let mut gone = Vec::new();
        let mut back = HashSet::new();
        for event in step {
            match event {
                Event::Down(instance) => gone.push(OfflineInstance {
                    instance: instance.clone(),
                    at,
                    reason,
                }),
                Event::Up(instance) => drop(back.insert(instance.id())),
                _ => {}
            }
        }
        if gone.is_empty() && (back.is_empty() || self.offline.is_empty()) {
            return self.offline.clone();
        }
        let is_back = |departed: &&OfflineInstance| !back.contains(departed.instance.id());
        let all: Vec<OfflineInstance> = self
            .offline
            .iter()
            .chain(&gone)
            .filter(is_back)
            .cloned()
            .collect();
        all[all.len().saturating_sub(REMEMBERED)..].into()
    }

    /// Those online, oldest first. The slice is made once for each snapshot.
    pub fn online(&self) -> &[Arc<Instance>] {
        self.online
            .get_or_init(|| self.view.instances.values().cloned().collect())
    }

    /// Those to choose from: those that are fit for calls and no suspects; where there are none, suspects
    /// and those that are weak. Never those that say that they can take none.
    pub(crate) fn trusted(&self) -> &[Arc<Instance>] {
        let choose = || {
            let online = self.online();
            let good = |i: &&Arc<Instance>| i.fitness() == Eligibility::Fit && !i.is_suspect();
            let best = online.iter().filter(good).count();
            if best == online.len() {
                return None;
            }
            let able = |i: &&Arc<Instance>| i.fitness() != Eligibility::Unfit;
            Some(match best {
                0 => online.iter().filter(able).cloned().collect(),
                _ => online.iter().filter(good).cloned().collect(),
            })
        };
        self.trusted
            .get_or_init(choose)
            .as_deref()
            .unwrap_or_else(|| self.online())
    }

    /// The places among those online of those to choose from, where these are not all.
    pub(crate) fn able(&self) -> Option<Vec<usize>> {
        let able = self.trusted().len();
        let all = able == self.online().len();
        (!all).then(|| (0..able).filter_map(|at| self.place(at)).collect())
    }

    /// The place among those online of one of those to choose from.
    pub(crate) fn place(&self, at: usize) -> Option<usize> {
        let (online, able) = (self.online(), self.trusted());
        if able.len() == online.len() {
            return Some(at);
        }
        let wanted = able.get(at)?;
        let wanted = (wanted.created(), wanted.id());
        let order = |one: &Arc<Instance>| (one.created(), one.id()).cmp(&wanted);
        online.binary_search_by(order).ok()
    }

    /// Those recently gone, in the order in which they went; at most 64.
    pub fn offline(&self) -> &[OfflineInstance] {
        &self.offline
    }

    /// The oldest instance online that is no suspect; without any such, the oldest.
    pub fn leader(&self) -> Option<&Arc<Instance>> {
        let all = || self.view.instances.values();
        all()
            .find(|instance| !instance.is_suspect())
            .or_else(|| all().next())
    }

    /// Grows with each change of the set.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which history of the store the revision belongs to: grows when the store turns out to be
    /// another than before, restored from a backup for instance.
    pub fn epoch(&self) -> u64 {
        self.view.epoch
    }

    /// The store's revision; 0 before the first, and where the store has none. Never lower within an
    /// epoch.
    pub fn revision(&self) -> u64 {
        self.view.revision
    }

    /// How many records of the service could not be read.
    pub fn invalid(&self) -> usize {
        self.view.invalid
    }

    /// Whether a whole view was ever received.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether this is what the store has, as far as anybody can know.
    pub fn is_current(&self) -> bool {
        self.ready && self.fault.is_none()
    }

    /// How fresh it is.
    pub fn state(&self) -> State {
        match (self.ready, &self.fault) {
            (false, _) => State::Pending,
            (true, None) => State::Current,
            (true, Some(_)) => State::Stale,
        }
    }

    /// The same with all that belongs to it.
    pub fn status(&self) -> Status {
        Status {
            state: self.state(),
            fault: self.fault.clone(),
            version: self.version,
            epoch: self.epoch(),
            revision: self.revision(),
            invalid: self.invalid(),
        }
    }

    /// Why it is not current.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Running sums of the weights of those to choose from.
    pub(crate) fn weights(&self) -> &[u64] {
        self.weights.get_or_init(|| {
            let sum = |sum: &mut u64, instance: &Arc<Instance>| {
                *sum += u64::from(instance.weight());
                Some(*sum)
            };
            self.trusted().iter().scan(0, sum).collect()
        })
    }
}
