//! The last states of one set, so that a listener that comes back hears only what differs. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

/// How many states are kept. They share what they have in common.
const KEPT: usize = 256;

/// A point in the life of a set, as it is told: opaque to those who are told, but for being another at
/// each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life(String);

impl Life {
    /// Of the n-th set that this run of the agent opened.
    pub fn new(boot: &str, number: u64) -> Life {
        Life(format!("{boot}.{number:x}"))
    }

    /// How a version of it is told.
    pub fn index(&self, version: u64) -> String {
        format!("{}.{version:x}", self.0)
    }

    /// The version that was told, if it is one of this life.
    pub fn version(&self, index: &str) -> Option<u64> {
        let version = index.strip_prefix(self.0.as_str())?.strip_prefix('.')?;
        u64::from_str_radix(version, 16).ok()
    }
}

/// See the module.
#[derive(Debug)]
pub struct History<S>(VecDeque<(u64, Arc<S>)>);

impl<S> Default for History<S> {
    fn default() -> History<S> {
        History(VecDeque::new())
    }
}

impl<S> History<S> {
    /// Adds the next state; the oldest gives way.
    pub fn push(&mut self, version: u64, state: Arc<S>) {
        if self.0.back().is_some_and(|(last, _)| *last >= version) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((version, state));
    }

    /// The state at this version, while it is kept.
    pub fn at(&self, version: u64) -> Option<Arc<S>> {
        let found = self.0.binary_search_by_key(&version, |(at, _)| *at).ok()?;
        self.0.get(found).map(|(_, state)| state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_understood_by_the_life_that_told_it_and_by_no_other() {
        let life = Life::new("ab12", 3);
        assert_eq!(life.version(&life.index(26)), Some(26));
        assert_eq!(Life::new("ab12", 4).version(&life.index(26)), None);
        assert_eq!(Life::new("ffff", 3).version(&life.index(26)), None);
        for bad in ["", "ab12.3", "ab12.3.", "ab12.3.x", "ab12.33.1"] {
            assert_eq!(life.version(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_states_are_kept_and_the_oldest_give_way() {
        let mut history = History::default();
        for version in (0..KEPT as u64 * 2).map(|n| n * 3) {
            history.push(version, Arc::new(version));
        }
        let last = (KEPT as u64 * 2 - 1) * 3;
        assert_eq!(history.at(last).as_deref(), Some(&last));
        assert_eq!(history.at(last - 1), None);
        assert_eq!(history.at(0), None);
        history.push(1, Arc::new(1));
        assert_eq!(history.at(1), None, "versions only grow");
    }
}
