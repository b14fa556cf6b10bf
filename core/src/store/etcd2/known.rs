//! What is known of the keys in a part, and what the store's trees say in our words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::etcd2::answer::Tree;
use crate::store::servers::Config;
use crate::tree::{Key, Node};

/// The keys of a part, each as it was told.
#[derive(Default)]
pub(super) struct Known(BTreeMap<Key, Told>);

struct Told {
    value: Arc<[u8]>,
    created: u64,
    /// The index of its last change; heartbeats raise the store's, and change nothing.
    modified: u64,
    owner: u64,
}

impl Known {
    pub(super) fn of(nodes: &[Node]) -> Known {
        let mut known = Known::default();
        nodes.iter().for_each(|node| known.put(node));
        known
    }

    pub(super) fn put(&mut self, node: &Node) {
        let told = Told {
            value: node.value.clone(),
            created: node.created,
            modified: node.modified,
            owner: node.owner,
        };
        self.0.insert(node.key.clone(), told);
    }

    /// When the key was last changed: if it is as it was told, then when that was told.
    pub(super) fn last_change(&self, node: &Node) -> u64 {
        match self.0.get(&node.key) {
            Some(told) if told.created == node.created && told.value == node.value => told.modified,
            _ => node.modified,
        }
    }

    /// Forgets the key and all beneath it; gives what was there, with the owners.
    pub(super) fn delete(&mut self, key: &Key) -> Vec<(Key, u64)> {
        let beneath = key.beneath();
        let from_here = self
            .0
            .range(key.clone()..)
            .map(|(key, told)| (key, told.owner));
        let near = from_here.take_while(|(k, _)| k.as_str().starts_with(key.as_str()));
        let gone = near.filter(|(k, _)| *k == key || k.under(&beneath).is_some());
        let gone: Vec<_> = gone.map(|(key, owner)| (key.clone(), owner)).collect();
        for (key, _) in &gone {
            self.0.remove(key);
        }
        gone
    }
}

/// The node of a file. Its owner is the moment at which it, or the folder that it dies with, was made:
/// v2 knows no other.
pub(super) fn node(config: &Config, file: &Tree, folder: u64) -> Option<Node> {
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
pub(super) fn leaves(config: &Config, tree: Option<Tree>) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut left: Vec<(Tree, u64)> = tree.map(|tree| (tree, 0)).into_iter().collect();
    while let Some((tree, folder)) = left.pop() {
        if !tree.dir {
            nodes.extend(node(config, &tree, folder));
            continue;
        }
        let folder = tree.ttl.map_or(folder, |_| tree.created_index);
        let beneath = tree.nodes.unwrap_or_default();
        left.extend(beneath.into_iter().map(|tree| (tree, folder)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Uri;

    fn config() -> Config {
        Config::read(&Uri::parse("etcd2://h/root").unwrap(), false).unwrap()
    }

    fn tree(json: &str) -> Option<Tree> {
        Some(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_tree_is_its_files_which_die_with_their_folder_or_by_themselves() {
        let nodes = leaves(
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
        let mut seen: Vec<_> = nodes.iter().map(|n| (n.key.as_str(), n.owner)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/s/a", 3), ("/s/b/c", 4), ("/s/d", 0)]);
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_delete_takes_all_beneath() {
        let node = |key: &str, value: &str, modified| Node {
            key: Key::new(key).unwrap(),
            value: value.as_bytes().into(),
            created: 1,
            modified,
            owner: 1,
        };
        let keys = ["/s/a", "/s/a/b", "/s/a-b"].map(|key| node(key, "1", 4));
        let mut known = Known::of(&keys);
        assert_eq!(known.last_change(&node("/s/a", "1", 9)), 4);
        assert_eq!(known.last_change(&node("/s/a", "2", 9)), 9);
        let gone = known.delete(&Key::new("/s/a").unwrap());
        assert_eq!(gone.len(), 2);
        assert_eq!(known.0.len(), 1);
    }
}
