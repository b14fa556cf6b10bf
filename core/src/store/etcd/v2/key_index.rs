//! What is known of the keys in a part, and what the store's trees say in our words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{Key, Node};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::response::Tree;

/// The keys of a part, each as it was told.
///
/// A plain `set` makes a new key of one that is there, and for the older programs that is a heartbeat or
/// a change. So such a key is told with the age that it had.
#[derive(Default)]
pub(super) struct KeyIndex {
    keys: BTreeMap<Key, Told>,
    /// The folders with a time to live, and when each was made.
    folders: BTreeMap<Key, u64>,
    /// Up to which index that is so.
    index: u64,
}

struct Told {
    value: Arc<[u8]>,
    /// Its age as it was told, and as the store has it.
    created: u64,
    made: u64,
    /// The index of its last change; heartbeats raise the store's, and change nothing.
    modified: u64,
    owner: u64,
}

/// The files of a tree, and its folders that have a time to live.
#[derive(Default)]
pub(super) struct Leaves {
    pub(super) nodes: Vec<Node>,
    folders: BTreeMap<Key, u64>,
}

impl KeyIndex {
    /// Takes a list for what is known from now on; gives its keys as they are to be told. One that is
    /// what it was may have been written anew, and is as old as it was.
    pub(super) fn list(&mut self, index: u64, leaves: Leaves) -> Vec<Node> {
        let mut before = std::mem::take(self);
        // A store that went back is another.
        if index < before.index {
            before = KeyIndex::default();
        }
        self.index = index;
        self.folders = leaves.folders;
        let mut nodes = leaves.nodes;
        for node in &mut nodes {
            let told = before.keys.get(&node.key);
            let same = |told: &&Told| told.made == node.created || told.value == node.value;
            let created = told.filter(same).map(|told| told.created);
            self.tell(node, created);
        }
        nodes
    }

    /// Takes note of a write; gives the node as it is to be told. `over` says that a file was there.
    pub(super) fn put(&mut self, mut node: Node, over: bool) -> Node {
        let told = self.keys.get(&node.key).filter(|_| over);
        let created = told.map(|told| told.created);
        self.index = self.index.max(node.modified);
        self.tell(&mut node, created);
        node
    }

    fn tell(&mut self, node: &mut Node, created: Option<u64>) {
        let made = node.created;
        node.created = created.unwrap_or(made);
        let told = Told {
            value: node.value.clone(),
            created: node.created,
            made,
            modified: node.modified,
            owner: node.owner,
        };
        self.keys.insert(node.key.clone(), told);
    }

    /// Takes note of a folder that was made or written: when, if it has a time to live.
    pub(super) fn put_folder(&mut self, folder: Key, made: Option<u64>) {
        match made {
            Some(made) => self.folders.insert(folder, made),
            None => self.folders.remove(&folder),
        };
    }

    /// When the nearest folder above the key was made that has a time to live; 0 without one.
    pub(super) fn folder_of(&self, key: &Key) -> u64 {
        let mut path = key.as_str();
        while !self.folders.is_empty()
            && let Some((above, _)) = path.rsplit_once('/')
        {
            let made = Key::new(above).ok().and_then(|key| self.folders.get(&key));
            if let Some(made) = made {
                return *made;
            }
            path = above;
        }
        0
    }

    /// When the key was last changed: if it is as it was told, then when that was told.
    pub(super) fn last_change(&self, node: &Node) -> u64 {
        match self.keys.get(&node.key) {
            Some(told) if told.made == node.created && told.value == node.value => told.modified,
            _ => node.modified,
        }
    }

    /// Forgets the key and all beneath it; gives what was there, with the owners.
    pub(super) fn delete(&mut self, key: &Key) -> Vec<(Key, u64)> {
        for folder in from(&self.folders, key) {
            self.folders.remove(&folder);
        }
        let gone = from(&self.keys, key).into_iter();
        gone.filter_map(|key| {
            let told = self.keys.remove(&key)?;
            Some((key, told.owner))
        })
        .collect()
    }
}

/// The key, if it is there, and all beneath it.
fn from<T>(map: &BTreeMap<Key, T>, key: &Key) -> Vec<Key> {
    let beneath = key.beneath();
    let near = map.range(key.clone()..).map(|(key, _)| key);
    let near = near.take_while(|k| k.as_str().starts_with(key.as_str()));
    let inside = near.filter(|k| *k == key || k.under(&beneath).is_some());
    inside.cloned().collect()
}

/// The node of a file. Its owner is the moment at which it, or the folder that it dies with, was made:
/// v2 knows no other.
pub(super) fn node(config: &EtcdConfig, file: &Tree, folder: u64) -> Option<Node> {
    let owner = match file.ttl {
        Some(_) => file.created_index,
        None => folder,
    };
    Some(Node {
        key: config.key(file.key.as_bytes())?,
        value: file.value.as_deref().unwrap_or_default().as_bytes().into(),
        created: file.created_index,
        modified: file.modified_index,
        owner,
    })
}

/// All files of a tree.
pub(super) fn leaves(config: &EtcdConfig, tree: Option<Tree>) -> Leaves {
    let mut leaves = Leaves::default();
    let mut left: Vec<(Tree, u64)> = tree.map(|tree| (tree, 0)).into_iter().collect();
    while let Some((tree, mut folder)) = left.pop() {
        if !tree.dir {
            leaves.nodes.extend(node(config, &tree, folder));
            continue;
        }
        if tree.ttl.is_some() {
            folder = tree.created_index;
            let key = config.key(tree.key.as_bytes());
            leaves.folders.extend(key.map(|key| (key, folder)));
        }
        let beneath = tree.nodes.unwrap_or_default();
        left.extend(beneath.into_iter().map(|tree| (tree, folder)));
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    fn config() -> EtcdConfig {
        EtcdConfig::read(&Url::parse("etcd2://h/root").unwrap(), false).unwrap()
    }

    fn tree(json: &str) -> Option<Tree> {
        Some(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_tree_is_its_files_which_die_with_their_folder_or_by_themselves() {
        let leaves = leaves(
            &config(),
            tree(
                r#"{"key":"/root/s","dir":true,"nodes":[
                {"key":"/root/s/a","value":"1","ttl":5,"createdIndex":3,"modifiedIndex":9},
                {"key":"/root/s/b","dir":true,"ttl":5,"createdIndex":4,"nodes":[
                    {"key":"/root/s/b/c","value":"2","createdIndex":5,"modifiedIndex":5}]},
                {"key":"/root/s/d","value":"","createdIndex":6,"modifiedIndex":6},
                {"key":"/other/e","value":"","createdIndex":7,"modifiedIndex":7}]}"#,
            ),
        );
        let mut seen: Vec<_> = leaves
            .nodes
            .iter()
            .map(|n| (n.key.as_str(), n.owner))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/s/a", 3), ("/s/b/c", 4), ("/s/d", 0)]);
    }

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
        let folders = BTreeMap::new();
        let nodes = known.list(index, Leaves { nodes, folders });
        nodes.iter().map(|node| node.created).collect()
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_delete_takes_all_beneath() {
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
    fn who_is_written_anew_is_as_old_as_before_and_who_went_between_is_not() {
        let mut known = KeyIndex::default();
        assert_eq!(known.put(node("/s/a", "1", 3, 3), false).created, 3);
        assert_eq!(known.put(node("/s/a", "1", 5, 5), true).created, 3);
        assert_eq!(known.put(node("/s/a", "2", 6, 6), true).created, 3);
        assert_eq!(known.last_change(&node("/s/a", "2", 6, 6)), 6);
        // What was missed: another `set` of the same, an update, and what may be anything.
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
    fn the_nearest_folder_that_runs_out_takes_a_key_with_it() {
        let key = |path| Key::new(path).unwrap();
        let mut known = KeyIndex::default();
        known.put_folder(key("/s"), Some(2));
        known.put_folder(key("/s/a"), Some(5));
        known.put_folder(key("/s/a-b"), Some(7));
        let of = |known: &KeyIndex, path| known.folder_of(&key(path));
        assert_eq!(of(&known, "/s/a/c"), 5);
        assert_eq!(of(&known, "/s/b"), 2);
        assert_eq!(of(&known, "/t/b"), 0);
        known.put_folder(key("/s/a"), None);
        assert_eq!(of(&known, "/s/a/c"), 2);
        known.delete(&key("/s"));
        assert_eq!(of(&known, "/s/a-b/c"), 0);
    }
}
