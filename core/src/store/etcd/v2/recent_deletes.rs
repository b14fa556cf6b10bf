//! Who was deleted on purpose, as against those whose time ran out: the evidence of a mass expiry.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long that is remembered; it is asked for a moment after.
const MEMORY: Duration = Duration::from_secs(60);
/// How many are remembered.
const ROOM: usize = 20_000;

/// See the module.
#[derive(Default)]
pub(super) struct RecentDeletes(Mutex<VecDeque<(Instant, u64)>>);

impl RecentDeletes {
    /// The nodes of this owner were deleted.
    pub(super) fn note(&self, owner: u64) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.len() >= ROOM || all.front().is_some_and(|(at, _)| *at + MEMORY < now) {
            all.pop_front();
        }
        all.push_back((now, owner));
    }

    /// Those that were not seen to be deleted.
    pub(super) fn others(&self, owners: &[u64]) -> Vec<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted: HashSet<u64> = all.iter().map(|(_, owner)| *owner).collect();
        let others = owners.iter().filter(|owner| !deleted.contains(owner));
        others.copied().collect()
    }
}
