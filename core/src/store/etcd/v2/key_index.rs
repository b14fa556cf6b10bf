//! Index of the keys of a range, as they were emitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{Key, Node};

/// The keys of a range as they were emitted.
///
/// In v2 a plain `set` of an existing key creates it anew, which older programs use as heartbeat and as
/// update. Such a key is emitted with the age that it had.
#[derive(Default)]
pub(super) struct KeyIndex {
    keys: BTreeMap<Key, IndexedKey>,
    /// Creation index of each directory with a TTL.
    directories: BTreeMap<Key, u64>,
    /// Index up to which the content is valid.
    index: u64,
}

struct IndexedKey {
    value: Arc<[u8]>,
    /// Creation index as emitted, and as the store has it.
    created: u64,
    made: u64,
    /// Index of the last change. Heartbeats raise the store's index without a change.
    modified: u64,
    owner: u64,
}

/// The files of a tree, and its directories with a TTL.
#[derive(Default)]
pub(super) struct Leaves {
    pub(super) nodes: Vec<Node>,
    pub(super) directories: BTreeMap<Key, u64>,
}

impl KeyIndex {
    /// Replaces the content by a list, and returns the nodes as they are to be emitted. A key with the same
    /// value may have been created anew; it keeps its age.
    pub(super) fn replace(&mut self, index: u64, leaves: Leaves) -> Vec<Node> {
        let mut before = std::mem::take(self);
        // A lower index is a new epoch.
        if index < before.index {
            before = KeyIndex::default();
        }
        self.index = index;
        self.directories = leaves.directories;
        let mut nodes = leaves.nodes;
        for node in &mut nodes {
            let told = before.keys.get(&node.key);
            let same = |told: &&IndexedKey| told.made == node.created || told.value == node.value;
            let created = told.filter(same).map(|told| told.created);
            self.record(node, created);
        }
        nodes
    }

    /// Records a write, and returns the node as it is to be emitted. `over` is true if the key existed.
    pub(super) fn put(&mut self, mut node: Node, over: bool) -> Node {
        let told = self.keys.get(&node.key).filter(|_| over);
        let created = told.map(|told| told.created);
        self.index = self.index.max(node.modified);
        self.record(&mut node, created);
        node
    }

    fn record(&mut self, node: &mut Node, created: Option<u64>) {
        let made = node.created;
        node.created = created.unwrap_or(made);
        let told = IndexedKey {
            value: node.value.clone(),
            created: node.created,
            made,
            modified: node.modified,
            owner: node.owner,
        };
        self.keys.insert(node.key.clone(), told);
    }

    /// Records a directory that was created or written, with its creation index if it has a TTL.
    pub(super) fn put_directory(&mut self, directory: Key, made: Option<u64>) {
        match made {
            Some(made) => self.directories.insert(directory, made),
            None => self.directories.remove(&directory),
        };
    }

    /// Returns the creation index of the nearest directory above the key that has a TTL; 0 without one.
    pub(super) fn directory_of(&self, key: &Key) -> u64 {
        let mut path = key.as_str();
        while !self.directories.is_empty()
            && let Some((above, _)) = path.rsplit_once('/')
        {
            let made = Key::new(above)
                .ok()
                .and_then(|key| self.directories.get(&key));
            if let Some(made) = made {
                return *made;
            }
            path = above;
        }
        0
    }

    /// Returns the index of the key's last change: the recorded one if the node equals the recorded node.
    pub(super) fn last_change(&self, node: &Node) -> u64 {
        match self.keys.get(&node.key) {
            Some(told) if told.made == node.created && told.value == node.value => told.modified,
            _ => node.modified,
        }
    }

    /// Removes the key and everything below it. Returns the removed keys with their owners.
    pub(super) fn delete(&mut self, key: &Key) -> Vec<(Key, u64)> {
        for directory in keys_below(&self.directories, key) {
            self.directories.remove(&directory);
        }
        let gone = keys_below(&self.keys, key).into_iter();
        gone.filter_map(|key| {
            let told = self.keys.remove(&key)?;
            Some((key, told.owner))
        })
        .collect()
    }
}

/// Returns the key, if it exists, and all keys below it.
fn keys_below<T>(map: &BTreeMap<Key, T>, key: &Key) -> Vec<Key> {
    let beneath = key.as_prefix();
    let near = map.range(key.clone()..).map(|(key, _)| key);
    let near = near.take_while(|k| k.as_str().starts_with(key.as_str()));
    let inside = near.filter(|k| *k == key || k.strip_prefix(&beneath).is_some());
    inside.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(key: &str, value: &str, created: u64, modified: u64) -> Node {
        Node {
            key: Key::new(key).unwrap(),
            value: value.as_bytes().into(),
            created,
            modified,
            owner: 1,
        }
    }

    fn list(known: &mut KeyIndex, index: u64, nodes: Vec<Node>) -> Vec<u64> {
        let directories = BTreeMap::new();
        let nodes = known.replace(index, Leaves { nodes, directories });
        nodes.iter().map(|node| node.created).collect()
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_delete_removes_everything_below() {
        let keys = ["/s/a", "/s/a/b", "/s/a-b"].map(|key| node(key, "1", 1, 4));
        let mut known = KeyIndex::default();
        list(&mut known, 4, keys.to_vec());
        assert_eq!(known.last_change(&node("/s/a", "1", 1, 9)), 4);
        assert_eq!(known.last_change(&node("/s/a", "2", 1, 9)), 9);
        assert_eq!(known.last_change(&node("/s/a", "1", 9, 9)), 9);
        let gone = known.delete(&Key::new("/s/a").unwrap());
        assert_eq!(gone.len(), 2);
        assert_eq!(known.keys.len(), 1);
    }

    #[test]
    fn a_key_that_is_set_again_keeps_its_age_unless_it_was_deleted_between() {
        let mut known = KeyIndex::default();
        assert_eq!(known.put(node("/s/a", "1", 3, 3), false).created, 3);
        assert_eq!(known.put(node("/s/a", "1", 5, 5), true).created, 3);
        assert_eq!(known.put(node("/s/a", "2", 6, 6), true).created, 3);
        assert_eq!(known.last_change(&node("/s/a", "2", 6, 6)), 6);
        // Missed meanwhile: another `set` of the same value, an update, and an unknown change.
        let lists = [(8, "2", 8, 3), (9, "3", 8, 3), (12, "4", 12, 12)];
        for (index, value, created, told) in lists {
            let now = vec![node("/s/a", value, created, index)];
            assert_eq!(list(&mut known, index, now), [told], "{index}");
        }
        known.delete(&Key::new("/s/a").unwrap());
        assert_eq!(known.put(node("/s/a", "4", 14, 14), false).created, 14);
        let another_store = vec![node("/s/a", "4", 2, 2)];
        assert_eq!(list(&mut known, 3, another_store), [2]);
    }

    #[test]
    fn a_key_expires_with_its_nearest_directory_that_has_a_ttl() {
        let key = |path| Key::new(path).unwrap();
        let mut known = KeyIndex::default();
        known.put_directory(key("/s"), Some(2));
        known.put_directory(key("/s/a"), Some(5));
        known.put_directory(key("/s/a-b"), Some(7));
        let of = |known: &KeyIndex, path| known.directory_of(&key(path));
        assert_eq!(of(&known, "/s/a/c"), 5);
        assert_eq!(of(&known, "/s/b"), 2);
        assert_eq!(of(&known, "/t/b"), 0);
        known.put_directory(key("/s/a"), None);
        assert_eq!(of(&known, "/s/a/c"), 2);
        known.delete(&key("/s"));
        assert_eq!(of(&known, "/s/a-b/c"), 0);
    }
}
