//! Checks that the events of one watcher are consistent.
//!
//! The watchers see millions of states, too many to record. Each state is compared by a digest, which a
//! change updates incrementally, with the digest of the store at the same revision.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Version of an instance: its creation revision, and the number of its last write.
pub type InstanceVersion = (u64, u64);

/// Set of instances, with its digest.
#[derive(Clone, Debug, Default)]
pub struct InstanceSet {
    pub set: HashMap<String, InstanceVersion>,
    pub digest: u64,
}

impl InstanceSet {
    /// Adds or replaces an instance; returns its previous version.
    pub fn put(&mut self, id: &str, version: InstanceVersion) -> Option<InstanceVersion> {
        let before = self.set.insert(id.to_owned(), version);
        if let Some(before) = before {
            self.digest ^= digest(id, before);
        }
        self.digest ^= digest(id, version);
        before
    }

    /// Removes an instance; returns its previous version.
    pub fn remove(&mut self, id: &str) -> Option<InstanceVersion> {
        let before = self.set.remove(id);
        if let Some(before) = before {
            self.digest ^= digest(id, before);
        }
        before
    }

    /// Returns the oldest instance.
    pub fn leader(&self) -> Option<&str> {
        let oldest = self.set.iter().min_by_key(|(_, (created, _))| *created);
        oldest.map(|(id, _)| id.as_str())
    }
}

fn digest(id: &str, version: InstanceVersion) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, version).hash(&mut hasher);
    hasher.finish()
}

/// State of one service as derived from the events that one watcher received.
#[derive(Default)]
pub struct EventChecker {
    pub instances: InstanceSet,
    leader: Option<String>,
    /// Instances that went offline in this batch.
    offline: HashMap<String, InstanceVersion>,
    revision: u64,
    leader_changed: bool,
}

impl EventChecker {
    /// Clears the state; events for all instances follow.
    pub fn reset(&mut self) {
        self.instances = InstanceSet::default();
        self.offline.clear();
        self.leader = None;
    }

    /// Checks an `up`, `update`, `down` or `leader` event. Fails if it does not match the instances.
    pub fn event(&mut self, kind: &str, id: &str, version: InstanceVersion) -> Result<(), String> {
        let matches = match kind {
            "up" => {
                let came_back = self
                    .offline
                    .get(id)
                    .is_some_and(|offline| offline.0 == version.0);
                self.instances.put(id, version).is_none() && !came_back
            }
            "update" => {
                let before = self.instances.put(id, version);
                before.is_some_and(|before| before.0 == version.0 && before.1 != version.1)
            }
            "down" => {
                let before = self.instances.remove(id);
                self.offline
                    .extend(before.map(|before| (id.to_owned(), before)));
                before.is_some_and(|before| before.0 == version.0)
            }
            "leader" => {
                self.leader_changed = true;
                self.leader = (!id.is_empty()).then(|| id.to_owned());
                true
            }
            _ => true,
        };
        match matches {
            true => Ok(()),
            false => Err(format!(
                "{kind} of {id} {version:?} does not match the instances"
            )),
        }
    }

    /// Checks the state at the end of a batch.
    pub fn status(&mut self, revision: u64) -> Result<(), String> {
        self.offline.clear();
        let before = std::mem::replace(&mut self.revision, revision);
        if revision < before {
            return Err(format!("revision {revision} after {before}"));
        }
        // Searching for the oldest instance after each batch would take too long.
        let leads = match (&self.leader, std::mem::take(&mut self.leader_changed)) {
            (leader, true) => leader.as_deref() == self.instances.leader(),
            (Some(leader), false) => self.instances.set.contains_key(leader),
            (None, false) => self.instances.set.is_empty(),
        };
        match leads {
            true => Ok(()),
            false => Err(format!(
                "{:?} is not the leader at revision {revision}",
                self.leader
            )),
        }
    }
}
