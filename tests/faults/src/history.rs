//! What the store really held, at every revision: the truth that watchers are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use crate::clock::Micros;

/// An instance as a store holds it, and as a watcher is to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The revision at which it came.
    pub created: u64,
    /// What it says of itself.
    pub attributes: BTreeMap<String, String>,
}

/// The instances of one service by their ids. Cheap to clone.
pub type Set = OrdMap<String, Arc<Instance>>;

/// One instance put, or deleted.
#[derive(Clone, Debug)]
pub struct Change {
    /// The service that it is of.
    pub service: String,
    /// Which instance.
    pub id: String,
    /// What it is now; none if it was deleted.
    pub now: Option<Arc<Instance>>,
}

/// All that changed in one step of the store.
#[derive(Clone, Debug, Default)]
pub struct Revision {
    /// When it was committed, as nearly as can be told.
    pub at: Micros,
    /// Empty if it concerned no service.
    pub changes: Vec<Change>,
}

/// One life of the store. Another begins when it is wiped, or set back to a former state.
#[derive(Clone, Debug, Default)]
pub struct Epoch {
    /// When it began.
    pub began: Micros,
    /// The last revision that it had from the beginning.
    pub base: u64,
    /// Up to here all is folded into one revision.
    pub folded: u64,
    /// Every revision, those from before `began` too.
    pub revisions: BTreeMap<u64, Revision>,
}

/// All epochs of a store, the first first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Never empty in use.
    pub epochs: Vec<Epoch>,
}

/// The sets of one service at the revisions that were asked for, and when which revision came.
pub struct States {
    sets: BTreeMap<u64, Set>,
    /// When each revision that touched the service came, in order.
    pub touched: Vec<(u64, Micros)>,
}

impl Epoch {
    /// The state of the service at each revision of `wanted`, and at the last one.
    pub fn states(&self, service: &str, wanted: &BTreeSet<u64>) -> States {
        let mut set = Set::new();
        let mut sets = BTreeMap::from([(0, set.clone())]);
        let mut touched = Vec::new();
        let mut wanted = wanted.iter().copied().peekable();
        for (&number, revision) in &self.revisions {
            // What was asked for and lies before this revision is as the last one left it.
            while let Some(before) = wanted.next_if(|w| *w < number) {
                sets.insert(before, set.clone());
            }
            if revision.apply(service, &mut set) {
                touched.push((number, revision.at.max(self.began)));
            }
        }
        sets.insert(self.head(), set.clone());
        for after in wanted.filter(|w| *w <= self.head()) {
            sets.insert(after, set.clone());
        }
        States { sets, touched }
    }

    /// The last revision.
    pub fn head(&self) -> u64 {
        self.revisions
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(self.base)
    }

    /// The revisions that are missing between the first and the last.
    pub fn holes(&self) -> Vec<u64> {
        let Some(first) = self.revisions.keys().next() else {
            return Vec::new();
        };
        (*first..=self.head())
            .filter(|r| !self.revisions.contains_key(r))
            .collect()
    }
}

impl Epoch {
    /// The last revision up to which a service is as it was at this one.
    pub fn same_until(&self, service: &str, revision: u64) -> u64 {
        let later = self.revisions.range(revision + 1..);
        let touches = |(_, r): &(&u64, &Revision)| r.changes.iter().any(|c| c.service == service);
        later
            .into_iter()
            .find(touches)
            .map_or(self.head(), |(number, _)| number - 1)
    }

    /// Makes one revision of all up to this one. For long runs, whose early part is done.
    pub fn fold_until(&mut self, last: u64) {
        self.folded = last;
        let after = self.revisions.split_off(&(last + 1));
        let mut alive: BTreeMap<(String, String), Change> = BTreeMap::new();
        let mut folded = Revision::default();
        for revision in std::mem::replace(&mut self.revisions, after).into_values() {
            folded.at = revision.at;
            for change in revision.changes {
                let key = (change.service.clone(), change.id.clone());
                match change.now {
                    Some(_) => alive.insert(key, change),
                    None => alive.remove(&key),
                };
            }
        }
        folded.changes = alive.into_values().collect();
        self.revisions.insert(last, folded);
    }
}

impl Revision {
    /// Applies what concerns a service; false if nothing does.
    pub fn apply(&self, service: &str, set: &mut Set) -> bool {
        let mut touches = false;
        for change in self
            .changes
            .iter()
            .filter(|change| change.service == service)
        {
            touches = true;
            match &change.now {
                Some(instance) => set.insert(change.id.clone(), instance.clone()),
                None => set.remove(&change.id),
            };
        }
        touches
    }
}

impl History {
    /// Those of some revisions that no epoch has.
    pub fn missing(&self, revisions: impl Iterator<Item = u64>) -> Vec<u64> {
        let empty = self.epochs.first().map_or(0, |first| first.base);
        let known = |revision: &u64| {
            *revision <= empty
                || self
                    .epochs
                    .iter()
                    .any(|e| e.revisions.contains_key(revision))
        };
        revisions.filter(|revision| !known(revision)).collect()
    }
}

impl States {
    /// The set at a revision that was asked for.
    pub fn at(&self, revision: u64) -> Option<&Set> {
        self.sets.get(&revision)
    }

    /// The set at the end.
    pub fn last(&self) -> &Set {
        self.sets
            .values()
            .next_back()
            .expect("there is always the empty one")
    }
}
