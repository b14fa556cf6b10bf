//! Elections of a leader, noticed by the raft term in the responses of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// The elections of one store. Every response of the v3 API contains the raft term, which grows with each election.
#[derive(Default)]
pub(super) struct Elections {
    /// The highest term so far; 0 before the first response.
    term: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Elections {
    /// Records the term of a response. A member that lags behind may report an earlier one.
    pub(super) fn observe(&self, term: u64) {
        let before = self.term.fetch_max(term, Ordering::Relaxed);
        if before != 0 && term > before {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// Returns when the last election was noticed.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_term_than_a_known_one_is_an_election() {
        let elections = Elections::default();
        for term in [0, 4, 4, 3, 4] {
            elections.observe(term);
            assert_eq!(elections.last(), None, "term {term}");
        }
        elections.observe(5);
        assert!(elections.last().is_some());
    }
}
