//! Checks that the events of one watcher are consistent.
//!
//! The watchers see millions of states, too many to record. Each state is compared by a digest, which a
//! change updates incrementally, with the digest of the store at the same revision.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Version of an instance: its creation revision, and the number of its last write.
pub type InstanceVersion = (u64, u64);

/// A set of instances, and its digest.
#[derive(Clone, Debug, Default)]
pub struct InstanceSet {
    pub set: HashMap<String, InstanceVersion>,
    pub digest: u64,
}

impl InstanceSet {
    /// Puts an instance; gives what was there.
    pub fn put(&mut self, id: &str, shown: InstanceVersion) -> Option<InstanceVersion> {
        let before = self.set.insert(id.to_owned(), shown);
        if let Some(before) = before {
            self.digest ^= digest(id, before);
        }
        self.digest ^= digest(id, shown);
        before
    }

    /// Takes an instance away; gives what was there.
    pub fn remove(&mut self, id: &str) -> Option<InstanceVersion> {
        let before = self.set.remove(id);
        if let Some(before) = before {
            self.digest ^= digest(id, before);
        }
        before
    }

    /// The oldest.
    pub fn leader(&self) -> Option<&str> {
        let oldest = self.set.iter().min_by_key(|(_, (created, _))| *created);
        oldest.map(|(id, _)| id.as_str())
    }
}

fn digest(id: &str, shown: InstanceVersion) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, shown).hash(&mut hasher);
    hasher.finish()
}

/// What one watcher was told of one service.
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
    /// Forgets everything: all instances follow.
    pub fn reset(&mut self) {
        self.instances = InstanceSet::default();
        self.offline.clear();
        self.leader = None;
    }

    /// Checks an `up`, `update`, `down` or `leader` event. Fails if it does not match the instances.
    pub fn event(&mut self, kind: &str, id: &str, shown: InstanceVersion) -> Result<(), String> {
        let right = match kind {
            "up" => {
                let came_back = self
                    .offline
                    .get(id)
                    .is_some_and(|offline| offline.0 == shown.0);
                self.instances.put(id, shown).is_none() && !came_back
            }
            "update" => {
                let before = self.instances.put(id, shown);
                before.is_some_and(|before| before.0 == shown.0 && before.1 != shown.1)
            }
            "down" => {
                let before = self.instances.remove(id);
                self.offline
                    .extend(before.map(|before| (id.to_owned(), before)));
                before.is_some_and(|before| before.0 == shown.0)
            }
            "leader" => {
                self.leader_changed = true;
                self.leader = (!id.is_empty()).then(|| id.to_owned());
                true
            }
            _ => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "{kind} of {id} {shown:?} changes nothing, or not that"
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
            false => Err(format!("{:?} does not lead at {revision}", self.leader)),
        }
    }
}
