//! Ownership of keys in etcd v2, which has no leases: a key is owned if it has the index of this client's
//! last write. Each write is therefore conditional on the index of the one before.
//!
//! A write whose response is lost may have succeeded. Its value is kept as unconfirmed until a response
//! shows the state of the key; a key with an unconfirmed value is owned, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::kv::{Key, Node};
use crate::model::Grant;
use crate::store::{lost, replaced};

/// The number of keys up to which expired ones are kept.
const MIN_CLEANUP_KEYS: usize = 64;

/// An owned key.
#[derive(Clone, Debug)]
pub(super) struct OwnedKey {
    grant: u64,
    /// Index of the last confirmed write; 0 before the first.
    pub(super) modified: u64,
    /// Value of that write.
    pub(super) value: String,
    /// Values of writes without a response.
    unconfirmed: Vec<String>,
    /// Time at which the store has expired the key if it was not renewed.
    expires_at: Instant,
}

impl OwnedKey {
    /// Returns the precondition that the key is as this client wrote it. The index is unknown if the response of
    /// the first write was lost; no key has index 1, and index 0 would be no condition.
    pub(super) fn precondition(&self) -> String {
        format!("prevIndex={}", self.modified.max(1))
    }

    /// Returns true if this client wrote the node, or may have written it.
    pub(super) fn may_have_written(&self, node: &Node) -> bool {
        let is = |value: &String| value.as_bytes() == &*node.value;
        node.modified == self.modified
            || !self.unconfirmed.is_empty() && (is(&self.value) || self.unconfirmed.iter().any(is))
    }
}

/// Owned keys, some of which may have expired.
#[derive(Default)]
struct OwnedKeys {
    owned: HashMap<Key, OwnedKey>,
    /// The number of keys at which expired ones are removed next. It grows with their number, so that a write does
    /// not visit all other keys.
    next_cleanup: usize,
}

impl OwnedKeys {
    /// Returns the record of a key that has not expired.
    fn live(&self, key: &Key, now: Instant) -> Option<&OwnedKey> {
        self.owned.get(key).filter(|owned| owned.expires_at > now)
    }

    /// Returns the record of a key of the grant.
    fn of_grant(&mut self, key: &Key, grant: Grant) -> Option<&mut OwnedKey> {
        let owned = self.owned.get_mut(key)?;
        (owned.grant == grant.id).then_some(owned)
    }

    /// Removes the expired keys if the map has doubled since the last time.
    fn remove_expired(&mut self, now: Instant) {
        if self.owned.len() > self.next_cleanup {
            self.owned.retain(|_, owned| owned.expires_at > now);
            self.next_cleanup = 2 * self.owned.len() + MIN_CLEANUP_KEYS;
        }
    }
}

/// The keys that this client owns.
pub(super) struct Ownership {
    keys: Mutex<OwnedKeys>,
    grants: AtomicU64,
    /// Signals each response.
    responses: watch::Sender<()>,
}

impl Default for Ownership {
    fn default() -> Ownership {
        Ownership {
            keys: Mutex::default(),
            grants: AtomicU64::new(0),
            responses: watch::Sender::new(()),
        }
    }
}

impl Ownership {
    fn keys(&self) -> MutexGuard<'_, OwnedKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an id that no other grant of this client has.
    pub(super) fn new_grant(&self) -> u64 {
        self.grants.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns true if any grant of this client wrote the node.
    pub(super) fn may_have_written(&self, node: &Node) -> bool {
        self.keys()
            .live(&node.key, Instant::now())
            .is_some_and(|h| h.may_have_written(node))
    }

    /// Records that the value is about to be written under this grant, which takes the key from any other.
    /// Returns the previous record.
    pub(super) fn record_attempt(&self, key: &Key, grant: Grant, value: &str) -> Option<OwnedKey> {
        let mut keys = self.keys();
        let now = Instant::now();
        keys.remove_expired(now);
        let before = keys.live(key, now).cloned();
        if before.is_none() {
            keys.owned.remove(key);
        }
        let owned = keys.owned.entry(key.clone()).or_insert_with(|| OwnedKey {
            grant: grant.id,
            modified: 0,
            value: value.to_owned(),
            unconfirmed: Vec::new(),
            expires_at: now,
        });
        owned.grant = grant.id;
        owned.expires_at = now + grant.ttl * 2;
        if !owned
            .unconfirmed
            .iter()
            .any(|unconfirmed| unconfirmed == value)
        {
            owned.unconfirmed.push(value.to_owned());
        }
        before
    }

    /// Records that the key was renewed without a write.
    pub(super) fn record_renewal(&self, key: &Key, grant: Grant) {
        if let Some(owned) = self.keys().of_grant(key, grant) {
            owned.expires_at = Instant::now() + grant.ttl * 2;
        }
    }

    /// Restores the previous record after a rejected write.
    pub(super) fn undo_attempt(&self, key: &Key, grant: Grant, before: Option<OwnedKey>) {
        let mut keys = self.keys();
        if keys.of_grant(key, grant).is_some() {
            match before {
                Some(before) => keys.owned.insert(key.clone(), before),
                None => keys.owned.remove(key),
            };
        }
        drop(keys);
        self.responses.send_replace(());
    }

    /// Records that the key has the value at the index, because it was written or read.
    pub(super) fn confirm(&self, key: &Key, grant: Grant, modified: u64, value: &str) {
        if let Some(owned) = self.keys().of_grant(key, grant) {
            (owned.modified, owned.value) = (modified, value.to_owned());
            owned.unconfirmed.clear();
        }
        self.responses.send_replace(());
    }

    /// Records that the grant does not own the key.
    pub(super) fn release(&self, key: &Key, grant: Grant) {
        let mut keys = self.keys();
        if keys.of_grant(key, grant).is_some() {
            keys.owned.remove(key);
        }
        drop(keys);
        self.responses.send_replace(());
    }

    /// Returns the record of a key of the grant.
    ///
    /// # Errors
    ///
    /// Fails with `Replaced` if another grant of this client owns the key, and with `LeaseLost` if none
    /// does.
    pub(super) fn get(&self, key: &Key, grant: Grant) -> Result<OwnedKey> {
        match self.keys().live(key, Instant::now()) {
            Some(owned) if owned.grant == grant.id => Ok(owned.clone()),
            Some(_) => Err(replaced(key)),
            None => Err(lost(key)),
        }
    }

    /// Waits until no write of the key is in flight, then returns its record like [`Ownership::get`].
    pub(super) async fn get_confirmed(&self, key: &Key, grant: Grant) -> Result<OwnedKey> {
        let mut responses = self.responses.subscribe();
        loop {
            let owned = self.get(key, grant)?;
            if owned.unconfirmed.is_empty() {
                return Ok(owned);
            }
            // `self` owns the sender, so a next signal comes.
            let _ = responses.changed().await;
        }
    }
}

/// Returns the error for a key that another client wrote. A persistent key has no owner: it was overwritten
/// by hand and is restored.
pub(super) fn lost_error(node: &Node) -> Error {
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
    async fn a_key_is_owned_by_its_index_and_by_its_value_only_while_a_write_is_unconfirmed() {
        let ownership = Ownership::default();
        ownership.record_attempt(&key(), grant(1), "one");
        assert!(
            ownership.may_have_written(&node(5, "one"))
                && !ownership.may_have_written(&node(5, "other"))
        );
        ownership.confirm(&key(), grant(1), 5, "one");
        assert!(
            ownership.may_have_written(&node(5, "one"))
                && !ownership.may_have_written(&node(6, "one"))
        );
        ownership.record_attempt(&key(), grant(1), "two");
        let before = ownership.record_attempt(&key(), grant(1), "three");
        for ours in ["one", "two", "three"] {
            assert!(ownership.may_have_written(&node(7, ours)), "{ours}");
        }
        ownership.undo_attempt(&key(), grant(1), before);
        assert!(
            !ownership.may_have_written(&node(7, "three")),
            "that one was refused"
        );
        ownership.confirm(&key(), grant(1), 8, "two");
        assert!(!ownership.may_have_written(&node(9, "two")));
    }

    #[tokio::test]
    async fn a_new_grant_takes_the_key_and_the_old_grant_releases_nothing() {
        let ownership = Ownership::default();
        ownership.record_attempt(&key(), grant(1), "one");
        ownership.confirm(&key(), grant(1), 5, "one");
        ownership.record_attempt(&key(), grant(2), "two");
        assert!(
            ownership.may_have_written(&node(5, "one")),
            "what was ours still is"
        );
        ownership.release(&key(), grant(1));
        let old = ownership.get(&key(), grant(1)).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Replaced);
        assert!(ownership.get(&key(), grant(2)).is_ok());
        ownership.release(&key(), grant(2));
        let gone = ownership.get(&key(), grant(1)).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::LeaseLost);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unrenewed_key_is_forgotten_when_it_has_expired_in_the_store() {
        let ownership = Ownership::default();
        ownership.record_attempt(&key(), grant(1), "one");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(ownership.get(&key(), grant(1)).is_err());
        assert!(!ownership.may_have_written(&node(5, "one")));
        assert!(ownership.record_attempt(&key(), grant(2), "two").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn expired_keys_are_removed_without_visiting_all_keys_at_each_write() {
        let ownership = Ownership::default();
        for round in 0..10 {
            for n in 0..1000 {
                let key = Key::new(&format!("/{round}/{n}")).unwrap();
                ownership.record_attempt(&key, grant(n), "v");
            }
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        let known = ownership.keys().owned.len();
        assert!(known <= 2 * 1000 + MIN_CLEANUP_KEYS + 1, "{known}");
        // A heartbeat of each key visits none of the others.
        let before = ownership.keys().next_cleanup;
        for n in 0..1000 {
            let key = Key::new(&format!("/9/{n}")).unwrap();
            ownership.record_attempt(&key, grant(n), "v");
        }
        assert_eq!(ownership.keys().next_cleanup, before);
    }
}
