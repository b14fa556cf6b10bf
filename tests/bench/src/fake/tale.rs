//! What the fake tells: how many changes of how many instances, and so what there is after each of them.

use serde_json::json;

use super::wire::{Header, KeyValue};
use crate::told::instance;

/// Where all instances are.
const FOLDER: &str = "/discover/services/bench-0/";
/// The revision before the first change.
const BEFORE: u64 = 10;

/// See the module. The changes go round: that of number `n` is of instance `n` modulo their count.
#[derive(Clone, Copy, Debug)]
pub struct Tale {
    /// How many instances there are in the end.
    pub instances: u64,
    /// How many changes are told.
    pub changes: u64,
    /// Whether each of them says when it was written, or only the last.
    pub all_timed: bool,
}

impl Tale {
    /// The revision after so many changes.
    pub(super) fn revision(happened: u64) -> u64 {
        BEFORE + happened
    }

    pub(super) fn header(revision: u64) -> Option<Header> {
        Some(Header {
            cluster_id: 1,
            member_id: 1,
            revision: revision as i64,
            raft_term: 2,
        })
    }

    /// What the change of this number writes.
    pub(super) fn written(&self, number: u64, at: u64) -> KeyValue {
        let (of, round) = (number % self.instances, number / self.instances);
        let mut value = json!({"zone": "eu-central-1", "version": "1.4.2", "weight": "10",
                               "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                               // Never twice the same, which would not be a change.
                               "turn": round.to_string()});
        if self.all_timed || number + 1 == self.changes {
            value["t"] = at.to_string().into();
        }
        KeyValue {
            key: format!("{FOLDER}{}:1000", instance(of)).into_bytes(),
            create_revision: Tale::revision(of + 1) as i64,
            mod_revision: Tale::revision(number + 1) as i64,
            version: round as i64 + 1,
            value: value.to_string().into_bytes(),
        }
    }

    /// What there is after so many changes, each instance as it was written last.
    pub(super) fn there(&self, happened: u64, at: u64) -> impl Iterator<Item = KeyValue> {
        let first = happened.saturating_sub(self.instances);
        (first..happened).map(move |number| self.written(number, at))
    }

    /// How many changes had happened at a revision; 0 stands for now.
    pub(super) fn happened_at(revision: i64, happened: u64) -> u64 {
        match u64::try_from(revision) {
            Ok(0) | Err(_) => happened,
            Ok(revision) => revision.saturating_sub(BEFORE).min(happened),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALE: Tale = Tale {
        instances: 3,
        changes: 8,
        all_timed: false,
    };

    #[test]
    fn what_is_there_is_what_was_written_last() {
        let modified = |happened| -> Vec<u64> {
            let there = TALE.there(happened, 0);
            there.map(|kv| kv.mod_revision as u64 - BEFORE).collect()
        };
        assert!(modified(0).is_empty());
        assert_eq!(modified(2), [1, 2]);
        assert_eq!(modified(8), [6, 7, 8]);
        let eighth = TALE.written(7, 5);
        assert_eq!(eighth.key, TALE.written(1, 5).key);
        assert_eq!((eighth.create_revision, eighth.version), (12, 3));
    }

    #[test]
    fn the_last_says_when_it_was_written() {
        let timed = |number| {
            let value = TALE.written(number, 77).value;
            String::from_utf8_lossy(&value).contains(r#""t":"77""#)
        };
        assert!(timed(7) && !timed(6));
    }
}
