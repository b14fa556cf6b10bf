//! Synthetic histories of a store, and watchers of it without mistakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use discover_faults::check::{Expectations, Observations};
use discover_faults::history::{Change, Epoch, History, Instance, Revision, Set};
use discover_faults::watcher_output::{Event, Snapshot, State};
use discover_testkit::clock::{Micros, SECOND};

pub const SERVICE: &str = "load";

/// Delay from a commit to the snapshot of a perfect watcher.
pub const LAG: Micros = 2_000;

/// The time between two revisions.
pub const STEP: Micros = 100_000;

/// The changes of one revision: instances, each put (true) or deleted (false).
pub type Step = Vec<(u8, bool)>;

/// The history of a store that was never restored.
pub fn history(steps: &[Step]) -> History {
    let mut epoch = Epoch {
        base: 1,
        ..Epoch::default()
    };
    append(&mut epoch, steps, SECOND);
    History {
        epochs: vec![epoch],
    }
}

/// Adds an epoch without the last `lost` revisions, followed by other steps.
pub fn restore(history: &mut History, lost: usize, steps: &[Step]) {
    let last = history.epochs.last().unwrap();
    let ended = last.revisions.values().next_back().map_or(SECOND, |r| r.at);
    let base = last.head().saturating_sub(lost as u64).max(1);
    let mut epoch = Epoch {
        began: ended + SECOND,
        base,
        compacted: 0,
        revisions: last
            .revisions
            .range(..=base)
            .map(|(n, r)| (*n, r.clone()))
            .collect(),
    };
    let began = epoch.began;
    append(&mut epoch, steps, began + SECOND);
    history.epochs.push(epoch);
}

fn append(epoch: &mut Epoch, steps: &[Step], from: Micros) {
    let mut alive: BTreeMap<String, Arc<Instance>> = last(epoch).into_iter().collect();
    for (number, step) in steps.iter().enumerate() {
        let revision = epoch.head() + 1;
        let mut changes: BTreeMap<String, Change> = BTreeMap::new();
        for (instance, put) in step {
            let id = format!("10.0.0.{instance}:80");
            let before = alive.get(&id).map(|i| i.created);
            let now = put.then(|| {
                // Distinct in every revision and epoch.
                let n = format!("{revision}/{from}");
                let created = before.unwrap_or(revision);
                let attributes = BTreeMap::from([("n".to_owned(), n)]);
                Arc::new(Instance {
                    created,
                    attributes,
                })
            });
            match &now {
                Some(instance) => alive.insert(id.clone(), instance.clone()),
                None if before.is_none() => continue,
                None => alive.remove(&id),
            };
            let service = SERVICE.to_owned();
            changes.insert(id.clone(), Change { service, id, now });
        }
        let at = from + number as Micros * STEP;
        let changes = changes.into_values().collect();
        epoch.revisions.insert(revision, Revision { at, changes });
    }
}

fn last(epoch: &Epoch) -> Set {
    epoch.states(SERVICE, &Default::default()).last().clone()
}

/// Returns a watcher that sees every revision of every epoch for which `seen` returns true, in order.
pub fn perfect(history: &History, seen: impl Fn(usize) -> bool) -> Observations {
    let mut perfect = Observations::default();
    let mut before = Set::new();
    let mut number = 0;
    for (place, epoch) in history.epochs.iter().enumerate() {
        let mut set = Set::new();
        let ended = history
            .epochs
            .get(place + 1)
            .map_or(Micros::MAX, |next| next.began);
        for (&revision, content) in &epoch.revisions {
            content.apply(SERVICE, &mut set);
            if (place > 0 && revision < epoch.base) || content.at >= ended {
                continue;
            }
            number += 1;
            // The last of an epoch is always seen.
            let is_last = revision == epoch.head();
            if !seen(number) && !is_last {
                continue;
            }
            let at = content.at.max(epoch.began) + LAG;
            perfect.events.extend(difference(&before, &set, at));
            before = set.clone();
            let state = State::Current;
            perfect.snapshots.push(Snapshot {
                at,
                state,
                revision,
                set: set.clone(),
                suspects: Set::new(),
            });
        }
    }
    perfect
}

fn difference(before: &Set, after: &Set, at: Micros) -> Vec<Event> {
    let event = |kind: &str, id: &str, created| Event {
        at,
        kind: kind.to_owned(),
        id: id.to_owned(),
        created,
    };
    let mut events = Vec::new();
    for (id, old) in before {
        if after.get(id).is_none_or(|new| new.created != old.created) {
            events.push(event("down", id, old.created));
        }
    }
    for (id, new) in after {
        match before.get(id) {
            Some(old) if old.created == new.created && old != new => {
                events.push(event("update", id, new.created))
            }
            Some(old) if old.created == new.created => {}
            _ => events.push(event("up", id, new.created)),
        }
    }
    events
}

/// The end of the history, some time after its last revision.
pub fn rules(history: &History) -> Expectations {
    let last = history
        .epochs
        .iter()
        .flat_map(|e| e.revisions.values())
        .map(|r| r.at)
        .max();
    let began = history.epochs.last().map_or(0, |e| e.began);
    let end = last.unwrap_or(0).max(began) + 10 * SECOND;
    Expectations {
        end,
        ..Expectations::default()
    }
}
