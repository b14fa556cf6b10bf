//! The contents of the store at every revision, with which watchers are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use discover_testkit::clock::Micros;

/// An instance as the store holds it, and as a watcher must show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The revision at which it was created.
    pub created: u64,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// The instances of one service by id. Cheap to clone.
pub type Set = OrdMap<String, Arc<Instance>>;

/// One put or delete.
#[derive(Clone, Debug)]
pub struct Change {
    /// The service.
    pub service: String,
    /// The instance.
    pub id: String,
    /// Its new value; none if it was deleted.
    pub now: Option<Arc<Instance>>,
}

/// All changes of one revision.
#[derive(Clone, Debug, Default)]
pub struct Revision {
    /// When it was committed, as precisely as it can be observed.
    pub at: Micros,
    /// The changes; empty if no service is concerned.
    pub changes: Vec<Change>,
}

/// One history of the store. A new epoch begins when the store is wiped or restored.
#[derive(Clone, Debug, Default)]
pub struct Epoch {
    /// When it began.
    pub began: Micros,
    /// The last revision that it inherited.
    pub base: u64,
    /// Revisions up to this one are merged into one.
    pub compacted: u64,
    /// Every revision, including inherited ones.
    pub revisions: BTreeMap<u64, Revision>,
}

/// All epochs of a store, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The epochs; never empty in use.
    pub epochs: Vec<Epoch>,
}

/// The sets of one service at requested revisions.
pub struct States {
    sets: BTreeMap<u64, Set>,
    /// The revisions that concern the service with their times, in order.
    pub touched: Vec<(u64, Micros)>,
}

impl Epoch {
    /// Returns the sets of a service at each revision of `wanted`, and at the last one.
    pub fn states(&self, service: &str, wanted: &BTreeSet<u64>) -> States {
        let mut set = Set::new();
        let mut sets = BTreeMap::from([(0, set.clone())]);
        let mut touched = Vec::new();
        let mut wanted = wanted.iter().copied().peekable();
        for (&number, revision) in &self.revisions {
            // Requested revisions before this one have the set of the previous one.
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

    /// Returns the last revision.
    pub fn head(&self) -> u64 {
        self.revisions
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(self.base)
    }

    /// Returns the revisions that are missing between the first and the last.
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
    /// Returns the last revision up to which a service is the same as at `revision`.
    pub fn same_until(&self, service: &str, revision: u64) -> u64 {
        let later = self.revisions.range(revision + 1..);
        let touches = |(_, r): &(&u64, &Revision)| r.changes.iter().any(|c| c.service == service);
        later
            .into_iter()
            .find(touches)
            .map_or(self.head(), |(number, _)| number - 1)
    }

    /// Merges all revisions up to `last` into one, for long runs.
    pub fn compact_until(&mut self, last: u64) {
        self.compacted = last;
        let after = self.revisions.split_off(&(last + 1));
        let mut alive: BTreeMap<(String, String), Change> = BTreeMap::new();
        let mut compacted = Revision::default();
        for revision in std::mem::replace(&mut self.revisions, after).into_values() {
            compacted.at = revision.at;
            for change in revision.changes {
                let key = (change.service.clone(), change.id.clone());
                match change.now {
                    Some(_) => alive.insert(key, change),
                    None => alive.remove(&key),
                };
            }
        }
        compacted.changes = alive.into_values().collect();
        self.revisions.insert(last, compacted);
    }
}

impl Revision {
    /// Applies the changes of a service; returns false if there are none.
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
    /// Returns those of some revisions that no epoch has.
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
    /// Returns the set at a requested revision.
    pub fn at(&self, revision: u64) -> Option<&Set> {
        self.sets.get(&revision)
    }

    /// Returns the set at the end.
    pub fn last(&self) -> &Set {
        self.sets
            .values()
            .next_back()
            .expect("there is always the empty one")
    }
}
