//! The changes that the fake server sends, and the state after each of them.

use serde_json::json;

use super::wire::{Header, KeyValue};
use crate::protocol::instance_host;

/// The directory of all instances.
const PREFIX: &str = "/discover/services/bench-0/";
/// The revision before the first change.
const BASE_REVISION: u64 = 10;

/// The script. Change `n` writes instance `n` modulo their number.
#[derive(Clone, Copy, Debug)]
pub struct LoadScript {
    /// Number of instances at the end.
    pub instances: u64,
    /// Number of changes.
    pub changes: u64,
    /// Every change contains its time, or only the last one.
    pub all_timed: bool,
}

impl LoadScript {
    /// Returns the revision after this many changes.
    pub(super) fn revision(sent: u64) -> u64 {
        BASE_REVISION + sent
    }

    pub(super) fn header(revision: u64) -> Option<Header> {
        Some(Header {
            cluster_id: 1,
            member_id: 1,
            revision: revision as i64,
            raft_term: 2,
        })
    }

    /// Returns the key and value written by a change.
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
            key: format!("{PREFIX}{}:1000", instance_host(of)).into_bytes(),
            create_revision: LoadScript::revision(of + 1) as i64,
            mod_revision: LoadScript::revision(number + 1) as i64,
            version: round as i64 + 1,
            value: value.to_string().into_bytes(),
        }
    }

    /// Returns the state after this many changes.
    pub(super) fn there(&self, sent: u64, at: u64) -> impl Iterator<Item = KeyValue> {
        let first = sent.saturating_sub(self.instances);
        (first..sent).map(move |number| self.written(number, at))
    }

    /// Returns the number of changes at a revision; 0 is the current one.
    pub(super) fn sent_at(revision: i64, sent: u64) -> u64 {
        match u64::try_from(revision) {
            Ok(0) | Err(_) => sent,
            Ok(revision) => revision.saturating_sub(BASE_REVISION).min(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: LoadScript = LoadScript {
        instances: 3,
        changes: 8,
        all_timed: false,
    };

    #[test]
    fn a_read_returns_the_last_write() {
        let modified = |sent| -> Vec<u64> {
            let there = SCRIPT.there(sent, 0);
            there
                .map(|kv| kv.mod_revision as u64 - BASE_REVISION)
                .collect()
        };
        assert!(modified(0).is_empty());
        assert_eq!(modified(2), [1, 2]);
        assert_eq!(modified(8), [6, 7, 8]);
        let eighth = SCRIPT.written(7, 5);
        assert_eq!(eighth.key, SCRIPT.written(1, 5).key);
        assert_eq!((eighth.create_revision, eighth.version), (12, 3));
    }

    #[test]
    fn the_last_change_contains_its_time() {
        let timed = |number| {
            let value = SCRIPT.written(number, 77).value;
            String::from_utf8_lossy(&value).contains(r#""t":"77""#)
        };
        assert!(timed(7) && !timed(6));
    }
}
