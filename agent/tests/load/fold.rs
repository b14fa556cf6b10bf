//! The events of one watcher, folded, and compared with what events may be.
//!
//! Two thousand watchers see some millions of states, too many to be kept. So each is told by a digest,
//! which a change moves on by itself; the truth has one for each revision, and they must be the same.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One instance: the revision at which it came, and the number of the write that it shows.
pub type Redacted = (u64, u64);

/// A set of instances, and its digest.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    pub set: HashMap<String, Redacted>,
    pub digest: u64,
}

impl Fold {
    /// Puts an instance; gives what was there.
    pub fn put(&mut self, id: &str, shown: Redacted) -> Option<Redacted> {
        let before = self.set.insert(id.to_owned(), shown);
        if let Some(before) = before {
            self.digest ^= digest(id, before);
        }
        self.digest ^= digest(id, shown);
        before
    }

    /// Takes an instance away; gives what was there.
    pub fn remove(&mut self, id: &str) -> Option<Redacted> {
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

fn digest(id: &str, shown: Redacted) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, shown).hash(&mut hasher);
    hasher.finish()
}

/// What one watcher was told of one service.
#[derive(Default)]
pub struct Listener {
    pub fold: Fold,
    leader: Option<String>,
    /// Those that went in this batch.
    gone: HashMap<String, Redacted>,
    revision: u64,
    leads_anew: bool,
}

impl Listener {
    /// The whole follows: what was before is forgotten.
    pub fn reset(&mut self) {
        self.fold = Fold::default();
        self.gone.clear();
        self.leader = None;
    }

    /// `up`, `update`, `down` of an instance, or who leads. An error names what it should not be.
    pub fn event(&mut self, kind: &str, id: &str, shown: Redacted) -> Result<(), String> {
        let right = match kind {
            "up" => {
                let came_back = self.gone.get(id).is_some_and(|gone| gone.0 == shown.0);
                self.fold.put(id, shown).is_none() && !came_back
            }
            "update" => {
                let before = self.fold.put(id, shown);
                before.is_some_and(|before| before.0 == shown.0 && before.1 != shown.1)
            }
            "down" => {
                let before = self.fold.remove(id);
                self.gone
                    .extend(before.map(|before| (id.to_owned(), before)));
                before.is_some_and(|before| before.0 == shown.0)
            }
            "leader" => {
                self.leads_anew = true;
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

    /// What was told is a whole state of this revision.
    pub fn status(&mut self, revision: u64) -> Result<(), String> {
        self.gone.clear();
        let before = std::mem::replace(&mut self.revision, revision);
        if revision < before {
            return Err(format!("revision {revision} after {before}"));
        }
        // To look for the oldest each time would take longer than all the rest.
        let leads = match (&self.leader, std::mem::take(&mut self.leads_anew)) {
            (leader, true) => leader.as_deref() == self.fold.leader(),
            (Some(leader), false) => self.fold.set.contains_key(leader),
            (None, false) => self.fold.set.is_empty(),
        };
        match leads {
            true => Ok(()),
            false => Err(format!("{:?} does not lead at {revision}", self.leader)),
        }
    }
}
