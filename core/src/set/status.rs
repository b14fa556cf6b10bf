//! State of a set: how up to date it is.

use std::time::SystemTime;

use crate::error::Error;

/// State of a set with its details.
#[derive(Clone, Debug)]
pub struct Status {
    /// `pending` before the first view, then `current` or `stale`.
    pub state: SetState,
    /// Why the set is stale, and since when.
    pub fault: Option<Fault>,
    /// Version of the set. Grows with each change.
    pub version: u64,
    /// Epoch of the store to which the revision belongs; see [`Snapshot::epoch`](crate::Snapshot::epoch).
    pub epoch: u64,
    /// Revision of the store.
    pub revision: u64,
    /// Number of malformed records of the service.
    pub invalid: usize,
}

/// State of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetState {
    /// No view received yet.
    Pending,
    /// Equal to the store, as far as known.
    Current,
    /// Last known state; the store is unavailable.
    Stale,
}

impl SetState {
    /// Returns `pending`, `current` or `stale`.
    pub fn name(self) -> &'static str {
        match self {
            SetState::Pending => "pending",
            SetState::Current => "current",
            SetState::Stale => "stale",
        }
    }
}

/// Why and since when a set is stale.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Error of the store.
    pub error: Error,
    /// When the fault began.
    pub since: SystemTime,
}
