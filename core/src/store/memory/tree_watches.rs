//! The open watches of a tree.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::kv::{Change, Changes, Key, Node, Scope};

/// Number of changes that a watch may lag before it restarts with a Reset.
pub(super) const MAX_LAG: usize = 1024;

/// The open watches of a tree. Closed ones are removed now and then.
#[derive(Default)]
pub(super) struct TreeWatches {
    /// Watches of prefixes.
    prefixes: Vec<(Scope, mpsc::Sender<Changes>)>,
    /// Watches of single keys. Each registration has one, so they are indexed by key.
    keys: HashMap<Key, Vec<mpsc::Sender<Changes>>>,
}

impl TreeWatches {
    /// Adds a watch to a tree that has `key_count` keys.
    pub(super) fn add(&mut self, scope: &Scope, sender: mpsc::Sender<Changes>, key_count: usize) {
        match scope {
            Scope::Prefix(_) => {
                self.prefixes.retain(|(_, sender)| !sender.is_closed());
                self.prefixes.push((scope.clone(), sender));
            }
            Scope::Key(key) => {
                // Removes closed watches of keys that do not exist, now and then.
                if self.keys.len() > 2 * key_count + 1024 {
                    self.keys.retain(|_, senders| {
                        senders.retain(|sender| !sender.is_closed());
                        !senders.is_empty()
                    });
                }
                let senders = self.keys.entry(key.clone()).or_default();
                senders.retain(|sender| !sender.is_closed());
                senders.push(sender);
            }
        }
    }

    /// Sends the changes of a revision to the watches whose scope contains them.
    pub(super) fn notify(&mut self, revision: u64, changes: &[Change]) {
        let keyed = || changes.iter().filter_map(|c| Some((key_of(c)?, c)));
        self.prefixes.retain(|(scope, sender)| {
            let matching = keyed().filter(|(key, _)| scope.contains(key));
            send_changes(revision, matching.map(|(_, change)| change.clone()), sender)
        });
        // Groups the changes by key, in order: the end of a client deletes all its keys at once, and each of
        // them is watched.
        let mut keyed: Vec<(&Key, &Change)> = keyed().collect();
        keyed.sort_by_key(|(key, _)| *key);
        for same in keyed.chunk_by(|(one, _), (other, _)| one == other) {
            let key = same[0].0;
            let Some(senders) = self.keys.get_mut(key) else {
                continue;
            };
            let matching = same.iter().map(|(_, change)| (*change).clone());
            senders.retain(|sender| send_changes(revision, matching.clone(), sender));
            if senders.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

fn key_of(change: &Change) -> Option<&Key> {
    match change {
        Change::Put(Node { key, .. }) | Change::Delete(key) => Some(key),
        Change::Reset(_) => None,
    }
}

/// Sends changes to a watch. Returns false if the watch is closed or lags too far.
fn send_changes(
    revision: u64,
    matching: impl Iterator<Item = Change>,
    sender: &mpsc::Sender<Changes>,
) -> bool {
    let changes: Vec<Change> = matching.collect();
    if changes.is_empty() {
        return !sender.is_closed();
    }
    let changes = Changes {
        revision,
        changes,
        ..Changes::default()
    };
    sender.try_send(changes).is_ok()
}
