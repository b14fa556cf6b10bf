//! Immutable snapshots of a set.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::error::Error;
use crate::model::{Eligibility, Instance, View};
use crate::set::event::{Event, membership_changes};
use crate::set::status::{Fault, SetState, Status};

/// Maximum number of offline instances that a set remembers.
const MAX_OFFLINE: usize = 64;

/// Maximum number of changes that a snapshot stores for all subscribers.
const MAX_STORED_CHANGES: usize = 64;

/// Immutable state of a set at one moment.
pub struct Snapshot {
    pub(crate) version: u64,
    pub(crate) view: View,
    /// Whether a view was ever received.
    pub(crate) ready: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) offline: Arc<[OfflineInstance]>,
    /// Membership changes since the previous version, if they are known and few.
    pub(crate) changes_since_previous: Option<Box<[Event]>>,
    online: OnceLock<Box<[Arc<Instance>]>>,
    /// Candidates for `pick`, if not all online instances are candidates.
    candidates: OnceLock<Option<Box<[Arc<Instance>]>>>,
    weights: OnceLock<Box<[u64]>>,
}

/// Instance that went offline.
#[derive(Clone, Debug)]
pub struct OfflineInstance {
    /// Last known state of the instance.
    pub instance: Arc<Instance>,
    /// When the library noticed it.
    pub at: SystemTime,
    /// How the library noticed it.
    pub reason: OfflineReason,
}

/// How the library noticed that an instance went offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineReason {
    /// The store reported the removal: the instance was unregistered, or its lease expired.
    Removed,
    /// The instance was missing when the store was available again.
    Missing,
}

impl OfflineReason {
    /// Returns `removed` or `missing`.
    pub fn name(self) -> &'static str {
        match self {
            OfflineReason::Removed => "removed",
            OfflineReason::Missing => "missing",
        }
    }
}

impl Snapshot {
    /// Returns the snapshot before the first view.
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

    /// Returns the next snapshot, with a new view from the store.
    pub(crate) fn with_view(&self, view: View, now: SystemTime) -> Snapshot {
        let reason = if self.fault.is_some() {
            OfflineReason::Missing
        } else {
            OfflineReason::Removed
        };
        let version = self.version + 1;
        if self.view.instances.is_empty() && self.offline.is_empty() {
            // The first view may be long; no instance went offline.
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

    /// Returns the next snapshot after the store became unavailable: the same view, with the reason.
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

    /// Returns the next snapshot, with a view from the cache file.
    pub(crate) fn with_cached(&self, view: View, fault: Fault) -> Snapshot {
        Snapshot::new(
            self.version + 1,
            view,
            true,
            Some(fault),
            self.offline.clone(),
        )
    }

    /// Returns this snapshot with a filtered view.
    pub(crate) fn filtered(&self, view: View, keep: impl Fn(&Instance) -> bool) -> Snapshot {
        let offline = self
            .offline
            .iter()
            .filter(|d| keep(&d.instance))
            .cloned()
            .collect();
        Snapshot::new(self.version, view, self.ready, self.fault.clone(), offline)
    }

    /// Returns the offline instances after these changes: the earlier ones that are not back online, then the
    /// new ones.
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

    /// Returns the online instances, oldest first. The slice is built once per snapshot.
    pub fn online(&self) -> &[Arc<Instance>] {
        self.online
            .get_or_init(|| self.view.instances.values().cloned().collect())
    }

    /// Returns true if the instance is online. Searches only what differs from `earlier`, a snapshot without it.
    pub(crate) fn contains_since(
        &self,
        earlier: Option<&Snapshot>,
        id: &str,
        address: &str,
    ) -> bool {
        let is_it = |instance: &Instance| instance.id() == id || instance.address() == address;
        match earlier {
            None => self
                .view
                .instances
                .values()
                .rev()
                .any(|instance| is_it(instance)),
            Some(earlier) => {
                let changes = membership_changes(&earlier.view, &self.view);
                changes.iter().any(|change| match change {
                    Event::Up(instance) | Event::Update(instance) => is_it(instance),
                    _ => false,
                })
            }
        }
    }

    /// Returns the candidates for `pick`: healthy instances that are not suspect; if there are none, suspect
    /// or `warning` ones. `critical`, `maintenance` and `draining` instances are never candidates. Of these, instances
    /// of weight 0 are candidates only if all have weight 0.
    pub(crate) fn candidates(&self) -> &[Arc<Instance>] {
        let choose = || {
            let online = self.online();
            let good =
                |i: &Arc<Instance>| i.eligibility() == Eligibility::Eligible && !i.is_suspect();
            let eligible = |i: &Arc<Instance>| i.eligibility() != Eligibility::Ineligible;
            let weighted = |i: &Arc<Instance>| i.weight() > 0;
            let any = |is: &dyn Fn(&Arc<Instance>) -> bool| online.iter().any(is);
            let tier: &dyn Fn(&Arc<Instance>) -> bool = if any(&good) { &good } else { &eligible };
            let has_weight = any(&|i| tier(i) && weighted(i));
            let is_candidate = |i: &&Arc<Instance>| tier(i) && (!has_weight || weighted(i));
            let count = online.iter().filter(is_candidate).count();
            (count < online.len()).then(|| online.iter().filter(is_candidate).cloned().collect())
        };
        self.candidates
            .get_or_init(choose)
            .as_deref()
            .unwrap_or_else(|| self.online())
    }

    /// Returns the indices of the candidates among the online instances, or none if all are candidates.
    pub(crate) fn eligible_indices(&self) -> Option<Vec<usize>> {
        let eligible = self.candidates().len();
        let all = eligible == self.online().len();
        (!all).then(|| {
            (0..eligible)
                .filter_map(|at| self.online_index(at))
                .collect()
        })
    }

    /// Returns the index among the online instances of the candidate with index `at`.
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

    /// Returns the instances that recently went offline, oldest event first; at most 64.
    pub fn offline(&self) -> &[OfflineInstance] {
        &self.offline
    }

    /// Returns the oldest online instance that is not suspect, or else the oldest.
    pub fn leader(&self) -> Option<&Arc<Instance>> {
        let all = || self.view.instances.values();
        all()
            .find(|instance| !instance.is_suspect())
            .or_else(|| all().next())
    }

    /// Returns the version, which grows with each change of the set.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the epoch to which the revision belongs. The epoch grows when the store turns out to have
    /// another history than before, for example after a restore from a backup.
    pub fn epoch(&self) -> u64 {
        self.view.epoch
    }

    /// Returns the revision of the store; 0 before the first view and for stores without revisions. Never
    /// decreases within an epoch.
    pub fn revision(&self) -> u64 {
        self.view.revision
    }

    /// Returns the number of malformed records of the service.
    pub fn invalid(&self) -> usize {
        self.view.invalid
    }

    /// Returns true if a view was ever received.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns true if the snapshot equals the store, as far as known.
    pub fn is_current(&self) -> bool {
        self.ready && self.fault.is_none()
    }

    /// Returns the state.
    pub fn state(&self) -> SetState {
        match (self.ready, &self.fault) {
            (false, _) => SetState::Pending,
            (true, None) => SetState::Current,
            (true, Some(_)) => SetState::Stale,
        }
    }

    /// Returns the state with its details.
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

    /// Returns why and since when the snapshot is stale.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Returns the prefix sums of the weights of the candidates.
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
