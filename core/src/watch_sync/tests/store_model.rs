//! Model of a store with the semantics of etcd: revisions, compaction, restored backups, and a defect of its
//! released versions.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::kv::{Change, Key, Node};

/// A key of the model. Each key has one bit in a [`Scope`].
pub(super) type K = u8;

/// Number of keys.
pub(super) const KEY_COUNT: K = 16;

/// The keys of a range, one bit each.
pub(super) type Scope = u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    pub(super) value: u32,
    pub(super) created: u64,
    pub(super) modified: u64,
}

pub(super) type State = BTreeMap<K, Value>;

/// A change of a key in a revision: the values before and after.
type Step = (K, Option<Value>, Option<Value>);

/// One history of the store since its first revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    pub(super) head: u64,
    state: State,
    log: Vec<(u64, Vec<Step>)>,
}

impl History {
    fn new() -> History {
        let (head, state, log) = (1, State::new(), Vec::new());
        History { head, state, log }
    }

    /// Returns the keys of the scope at a revision.
    pub(super) fn at(&self, revision: u64, scope: Scope) -> State {
        let mut state = self.state.clone();
        state.retain(|key, _| has(scope, *key));
        for (_, steps) in self.log.iter().rev().take_while(|(at, _)| *at > revision) {
            for (key, before, _) in steps.iter().filter(|(key, ..)| has(scope, *key)) {
                set(&mut state, *key, *before);
            }
        }
        state
    }

    fn restored(&self, revision: u64) -> History {
        let mut restored = self.clone();
        restored.log.retain(|(at, _)| *at <= revision);
        restored.state = self.at(revision, Scope::MAX);
        restored.head = revision;
        restored
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    /// All histories; the last one is current.
    pub(super) histories: Vec<History>,
    pub(super) compacted: u64,
    /// Whether the store has etcd's defect: a watch that has not reached the revision of a compaction does
    /// not receive the deletes of that revision.
    pub(super) loses_deletes: bool,
    values: u32,
}

impl Store {
    pub(super) fn new(loses_deletes: bool) -> Store {
        Store {
            histories: vec![History::new()],
            compacted: 0,
            loses_deletes,
            values: 0,
        }
    }

    pub(super) fn now(&self) -> &History {
        self.histories.last().expect("there is always one")
    }

    fn now_mut(&mut self) -> &mut History {
        self.histories.last_mut().expect("there is always one")
    }

    pub(super) fn head(&self) -> u64 {
        self.now().head
    }

    /// Commits a transaction; true puts, false deletes. Deleting an absent key changes nothing. Each key is
    /// changed at most once.
    pub(super) fn write(&mut self, wanted: &[(K, bool)]) {
        let mut values = self.values;
        let now = self.now_mut();
        let revision = now.head + 1;
        let mut steps = Vec::new();
        for (n, (key, put)) in wanted.iter().enumerate() {
            if wanted[..n].iter().any(|(earlier, _)| earlier == key) {
                continue;
            }
            let before = now.state.get(key).copied();
            values += 1;
            let after = put.then(|| Value {
                value: values,
                created: before.map_or(revision, |before| before.created),
                modified: revision,
            });
            if before.is_some() || after.is_some() {
                set(&mut now.state, *key, after);
                steps.push((*key, before, after));
            }
        }
        if !steps.is_empty() {
            now.head = revision;
            now.log.push((revision, steps));
        }
        self.values = values;
    }

    /// Adds revisions that change no key of the model.
    pub(super) fn write_unwatched(&mut self, revisions: u64) {
        self.now_mut().head += revisions;
    }

    pub(super) fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.head()));
    }

    /// Restores a backup of this number of revisions ago.
    pub(super) fn roll_back(&mut self, revisions: u64) {
        let to = self.head().saturating_sub(revisions).max(1);
        self.histories.push(self.now().restored(to));
        self.compacted = self.compacted.min(to);
    }

    pub(super) fn wipe(&mut self) {
        self.histories.push(History::new());
        self.compacted = 0;
    }

    /// Returns the events of the revisions `from..=to`, and the last revision of which a delete was lost.
    pub(super) fn events(&self, from: u64, to: u64, scope: Scope) -> (Vec<Event>, Option<u64>) {
        let log = &self.now().log;
        let start = log.partition_point(|(at, _)| *at < from);
        let (mut events, mut swallowed) = (Vec::new(), None);
        for (at, steps) in log[start..].iter().take_while(|(at, _)| *at <= to) {
            for (key, _, after) in steps.iter().filter(|(key, ..)| has(scope, *key)) {
                if self.loses_deletes && after.is_none() && *at == self.compacted {
                    swallowed = Some(*at);
                } else {
                    events.push((*at, *key, *after));
                }
            }
        }
        (events, swallowed)
    }

    /// Returns true if some history had this state of the scope at the revision.
    pub(super) fn ever_was(&self, view: &State, revision: u64, scope: Scope) -> bool {
        let histories = self.histories.iter().rev();
        let mut reached = histories.filter(|history| history.head >= revision);
        reached.any(|history| history.at(revision, scope) == *view)
    }

    /// Drops old histories and revisions, for long runs.
    pub(super) fn trim_before(&mut self, revision: u64) {
        let late = self.histories.len().saturating_sub(3);
        self.histories.drain(..late);
        let log = &mut self.now_mut().log;
        let old = log.partition_point(|(at, _)| *at < revision);
        log.drain(..old);
    }
}

/// A change with its revision.
pub(super) type Event = (u64, K, Option<Value>);

pub(super) fn has(scope: Scope, key: K) -> bool {
    scope & (1 << key) != 0
}

pub(super) fn set(state: &mut State, key: K, value: Option<Value>) {
    match value {
        Some(value) => state.insert(key, value),
        None => state.remove(&key),
    };
}

/// Returns the name of a key.
pub(super) fn name(key: K) -> Key {
    static NAMES: OnceLock<Vec<Key>> = OnceLock::new();
    let make = |key: K| Key::new(&format!("/keys/{key:02}")).expect("a good name");
    NAMES.get_or_init(|| (0..KEY_COUNT).map(make).collect())[usize::from(key)].clone()
}

/// Returns the key of a name.
pub(super) fn key(name: &Key) -> K {
    name.as_str()[6..].parse().expect("a key of the model")
}

pub(super) fn node(key: K, value: Value) -> Node {
    Node {
        key: name(key),
        value: Arc::from(value.value.to_le_bytes()),
        created: value.created,
        modified: value.modified,
        owner: 0,
    }
}

pub(super) fn value(node: &Node) -> Value {
    let bytes = node.value.as_ref().try_into().expect("four bytes");
    Value {
        value: u32::from_le_bytes(bytes),
        created: node.created,
        modified: node.modified,
    }
}

pub(super) fn change(event: &Event) -> (u64, Change) {
    let change = match event.2 {
        Some(value) => Change::Put(node(event.1, value)),
        None => Change::Delete(name(event.1)),
    };
    (event.0, change)
}
