//! The judge: lays what a watcher saw beside what the store held, and names every broken promise.
//!
//! Each snapshot must equal the store at the revision that it names, in an epoch that had begun; the
//! pairs of epoch and revision never go back. The number of the epoch is not told, so all that fit are
//! kept in mind: a snapshot breaks a promise only if it fits in none.

mod diagnose;
mod end;
mod pace;
mod registrations;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::clock::{Micros, SECOND};
use crate::history::{History, Set, States};
use crate::record::{Event, Snapshot, State};

pub use registrations::{Registrant, check_protected, check_registrations};

/// What was promised for a run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How soon after a fault is healed a watcher is current again.
    pub bound: Micros,
    /// How soon after that a living process is registered again.
    pub registered: Micros,
    /// When faults began and were healed.
    pub faults: Vec<(Micros, Micros)>,
    /// How far a watcher may be behind while the store can be reached all the time, through other
    /// ways; none if the store was lost.
    pub behind: Option<Micros>,
    /// How long a watcher may go on showing what the store lost by a mass expiry.
    pub held: Option<Micros>,
    /// When the run ended and everything had come to rest.
    pub end: Micros,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            bound: 3 * SECOND,
            registered: 2 * SECOND,
            faults: Vec::new(),
            behind: None,
            held: None,
            end: Micros::MAX,
        }
    }
}

/// What one watcher saw of one service.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// In the order in which they were seen.
    pub snapshots: Vec<Snapshot>,
    /// Likewise.
    pub events: Vec<Event>,
}

/// How a promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An instance that the store had is missing.
    Lost,
    /// An instance that was deleted is still there.
    Ghost,
    /// An instance has attributes that it did not have then.
    WrongValue,
    /// An instance is taken for an earlier or later one of the same id.
    WrongCreated,
    /// An instance that never was.
    Phantom,
    /// A part of a revision without the rest.
    Torn,
    /// The set is of a later revision than it says.
    Ahead,
    /// A revision that the store never had.
    UnknownRevision,
    /// A revision before the one shown last, in the same epoch.
    Backwards,
    /// Not current again in time after a fault was healed.
    Late,
    /// Behind for longer than is allowed although the store could be reached.
    Behind,
    /// Not current at the end.
    NotCurrent,
    /// At the end an instance is missing.
    MissingAtEnd,
    /// At the end there is one that the store does not have.
    GhostAtEnd,
    /// At the end an instance is not as the store has it.
    WrongAtEnd,
    /// Nothing was ever seen.
    Blind,
    /// The events do not lead to the set.
    Events,
    /// A living instance was taken away when the store lost everybody at once.
    TakenAway,
    /// A living process was not registered for too long.
    Unregistered,
    /// The program died, or could not leave in order.
    Died,
}

/// One broken promise.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub kind: Kind,
    /// When it was seen.
    pub at: Micros,
    /// The instance, or nothing.
    pub id: String,
    /// What was seen, and what would have been right.
    pub text: String,
}

/// How long before the end nothing may have been told, for the events to be compared with the set.
const REST: Micros = SECOND / 3;

/// All there is to say about one watcher and one service.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first of each kind and instance.
    pub broken: Vec<Broken>,
    /// How far it was behind at most.
    pub longest: Micros,
    /// How many snapshots were compared.
    pub compared: usize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.kind, self.id, self.text)
    }
}

impl Report {
    fn add(&mut self, kind: Kind, at: Micros, id: &str, text: impl Into<String>) {
        if !self.broken.iter().any(|b| b.kind == kind && b.id == id) {
            let (id, text) = (id.to_owned(), text.into());
            self.broken.push(Broken { kind, at, id, text });
        }
    }
}

/// What the checks share: the history of one service, made ready to be asked.
struct Truth<'a> {
    history: &'a History,
    epochs: Vec<States>,
    service: &'a str,
    rules: &'a Rules,
}

/// Where in the history a snapshot can be: its epoch and revision.
type Place = (usize, u64);

/// Compares what one watcher saw of one service with the truth.
pub fn check(history: &History, service: &str, seen: &Seen, rules: &Rules) -> Report {
    let wanted: BTreeSet<u64> = seen.snapshots.iter().map(|s| s.revision).collect();
    let epochs = history
        .epochs
        .iter()
        .map(|epoch| epoch.states(service, &wanted))
        .collect();
    let truth = Truth {
        history,
        epochs,
        service,
        rules,
    };
    let mut report = Report::default();
    let placed = truth.place(&seen.snapshots, &mut report);
    truth.check_pace(&seen.snapshots, &placed, &mut report);
    truth.check_end(seen, &mut report);
    check_events(seen, &mut report, rules.end);
    report
}

impl Truth<'_> {
    /// Finds where in the history each snapshot is: the latest place that fits.
    fn place(&self, snapshots: &[Snapshot], report: &mut Report) -> Vec<Place> {
        let mut placed = Vec::new();
        let mut possible: Vec<Place> = vec![(0, 0)];
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
            let next: Vec<Place> = fitting
                .iter()
                .filter(|e| follows(e))
                .map(|e| (*e, snapshot.revision))
                .collect();
            if next.is_empty() {
                let latest = possible.iter().max().copied().unwrap_or_default();
                match fitting.last() {
                    Some(_) => report.add(
                        Kind::Backwards,
                        snapshot.at,
                        "",
                        format!("revision {} after {}", snapshot.revision, latest.1),
                    ),
                    None => self.diagnose(latest.0, snapshot, report),
                }
                // It goes on from where it said to be, so that one fault is told once.
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

    /// Whether all that it shows beyond the truth was lost in a fault not long ago.
    fn fits_with_held(&self, set: &Set, snapshot: &Snapshot) -> bool {
        let Some(held) = self.rules.held else {
            return false;
        };
        let alike = |(id, instance): (&String, _)| snapshot.set.get(id) == Some(instance);
        set.iter().all(alike)
            && snapshot.set.iter().all(|(id, instance)| {
                let lost = |at| self.lost_in_fault(at) && snapshot.at.saturating_sub(at) <= held;
                set.contains_key(id) || self.deleted(id, instance.created).is_some_and(lost)
            })
    }

    fn lost_in_fault(&self, at: Micros) -> bool {
        // What a fault makes expire is deleted when it is over.
        let mut faults = self.rules.faults.iter();
        faults.any(|(from, healed)| (*from..=healed + 2 * SECOND).contains(&at))
    }

    /// When the instance of this id and age was deleted, or gone with its epoch.
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

/// Folding the events gives the last set. What is told in the last moment may be a part of one only.
fn check_events(seen: &Seen, report: &mut Report, end: Micros) {
    if seen.events.is_empty() {
        return;
    }
    let mut folded: BTreeMap<&str, u64> = BTreeMap::new();
    for Event {
        at,
        kind,
        id,
        created,
    } in &seen.events
    {
        let before = folded.get(id.as_str()).copied();
        let right = match kind.as_str() {
            "up" => folded.insert(id, *created).is_none(),
            "update" => folded.insert(id, *created) == Some(*created),
            "down" => folded.remove(id.as_str()) == Some(*created),
            _ => true,
        };
        if !right {
            report.add(
                Kind::Events,
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
        if set != folded {
            report.add(
                Kind::Events,
                last.at,
                "",
                "the events do not lead to the last set",
            );
        }
    }
}
