//! Record of explicit deletes, which tells them from expired keys during a mass expiry.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Retention of a delete; it is queried moments later.
const RETENTION: Duration = Duration::from_secs(60);
/// Maximum number of recorded deletes.
const MAX_DELETES: usize = 20_000;

/// Owners whose keys were recently deleted.
#[derive(Default)]
pub(super) struct RecentDeletes(Mutex<VecDeque<(Instant, u64)>>);

impl RecentDeletes {
    /// Records that keys of this owner were deleted.
    pub(super) fn record(&self, owner: u64) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.len() >= MAX_DELETES || all.front().is_some_and(|(at, _)| *at + RETENTION < now) {
            all.pop_front();
        }
        all.push_back((now, owner));
    }

    /// Returns the owners without a recorded delete.
    pub(super) fn without_delete(&self, owners: &[u64]) -> Vec<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted: HashSet<u64> = all.iter().map(|(_, owner)| *owner).collect();
        let others = owners.iter().filter(|owner| !deleted.contains(owner));
        others.copied().collect()
    }
}
