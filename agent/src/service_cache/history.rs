//! Recent states of a service, so that a client that reconnects receives only the changes since its last
//! state, and the encoded transitions to the newest state, so that each is encoded once for all clients.
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of retained states. They share the instances that they have in common.
const MAX_STATES: usize = 256;
/// Maximum size of the transitions between the retained states, in bytes: about what the older states do not share
/// with the newest one.
pub const MAX_STATE_BYTES: usize = 4 * 1024 * 1024;
/// Time for which a state is retained after the next was recorded. A client that reconnects later receives
/// all instances.
const STATE_RETENTION: Duration = Duration::from_secs(60);
/// Maximum number of retained transitions to the newest state. Most clients come from the state before,
/// delayed ones from older states.
const MAX_TRANSITIONS: usize = 8;

/// Identity of an opened service set. Prefix of the indexes of its states, which clients treat as opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetId(String);

impl SetId {
    /// Creates the id of the n-th set that this process opened.
    pub fn new(boot: &str, number: u64) -> SetId {
        SetId(format!("{boot}.{number:x}"))
    }

    /// Returns the index of a version of the set.
    pub fn index(&self, version: u64) -> String {
        format!("{}.{version:x}", self.0)
    }

    /// Returns the version of an index, or `None` if the index belongs to another set.
    pub fn version(&self, index: &str) -> Option<u64> {
        let version = index.strip_prefix(self.0.as_str())?.strip_prefix('.')?;
        u64::from_str_radix(version, 16).ok()
    }
}

/// Recent states `S` and encoded transitions `T` of one set.
#[derive(Debug)]
pub struct History<S, T> {
    /// Ordered by version.
    states: VecDeque<HistoryEntry<S>>,
    /// Encoded transitions to the newest state, by the version that they start from; `None` for all
    /// instances.
    transitions: VecDeque<(Option<u64>, T)>,
    /// Sum of the sizes of all states.
    bytes: usize,
}

#[derive(Debug)]
struct HistoryEntry<S> {
    version: u64,
    state: Arc<S>,
    /// Size of the transition to the state, in bytes.
    bytes: usize,
    /// When the state was first recorded, as the time since a fixed point.
    at: Duration,
}

impl<S, T> Default for History<S, T> {
    fn default() -> History<S, T> {
        History {
            states: VecDeque::new(),
            transitions: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<S, T: Clone + AsRef<[u8]>> History<S, T> {
    /// Returns the sum of the sizes of all states, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records a state and the transition to it. Removes the oldest beyond the limits, of which `max_bytes` is at
    /// most [`MAX_STATE_BYTES`].
    pub fn record(
        &mut self,
        from: Option<u64>,
        version: u64,
        state: &Arc<S>,
        transition: &T,
        at: Duration,
        max_bytes: usize,
    ) {
        let newest = self.states.back().map(|newest| newest.version);
        if newest.is_none_or(|newest| newest < version) {
            self.transitions.clear();
        }
        if newest.is_none_or(|newest| newest <= version) {
            if self.transitions.len() == MAX_TRANSITIONS {
                self.transitions.pop_front();
            }
            self.transitions.push_back((from, transition.clone()));
        }
        if let Err(position) = self.find(version) {
            let bytes = transition.as_ref().len();
            let entry = HistoryEntry {
                version,
                state: state.clone(),
                bytes,
                at,
            };
            self.states.insert(position, entry);
            self.bytes += bytes;
            while self.states.len() > MAX_STATES || self.is_larger_than(max_bytes) {
                self.remove_oldest();
            }
        }
    }

    /// Removes what is older than [`STATE_RETENTION`], except the newest state.
    pub fn remove_expired(&mut self, now: Duration) {
        let is_expired = |entry: &HistoryEntry<S>| entry.at + STATE_RETENTION < now;
        while self.states.get(1).is_some_and(is_expired) {
            self.remove_oldest();
        }
        // Later clients receive the newest state as encoded at that time.
        if self.states.back().is_some_and(is_expired) {
            self.transitions.clear();
        }
    }

    /// Returns the transition from a version to the newest state and that state, if `version` is the newest
    /// and the transition is retained.
    pub fn transition(&self, from: Option<u64>, version: u64) -> Option<(T, Arc<S>)> {
        let newest = self.states.back()?;
        let (_, transition) = self.transitions.iter().find(|(start, _)| *start == from)?;
        (newest.version == version).then(|| (transition.clone(), newest.state.clone()))
    }

    /// Returns the state of a version while it is retained.
    pub fn state_at(&self, version: u64) -> Option<Arc<S>> {
        let found = self.find(version).ok()?;
        self.states.get(found).map(|entry| entry.state.clone())
    }

    fn is_larger_than(&self, max_bytes: usize) -> bool {
        self.states.len() > 1 && self.bytes > max_bytes
    }

    fn remove_oldest(&mut self) {
        if let Some(oldest) = self.states.pop_front() {
            self.bytes -= oldest.bytes;
        }
    }

    fn find(&self, version: u64) -> Result<usize, usize> {
        self.states
            .binary_search_by_key(&version, |entry| entry.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_belongs_to_one_set() {
        let set_id = SetId::new("ab12", 3);
        assert_eq!(set_id.version(&set_id.index(26)), Some(26));
        assert_eq!(SetId::new("ab12", 4).version(&set_id.index(26)), None);
        assert_eq!(SetId::new("ffff", 3).version(&set_id.index(26)), None);
        for bad in ["", "ab12.3", "ab12.3.", "ab12.3.x", "ab12.33.1"] {
            assert_eq!(set_id.version(bad), None, "{bad}");
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_newest_states_are_retained() {
        let mut history = History::default();
        let mut record = |version| {
            history.record(
                None,
                version,
                &Arc::new(version),
                &"",
                SECOND,
                MAX_STATE_BYTES,
            )
        };
        (0..MAX_STATES as u64 * 2).for_each(|n| record(n * 3));
        let last = (MAX_STATES as u64 * 2 - 1) * 3;
        // A state that is recorded late is found like any other.
        record(last - 1);
        assert_eq!(history.state_at(last).as_deref(), Some(&last));
        assert_eq!(history.state_at(last - 1).as_deref(), Some(&(last - 1)));
        assert_eq!(history.state_at(last - 2), None);
        assert_eq!(history.state_at(0), None);
    }

    #[test]
    fn large_states_are_removed_early() {
        let mut history = History::default();
        let transition = vec![0; MAX_STATE_BYTES / 4];
        for version in 1..=9 {
            history.record(
                None,
                version,
                &Arc::new(version),
                &transition,
                SECOND,
                MAX_STATE_BYTES,
            );
        }
        assert_eq!(history.state_at(5), None);
        assert!(history.state_at(6).is_some());
        let transition = vec![0; MAX_STATE_BYTES * 2];
        history.record(
            None,
            10,
            &Arc::new(10),
            &transition,
            SECOND,
            MAX_STATE_BYTES,
        );
        assert_eq!(history.state_at(9), None);
        assert!(history.state_at(10).is_some(), "the newest state stays");
    }

    #[test]
    fn expired_states_are_removed_except_the_newest() {
        let mut history = History::default();
        for version in 1..=3 {
            let at = SECOND * version as u32;
            history.record(
                Some(version - 1),
                version,
                &Arc::new(version),
                &"",
                at,
                MAX_STATE_BYTES,
            );
        }
        history.remove_expired(STATE_RETENTION + SECOND * 3);
        assert_eq!(history.state_at(1), None);
        assert!(history.state_at(2).is_some() && history.transition(Some(2), 3).is_some());
        history.remove_expired(STATE_RETENTION * 10);
        assert_eq!(history.state_at(2), None);
        assert!(history.state_at(3).is_some() && history.transition(Some(2), 3).is_none());
    }

    #[test]
    fn transitions_lead_to_the_newest_state_only() {
        let mut history = History::default();
        let mut record = |from, version, transition| {
            history.record(
                from,
                version,
                &Arc::new(version),
                &transition,
                SECOND,
                MAX_STATE_BYTES,
            );
            history
                .transition(from, version)
                .map(|(transition, _)| transition)
        };
        assert_eq!(record(None, 5, "all of 5"), Some("all of 5"));
        assert_eq!(record(Some(4), 5, "4 to 5"), Some("4 to 5"));
        assert_eq!(record(Some(5), 6, "5 to 6"), Some("5 to 6"));
        assert_eq!(record(Some(3), 5, "3 to 5"), None, "not the newest version");
        assert_eq!(history.transition(None, 5), None);
        assert_eq!(history.transition(Some(4), 6), None);
        assert_eq!(history.transition(Some(5), 6).unwrap().1, Arc::new(6));
    }
}
