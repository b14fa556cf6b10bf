//! What this client holds. v2 has no leases: whose a key is, its index says. Ours has the index that
//! our own last write gave it, so each write that we make names the one before.
//!
//! A write that got no answer may have been made. Its value is remembered until an answer shows how the
//! key stands; a key that has such a value is ours too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::kv::{Key, Node};
use crate::model::Grant;
use crate::store::{lost, replaced};

/// A key of ours.
#[derive(Clone, Debug)]
pub(super) struct OwnedKeys {
    grant: u64,
    /// The index of our last confirmed write; 0 before the first.
    pub(super) modified: u64,
    /// The value of that write.
    pub(super) written: String,
    /// The values of writes that got no answer yet.
    tried: Vec<String>,
    /// When the store has forgotten it, if nobody renews it.
    until: Instant,
}

impl OwnedKeys {
    /// Whether that is what we wrote, or may have written.
    pub(super) fn wrote(&self, node: &Node) -> bool {
        let is = |value: &String| value.as_bytes() == &*node.value;
        node.modified == self.modified
            || !self.tried.is_empty() && (is(&self.written) || self.tried.iter().any(is))
    }
}

/// See the module.
pub(super) struct Ownership {
    keys: Mutex<HashMap<Key, OwnedKeys>>,
    grants: AtomicU64,
    /// Each answer.
    answered: watch::Sender<()>,
}

impl Default for Ownership {
    fn default() -> Ownership {
        Ownership {
            keys: Mutex::default(),
            grants: AtomicU64::new(0),
            answered: watch::Sender::new(()),
        }
    }
}

impl Ownership {
    fn keys(&self) -> MutexGuard<'_, HashMap<Key, OwnedKeys>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other grant of this client has.
    pub(super) fn new_grant(&self) -> u64 {
        self.grants.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether any grant of ours wrote that.
    pub(super) fn wrote(&self, node: &Node) -> bool {
        self.keys().get(&node.key).is_some_and(|h| h.wrote(node))
    }

    /// The value is about to be written under this grant. Whichever grant had the key, has it no more.
    /// Gives what was held before.
    pub(super) fn claim(&self, key: &Key, grant: Grant, value: &str) -> Option<OwnedKeys> {
        let mut keys = self.keys();
        let now = Instant::now();
        keys.retain(|_, held| held.until > now);
        let before = keys.get(key).cloned();
        let held = keys.entry(key.clone()).or_insert_with(|| OwnedKeys {
            grant: grant.id,
            modified: 0,
            written: value.to_owned(),
            tried: Vec::new(),
            until: now,
        });
        held.grant = grant.id;
        held.until = now + grant.ttl * 2;
        if !held.tried.iter().any(|tried| tried == value) {
            held.tried.push(value.to_owned());
        }
        before
    }

    /// The key lives on without having been written.
    pub(super) fn prolong(&self, key: &Key, grant: Grant) {
        if let Some(held) = self.of(&mut self.keys(), key, grant) {
            held.until = Instant::now() + grant.ttl * 2;
        }
    }

    /// The write was refused: all is as it was before.
    pub(super) fn restore(&self, key: &Key, grant: Grant, before: Option<OwnedKeys>) {
        let mut keys = self.keys();
        if self.of(&mut keys, key, grant).is_some() {
            match before {
                Some(before) => keys.insert(key.clone(), before),
                None => keys.remove(key),
            };
        }
        drop(keys);
        self.answered.send_replace(());
    }

    /// The value was written, or the key was seen, at that index.
    pub(super) fn confirm(&self, key: &Key, grant: Grant, modified: u64, value: &str) {
        if let Some(held) = self.of(&mut self.keys(), key, grant) {
            (held.modified, held.written) = (modified, value.to_owned());
            held.tried.clear();
        }
        self.answered.send_replace(());
    }

    /// The key is not ours, or not any more.
    pub(super) fn release(&self, key: &Key, grant: Grant) {
        let mut keys = self.keys();
        if self.of(&mut keys, key, grant).is_some() {
            keys.remove(key);
        }
        drop(keys);
        self.answered.send_replace(());
    }

    /// What the grant holds there; else whether the key is another's of this client, or nobody's.
    pub(super) fn get(&self, key: &Key, grant: Grant) -> Result<OwnedKeys> {
        match self.keys().get(key) {
            Some(held) if held.grant == grant.id => Ok(held.clone()),
            Some(_) => Err(replaced(key)),
            None => Err(lost(key)),
        }
    }

    /// The same, once no write of it waits for its answer.
    pub(super) async fn settled(&self, key: &Key, grant: Grant) -> Result<OwnedKeys> {
        let mut answered = self.answered.subscribe();
        loop {
            let held = self.get(key, grant)?;
            if held.tried.is_empty() {
                return Ok(held);
            }
            // The sender is ours: there is always a next.
            let _ = answered.changed().await;
        }
    }

    fn of<'a>(
        &self,
        keys: &'a mut HashMap<Key, OwnedKeys>,
        key: &Key,
        grant: Grant,
    ) -> Option<&'a mut OwnedKeys> {
        keys.get_mut(key).filter(|held| held.grant == grant.id)
    }
}

/// What a key that we did not write says: one that stays is no owner's. Somebody wrote over ours by hand,
/// and we put it back.
pub(super) fn not_ours(node: &Node) -> Error {
    match node.owner {
        0 => lost(&node.key),
        _ => replaced(&node.key),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    fn key() -> Key {
        Key::new("/a").unwrap()
    }

    fn node(modified: u64, value: &str) -> Node {
        Node {
            key: key(),
            value: value.as_bytes().into(),
            created: 1,
            modified,
            owner: 1,
        }
    }

    fn grant(id: u64) -> Grant {
        let ttl = Duration::from_secs(10);
        Grant { id, ttl }
    }

    #[tokio::test]
    async fn what_has_our_index_is_ours_and_what_has_our_value_only_while_an_answer_is_missing() {
        let holdings = Ownership::default();
        holdings.claim(&key(), grant(1), "one");
        assert!(holdings.wrote(&node(5, "one")) && !holdings.wrote(&node(5, "other")));
        holdings.confirm(&key(), grant(1), 5, "one");
        assert!(holdings.wrote(&node(5, "one")) && !holdings.wrote(&node(6, "one")));
        holdings.claim(&key(), grant(1), "two");
        let before = holdings.claim(&key(), grant(1), "three");
        for ours in ["one", "two", "three"] {
            assert!(holdings.wrote(&node(7, ours)), "{ours}");
        }
        holdings.restore(&key(), grant(1), before);
        assert!(!holdings.wrote(&node(7, "three")), "that one was refused");
        holdings.confirm(&key(), grant(1), 8, "two");
        assert!(!holdings.wrote(&node(9, "two")));
    }

    #[tokio::test]
    async fn a_new_grant_takes_the_key_from_the_old_one_and_the_old_one_ends_nothing() {
        let holdings = Ownership::default();
        holdings.claim(&key(), grant(1), "one");
        holdings.confirm(&key(), grant(1), 5, "one");
        holdings.claim(&key(), grant(2), "two");
        assert!(holdings.wrote(&node(5, "one")), "what was ours still is");
        holdings.release(&key(), grant(1));
        let old = holdings.get(&key(), grant(1)).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Replaced);
        assert!(holdings.get(&key(), grant(2)).is_ok());
        holdings.release(&key(), grant(2));
        let gone = holdings.get(&key(), grant(1)).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::LeaseLost);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_renews_is_forgotten_as_the_store_forgets_it() {
        let holdings = Ownership::default();
        holdings.claim(&key(), grant(1), "one");
        tokio::time::advance(Duration::from_secs(30)).await;
        holdings.claim(&Key::new("/b").unwrap(), grant(2), "b");
        assert!(holdings.get(&key(), grant(1)).is_err());
    }
}
