//! The checker: compares what a watcher saw with what the store held, and names every violated guarantee.
//!
//! Each snapshot must equal the store at the revision that it names, in an epoch that had begun; the pairs of epoch and
//! revision never decrease. Watchers do not report the number of the epoch, so all matching epochs stay possible: a
//! snapshot is a violation only if it matches none.

mod diagnose;
mod end;
mod pace;
mod registrations;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{History, Set, States};
use crate::watcher_output::{Event, Snapshot, State};
use discover_testkit::clock::{Micros, SECOND};

pub use registrations::{Registrant, check_protected, check_registrations};

/// The guarantees that apply to a run.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// How soon after the end of a fault a watcher must be current again.
    pub bound: Micros,
    /// How soon after the end of a fault a living process must be registered again.
    pub registered: Micros,
    /// Start and end of each fault.
    pub faults: Vec<(Micros, Micros)>,
    /// Maximum lag of a watcher while the store stays reachable through some path; none if the store was unreachable.
    pub behind: Option<Micros>,
    /// How long a watcher may show instances that the store lost in a mass expiry.
    pub retained: Option<Micros>,
    /// When the run ended and all watchers were at rest.
    pub end: Micros,
}

impl Default for Expectations {
    fn default() -> Expectations {
        Expectations {
            bound: 3 * SECOND,
            registered: 2 * SECOND,
            faults: Vec::new(),
            behind: None,
            retained: None,
            end: Micros::MAX,
        }
    }
}

/// Everything that one watcher saw of one service.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Snapshots, in order.
    pub snapshots: Vec<Snapshot>,
    /// Events, in order.
    pub events: Vec<Event>,
}

/// The kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// An instance of the store is missing.
    Lost,
    /// A deleted instance is still shown.
    Ghost,
    /// An instance has attributes that it did not have at that revision.
    WrongValue,
    /// An instance is confused with an earlier or later one of the same id.
    WrongCreated,
    /// An instance that never existed.
    Phantom,
    /// A part of a revision without the rest.
    Torn,
    /// The set belongs to a later revision than the one named.
    Ahead,
    /// A revision that the store never had.
    UnknownRevision,
    /// A revision lower than the previous one, in the same epoch.
    Backwards,
    /// Not current in time after the end of a fault.
    Late,
    /// Behind for too long although the store was reachable.
    Behind,
    /// Not current at the end.
    NotCurrent,
    /// An instance is missing at the end.
    MissingAtEnd,
    /// An instance is shown at the end that the store does not have.
    GhostAtEnd,
    /// An instance differs from the store at the end.
    WrongAtEnd,
    /// No snapshot was seen.
    Blind,
    /// Applying the events does not yield the set.
    Events,
    /// A living instance was removed when the store lost all instances at once.
    TakenAway,
    /// A living process was unregistered for too long.
    Unregistered,
    /// The program crashed or failed to leave in order.
    Died,
}

/// One violated guarantee.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its kind.
    pub kind: ViolationKind,
    /// When it was seen.
    pub at: Micros,
    /// The instance, or empty.
    pub id: String,
    /// What was seen, and what would have been right.
    pub text: String,
}

/// How long no event may have arrived before the end for the events to be compared with the set.
const REST: Micros = SECOND / 3;

/// The result for one watcher and one service.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first violation of each kind and instance.
    pub violations: Vec<Violation>,
    /// The longest lag.
    pub longest: Micros,
    /// The number of compared snapshots.
    pub compared: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.kind, self.id, self.text)
    }
}

impl Report {
    fn add(&mut self, kind: ViolationKind, at: Micros, id: &str, text: impl Into<String>) {
        if !self.violations.iter().any(|b| b.kind == kind && b.id == id) {
            let (id, text) = (id.to_owned(), text.into());
            self.violations.push(Violation { kind, at, id, text });
        }
    }
}

/// The history of one service, prepared for the checks.
struct Comparison<'a> {
    history: &'a History,
    epochs: Vec<States>,
    service: &'a str,
    rules: &'a Expectations,
}

/// The epoch and revision of a snapshot in the history.
type Position = (usize, u64);

/// Compares what one watcher saw of one service with the history of the store.
pub fn check(
    history: &History,
    service: &str,
    seen: &Observations,
    rules: &Expectations,
) -> Report {
    let wanted: BTreeSet<u64> = seen.snapshots.iter().map(|s| s.revision).collect();
    let epochs = history
        .epochs
        .iter()
        .map(|epoch| epoch.states(service, &wanted))
        .collect();
    let comparison = Comparison {
        history,
        epochs,
        service,
        rules,
    };
    let mut report = Report::default();
    let placed = comparison.locate(&seen.snapshots, &mut report);
    comparison.check_pace(&seen.snapshots, &placed, &mut report);
    comparison.check_end(seen, &mut report);
    check_events(seen, &mut report, rules.end);
    report
}

impl Comparison<'_> {
    /// Finds the latest position in the history that each snapshot matches.
    fn locate(&self, snapshots: &[Snapshot], report: &mut Report) -> Vec<Position> {
        let mut placed = Vec::new();
        let mut possible: Vec<Position> = vec![(0, 0)];
        let mut ready = false;
        for snapshot in snapshots {
            if snapshot.state == State::Pending && !ready {
                placed.push((0, 0));
                continue;
            }
            ready = true;
            report.compared += 1;
            let fits = |epoch: &usize| self.fits(*epoch, snapshot);
            let fitting: Vec<usize> = (0..self.epochs.len()).filter(fits).collect();
            let follows = |epoch: &usize| {
                possible
                    .iter()
                    .any(|(e, r)| epoch > e || (epoch == e && snapshot.revision >= *r))
            };
            let next: Vec<Position> = fitting
                .iter()
                .filter(|e| follows(e))
                .map(|e| (*e, snapshot.revision))
                .collect();
            if next.is_empty() {
                let latest = possible.iter().max().copied().unwrap_or_default();
                match fitting.last() {
                    Some(_) => report.add(
                        ViolationKind::Backwards,
                        snapshot.at,
                        "",
                        format!("revision {} after {}", snapshot.revision, latest.1),
                    ),
                    None => self.diagnose(latest.0, snapshot, report),
                }
                // Continues from the position that it claims, so that one fault is reported once.
                let epoch = fitting.last().copied().unwrap_or(latest.0);
                possible = vec![(
                    epoch,
                    snapshot.revision.min(self.history.epochs[epoch].head()),
                )];
            } else {
                possible = next;
            }
            placed.push(possible.iter().max().copied().unwrap_or_default());
        }
        placed
    }

    fn fits(&self, epoch: usize, snapshot: &Snapshot) -> bool {
        let began = self.history.epochs[epoch].began;
        let Some(set) = self.epochs[epoch].at(snapshot.revision) else {
            return false;
        };
        (epoch == 0 || snapshot.at >= began)
            && snapshot.revision <= self.history.epochs[epoch].head()
            && (set == &snapshot.set || self.fits_with_held(set, snapshot))
    }

    /// Returns true if everything beyond the set of the store was lost in a recent fault.
    fn fits_with_held(&self, set: &Set, snapshot: &Snapshot) -> bool {
        let Some(retained) = self.rules.retained else {
            return false;
        };
        let alike = |(id, instance): (&String, _)| snapshot.set.get(id) == Some(instance);
        set.iter().all(alike)
            && snapshot.set.iter().all(|(id, instance)| {
                let lost =
                    |at| self.lost_in_fault(at) && snapshot.at.saturating_sub(at) <= retained;
                set.contains_key(id) || self.deleted(id, instance.created).is_some_and(lost)
            })
    }

    fn lost_in_fault(&self, at: Micros) -> bool {
        // Keys that expire during a fault are deleted after it.
        let mut faults = self.rules.faults.iter();
        faults.any(|(from, healed)| (*from..=healed + 2 * SECOND).contains(&at))
    }

    /// Returns when the instance of this id and age was deleted, or disappeared with its epoch.
    fn deleted(&self, id: &str, created: u64) -> Option<Micros> {
        let mut present = false;
        for epoch in &self.history.epochs {
            let mut here = false;
            for revision in epoch.revisions.values() {
                for change in revision
                    .changes
                    .iter()
                    .filter(|c| c.service == self.service && c.id == id)
                {
                    let was = here;
                    here = change
                        .now
                        .as_ref()
                        .is_some_and(|now| now.created == created);
                    if was && !here && revision.at >= epoch.began {
                        return Some(revision.at);
                    }
                }
            }
            if present && !here {
                return Some(epoch.began);
            }
            present = here;
        }
        None
    }
}

/// Checks that applying the events yields the last set. Events in the last moment may be a part of a change.
fn check_events(seen: &Observations, report: &mut Report, end: Micros) {
    if seen.events.is_empty() {
        return;
    }
    let mut compacted: BTreeMap<&str, u64> = BTreeMap::new();
    for Event {
        at,
        kind,
        id,
        created,
    } in &seen.events
    {
        let before = compacted.get(id.as_str()).copied();
        let right = match kind.as_str() {
            "up" => compacted.insert(id, *created).is_none(),
            "update" => compacted.insert(id, *created) == Some(*created),
            "down" => compacted.remove(id.as_str()) == Some(*created),
            _ => true,
        };
        if !right {
            report.add(
                ViolationKind::Events,
                *at,
                id,
                format!("{kind} of {created} after {before:?}"),
            );
        }
    }
    let told = seen.events.last().map_or(0, |event| event.at);
    let at_rest = |last: &&Snapshot| last.at.max(told) + REST <= end;
    if let Some(last) = seen.snapshots.last().filter(at_rest) {
        let shown = last.set.iter().chain(&last.suspects);
        let set: BTreeMap<&str, u64> = shown.map(|(id, i)| (id.as_str(), i.created)).collect();
        if set != compacted {
            report.add(
                ViolationKind::Events,
                last.at,
                "",
                "applying the events does not yield the last set",
            );
        }
    }
}
