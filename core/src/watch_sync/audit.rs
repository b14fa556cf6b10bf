//! Audit of a range: compares the keys that were received with the keys that the store has.
//!
//! The list of the keys and the changes of the watch arrive independently. A difference between the list and
//! the received keys may therefore be explained by a change that is still in flight. The audit fails if a
//! difference remains after [`IN_FLIGHT_TIMEOUT`]: then the store has lost a change.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kv::{Change, Key};
use crate::mutants::mutant;
use crate::watch_sync::{KeyRevisions, Time};

/// Time for changes in flight to explain the differences of an audit.
const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(1);
/// Mean interval of the audits of a range.
pub(super) const AUDIT_INTERVAL: Duration = Duration::from_secs(300);
/// Audits that are due in the same interval are sent in one request.
const BATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Progress of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Audit {
    Inactive,
    Scheduled(Time),
    /// The list was requested. Contains the keys deleted since, with their revisions: the response may still
    /// contain them.
    Requested(BTreeMap<Key, u64>),
    /// Changes in flight must explain the differences before the deadline.
    Comparing {
        listed_at: u64,
        differences: BTreeMap<Key, Difference>,
        deadline: Time,
    },
}

/// How the store's list differs from the received state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Difference {
    /// The list has a change of this revision.
    Changed(u64),
    /// The list does not have the key.
    Missing,
}

impl Audit {
    /// Returns the time at which the audit starts or fails.
    pub(super) fn next_timer(&self) -> Option<Time> {
        match self {
            Audit::Inactive | Audit::Requested(_) => None,
            Audit::Scheduled(at) => Some(*at),
            Audit::Comparing { deadline, .. } => Some(*deadline),
        }
    }

    pub(super) fn is_requested(&self) -> bool {
        matches!(self, Audit::Requested(_))
    }

    /// Returns the revision of the list if no difference remains.
    pub(super) fn explained_at(&self) -> Option<u64> {
        match self {
            Audit::Comparing {
                listed_at,
                differences,
                ..
            } if differences.is_empty() => Some(*listed_at),
            _ => None,
        }
    }

    /// Compares the received keys with the list. Does nothing if no list was requested.
    pub(super) fn compare(
        &mut self,
        received: &BTreeMap<Key, u64>,
        listed: &KeyRevisions,
        now: Time,
    ) {
        let Audit::Requested(deleted) = &*self else {
            return;
        };
        let mut differences = BTreeMap::new();
        for (key, at) in &listed.modified {
            let ours = received.get(key);
            // The list does not contain what was received after it was taken.
            let newer = ours.or_else(|| deleted.get(key));
            let newer = newer.is_some_and(|ours| *ours > listed.revision);
            if ours != Some(at) && !newer {
                differences.insert(key.clone(), Difference::Changed(*at));
            }
        }
        for (key, ours) in received {
            if *ours <= listed.revision && !listed.modified.contains_key(key) {
                differences.insert(key.clone(), Difference::Missing);
            }
        }
        if mutant!(comparison_is_ignored: true, false) {
            differences.clear();
        }
        *self = Audit::Comparing {
            listed_at: listed.revision,
            differences,
            deadline: now + IN_FLIGHT_TIMEOUT,
        };
    }

    /// Takes a received change into account.
    pub(super) fn record_change(&mut self, modified: u64, change: &Change) {
        let (key, deleted) = match change {
            Change::Put(node) => (&node.key, false),
            Change::Delete(key) => (key, true),
            Change::Reset(_) => return,
        };
        match self {
            Audit::Requested(deletes) if deleted => {
                deletes.insert(key.clone(), modified);
            }
            Audit::Comparing {
                listed_at,
                differences,
                ..
            } => explain(differences, *listed_at, key, modified, deleted),
            _ => {}
        }
    }
}

/// Removes the difference that a change explains, or adds the one that it causes.
fn explain(
    differences: &mut BTreeMap<Key, Difference>,
    listed_at: u64,
    key: &Key,
    modified: u64,
    deleted: bool,
) {
    let explained = match differences.get(key) {
        Some(Difference::Changed(changed)) => modified >= *changed,
        // A put from before the list is followed by the delete that the list shows.
        Some(Difference::Missing) => {
            deleted || modified > listed_at || mutant!(put_explains_a_missing_key: true, false)
        }
        None => false,
    };
    // A put from before the list whose key the list does not have: the delete is still in flight.
    let delete_follows = !deleted && modified <= listed_at && !differences.contains_key(key);
    if explained {
        differences.remove(key);
    } else if delete_follows && mutant!(audit_ends_before_the_delete_arrives: false, true) {
        differences.insert(key.clone(), Difference::Missing);
    }
}

/// Rounds up to the next time at which audits are sent.
pub(super) fn round_up_to_batch(at: Time) -> Time {
    let batches = at.as_nanos().div_ceil(BATCH_INTERVAL.as_nanos());
    BATCH_INTERVAL * u32::try_from(batches).unwrap_or(u32::MAX)
}
