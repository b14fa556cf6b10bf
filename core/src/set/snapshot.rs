//! What a set is at one moment, for as long as somebody holds it.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::error::Error;
use crate::model::{Eligibility, Instance, View};
use crate::set::event::{Event, membership_changes};
use crate::set::{SetState, Status};

/// How many departed instances a set remembers.
const MAX_OFFLINE: usize = 64;

/// How long what leads from one snapshot to the next may be to be cache_writer for all listeners.
const MAX_STORED_CHANGES: usize = 64;

/// The whole truth of one moment: immutable, and true for as long as it is held.
pub struct Snapshot {
    pub(crate) version: u64,
    pub(crate) view: View,
    /// Whether a view was ever received.
    pub(crate) ready: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) offline: Arc<[OfflineInstance]>,
    /// Who went, came and changed since the version before, where that is known and short.
    pub(crate) changes_since_previous: Option<Box<[Event]>>,
    online: OnceLock<Box<[Arc<Instance>]>>,
    /// Those to choose from, where these are not all.
    candidates: OnceLock<Option<Box<[Arc<Instance>]>>>,
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
    /// The store reported so as it happened: unregistered, or its lease ran out.
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
        let (changes_since_previous, online, candidates, weights) = Default::default();
        Snapshot {
            version,
            view,
            ready,
            fault,
            offline,
            changes_since_previous,
            online,
            candidates,
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
        let changes_since_previous = membership_changes(&self.view, &view);
        let offline = self.remember(&changes_since_previous, now, reason);
        let next = Snapshot::new(version, view, true, None, offline);
        let changes_since_previous = (changes_since_previous.len() <= MAX_STORED_CHANGES)
            .then(|| changes_since_previous.into());
        Snapshot {
            changes_since_previous,
            ..next
        }
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
    pub(crate) fn filtered(&self, view: View, keep: impl Fn(&Instance) -> bool) -> Snapshot {
        let offline = self
            .offline
            .iter()
            .filter(|d| keep(&d.instance))
            .cloned()
            .collect();
        Snapshot::new(self.version, view, self.ready, self.fault.clone(), offline)
    }

    /// Those that go with this changes_since_previous, after those that went before and are not back.
    fn remember(
        &self,
        changes_since_previous: &[Event],
        at: SystemTime,
        reason: OfflineReason,
    ) -> Arc<[OfflineInstance]> {
        let mut gone = Vec::new();
        let mut back = HashSet::new();
        for event in changes_since_previous {
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
        all[all.len().saturating_sub(MAX_OFFLINE)..].into()
    }

    /// Those online, oldest first. The slice is made once for each snapshot.
    pub fn online(&self) -> &[Arc<Instance>] {
        self.online
            .get_or_init(|| self.view.instances.values().cloned().collect())
    }

    /// Those to choose from: those that are fit for calls and no suspects; where there are none, suspects
    /// and those that are weak. Never those that say that they can take none.
    pub(crate) fn candidates(&self) -> &[Arc<Instance>] {
        let choose = || {
            let online = self.online();
            let good =
                |i: &&Arc<Instance>| i.eligibility() == Eligibility::Eligible && !i.is_suspect();
            let best = online.iter().filter(good).count();
            if best == online.len() {
                return None;
            }
            let eligible = |i: &&Arc<Instance>| i.eligibility() != Eligibility::Ineligible;
            Some(match best {
                0 => online.iter().filter(eligible).cloned().collect(),
                _ => online.iter().filter(good).cloned().collect(),
            })
        };
        self.candidates
            .get_or_init(choose)
            .as_deref()
            .unwrap_or_else(|| self.online())
    }

    /// The places among those online of those to choose from, where these are not all.
    pub(crate) fn eligible_indices(&self) -> Option<Vec<usize>> {
        let eligible = self.candidates().len();
        let all = eligible == self.online().len();
        (!all).then(|| {
            (0..eligible)
                .filter_map(|at| self.online_index(at))
                .collect()
        })
    }

    /// The place among those online of one of those to choose from.
    pub(crate) fn online_index(&self, at: usize) -> Option<usize> {
        let (online, eligible) = (self.online(), self.candidates());
        if eligible.len() == online.len() {
            return Some(at);
        }
        let wanted = eligible.get(at)?;
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
    pub fn state(&self) -> SetState {
        match (self.ready, &self.fault) {
            (false, _) => SetState::Pending,
            (true, None) => SetState::Current,
            (true, Some(_)) => SetState::Stale,
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
            self.candidates().iter().scan(0, sum).collect()
        })
    }
}
