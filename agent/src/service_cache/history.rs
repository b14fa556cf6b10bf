//! The last states of one set that anybody was told, so that a listener that comes back hears only what
//! differs; and what led to the newest, so that it is written once for all who go the same step. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many states are kept at most. They share what they have in common.
const KEPT: usize = 256;
/// For how long a state is kept after the next was told: whoever comes back later is told all.
const AGE: Duration = Duration::from_secs(60);
/// How many ways to the newest state are kept: most listeners come from the one before, and some were
/// held up.
const WAYS: usize = 8;

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

/// See the module. `S` is a state, `T` is what leads to one.
#[derive(Debug)]
pub struct History<S, T> {
    /// In the order of their versions.
    states: VecDeque<Told<S>>,
    /// What leads to the last of them, from a version or from nothing.
    ways: VecDeque<(Option<u64>, T)>,
}

#[derive(Debug)]
struct Told<S> {
    version: u64,
    state: Arc<S>,
    /// When it was told first, as the time since some moment.
    at: Duration,
}

impl<S, T> Default for History<S, T> {
    fn default() -> History<S, T> {
        History {
            states: VecDeque::new(),
            ways: VecDeque::new(),
        }
    }
}

impl<S, T: Clone> History<S, T> {
    /// Notes a state that is told now, and the way to it; the oldest gives way.
    pub fn told(&mut self, from: Option<u64>, version: u64, state: &Arc<S>, way: &T, at: Duration) {
        let newest = self.states.back().map(|newest| newest.version);
        if newest.is_none_or(|newest| newest < version) {
            self.ways.clear();
        }
        if newest.is_none_or(|newest| newest <= version) {
            if self.ways.len() == WAYS {
                self.ways.pop_front();
            }
            self.ways.push_back((from, way.clone()));
        }
        if let Err(place) = self.find(version) {
            let state = state.clone();
            let told = Told { version, state, at };
            self.states.insert(place, told);
            if self.states.len() > KEPT {
                self.states.pop_front();
            }
        }
    }

    /// Lets go of what is too old now.
    pub fn forget(&mut self, now: Duration) {
        let old = |told: &Told<S>| told.at + AGE < now;
        while self.states.get(1).is_some_and(old) {
            self.states.pop_front();
        }
        // Whoever comes now is told the newest as it is written then.
        if self.states.back().is_some_and(old) {
            self.ways.clear();
        }
    }

    /// The way to this version, and its state, if it is the newest and somebody went it before.
    pub fn way(&self, from: Option<u64>, version: u64) -> Option<(T, Arc<S>)> {
        let newest = self.states.back()?;
        let (_, way) = self.ways.iter().find(|(start, _)| *start == from)?;
        (newest.version == version).then(|| (way.clone(), newest.state.clone()))
    }

    /// The state at this version, while it is kept.
    pub fn at(&self, version: u64) -> Option<Arc<S>> {
        let found = self.find(version).ok()?;
        self.states.get(found).map(|told| told.state.clone())
    }

    fn find(&self, version: u64) -> Result<usize, usize> {
        self.states
            .binary_search_by_key(&version, |told| told.version)
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_last_states_are_kept_and_the_oldest_give_way() {
        let mut history = History::default();
        let mut tell = |version| history.told(None, version, &Arc::new(version), &(), SECOND);
        (0..KEPT as u64 * 2).for_each(|n| tell(n * 3));
        let last = (KEPT as u64 * 2 - 1) * 3;
        // One who was told of it late comes back with it like any other.
        tell(last - 1);
        assert_eq!(history.at(last).as_deref(), Some(&last));
        assert_eq!(history.at(last - 1).as_deref(), Some(&(last - 1)));
        assert_eq!(history.at(last - 2), None);
        assert_eq!(history.at(0), None);
    }

    #[test]
    fn what_is_old_is_forgotten_but_for_the_newest() {
        let mut history = History::default();
        for version in 1..=3 {
            let at = SECOND * version as u32;
            history.told(Some(version - 1), version, &Arc::new(version), &(), at);
        }
        history.forget(AGE + SECOND * 3);
        assert_eq!(history.at(1), None);
        assert!(history.at(2).is_some() && history.way(Some(2), 3).is_some());
        history.forget(AGE * 10);
        assert_eq!(history.at(2), None);
        assert!(history.at(3).is_some() && history.way(Some(2), 3).is_none());
    }

    #[test]
    fn a_way_is_known_to_the_newest_state_alone() {
        let mut history = History::default();
        let mut told = |from, version, way| {
            history.told(from, version, &Arc::new(version), &way, SECOND);
            history.way(from, version).map(|(way, _)| way)
        };
        assert_eq!(told(None, 5, "whole 5"), Some("whole 5"));
        assert_eq!(told(Some(4), 5, "4 to 5"), Some("4 to 5"));
        assert_eq!(told(Some(5), 6, "5 to 6"), Some("5 to 6"));
        assert_eq!(told(Some(3), 5, "3 to 5"), None, "nobody goes there");
        assert_eq!(history.way(None, 5), None);
        assert_eq!(history.way(Some(4), 6), None);
        assert_eq!(history.way(Some(5), 6).unwrap().1, Arc::new(6));
    }
}
