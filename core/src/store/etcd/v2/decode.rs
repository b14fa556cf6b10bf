//! Translation of etcd v2 responses and events into nodes and changes.

use crate::kv::{Change, Key, Node, Scope};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::key_index::{KeyIndex, Leaves};
use crate::store::etcd::v2::recent_deletes::RecentDeletes;
use crate::store::etcd::v2::response::{KeyTree, KeysResponse};

/// Returns the node of a file. Its owner is the creation index of the file or of the directory whose TTL it
/// has: v2 has no other.
pub(super) fn node(config: &EtcdConfig, file: &KeyTree, directory: u64) -> Option<Node> {
    let owner = match file.ttl {
        Some(_) => file.created_index,
        None => directory,
    };
    Some(Node {
        key: config.key(file.key.as_bytes())?,
        value: file.value.as_deref().unwrap_or_default().as_bytes().into(),
        created: file.created_index,
        modified: file.modified_index,
        owner,
    })
}

/// Returns the files of a tree.
pub(super) fn leaves(config: &EtcdConfig, tree: Option<KeyTree>) -> Leaves {
    let mut leaves = Leaves::default();
    let mut left: Vec<(KeyTree, u64)> = tree.map(|tree| (tree, 0)).into_iter().collect();
    while let Some((tree, mut directory)) = left.pop() {
        if !tree.dir {
            leaves.nodes.extend(node(config, &tree, directory));
            continue;
        }
        if tree.ttl.is_some() {
            directory = tree.created_index;
            let key = config.key(tree.key.as_bytes());
            leaves.directories.extend(key.map(|key| (key, directory)));
        }
        let beneath = tree.nodes.unwrap_or_default();
        left.extend(beneath.into_iter().map(|tree| (tree, directory)));
    }
    leaves
}

/// Returns the changes that an event makes in a scope. One event deletes a directory with everything below
/// it.
pub(super) fn changes(
    config: &EtcdConfig,
    scope: &Scope,
    event: &KeysResponse,
    known: &mut KeyIndex,
    recent_deletes: &RecentDeletes,
) -> Vec<Change> {
    let Some(at) = &event.node else {
        return Vec::new();
    };
    let replaces_file = event.prev_node.as_ref().is_some_and(|was| !was.dir);
    if event.is_removal() || (at.dir && replaces_file) {
        let gone = deleted_key(config, scope, &at.key);
        let gone = gone.map_or_else(Vec::new, |key| known.delete(&key));
        if event.action != "expire" {
            let owners = gone.iter().map(|(_, owner)| *owner);
            owners
                .filter(|owner| *owner != 0)
                .for_each(|o| recent_deletes.record(o));
        }
        if !event.is_removal() {
            record_directory(config, scope, at, known);
        }
        return gone
            .into_iter()
            .map(|(key, _)| Change::Delete(key))
            .collect();
    }
    if at.dir {
        record_directory(config, scope, at, known);
        return Vec::new();
    }
    match config.key(at.key.as_bytes()) {
        Some(key) if scope.contains(&key) => {
            let node = node(config, at, known.directory_of(&key));
            let told = node.map(|node| known.put(node, replaces_file));
            told.map(Change::Put).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Records a directory that was created or written. A list of a single key does not contain directories
/// either.
fn record_directory(config: &EtcdConfig, scope: &Scope, directory: &KeyTree, known: &mut KeyIndex) {
    if let Scope::Prefix(prefix) = scope
        && let Some(key) = config.key(directory.key.as_bytes())
        && key.as_prefix().as_str().starts_with(prefix.as_str())
    {
        known.put_directory(key, directory.ttl.map(|_| directory.created_index));
    }
}

/// Returns what an event at `path` deletes in the scope: the key there, or the whole scope if `path` is
/// above it.
fn deleted_key(config: &EtcdConfig, scope: &Scope, path: &str) -> Option<Key> {
    let place = match scope {
        Scope::Prefix(prefix) => Key::new(prefix.as_str().trim_end_matches('/')).ok()?,
        Scope::Key(key) => key.clone(),
    };
    let here = config.path(place.as_str());
    let rest = here.strip_prefix(path.trim_end_matches('/'));
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Some(place);
    }
    let inside = path.strip_prefix(&here)?.starts_with('/');
    inside.then(|| config.key(path.as_bytes())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Prefix;
    use crate::url::Url;

    fn config() -> EtcdConfig {
        EtcdConfig::read(&Url::parse("etcd2://h/root").unwrap(), false).unwrap()
    }

    fn under() -> Scope {
        Scope::Prefix(Prefix::new("/s/web").unwrap())
    }

    fn event(json: &str) -> KeysResponse {
        serde_json::from_str(json).unwrap()
    }

    /// Returns which of three keys remain after an event that ends `path`.
    fn left(path: &str, scope: &Scope) -> Vec<&'static str> {
        let config = config();
        let mut known = KeyIndex::default();
        let mut keys = vec!["/s/web/a", "/s/web/a/b", "/s/web/c"];
        for (at, key) in (1..).zip(&keys) {
            let put = format!(
                r#"{{"action":"create","node":{{"key":"/root{key}","value":"","ttl":5,
                "modifiedIndex":{at},"createdIndex":{at}}}}}"#
            );
            let recent_deletes = RecentDeletes::default();
            changes(&config, scope, &event(&put), &mut known, &recent_deletes);
        }
        let end = format!(r#"{{"action":"expire","node":{{"key":"{path}","modifiedIndex":9}}}}"#);
        let recent_deletes = RecentDeletes::default();
        for change in changes(&config, scope, &event(&end), &mut known, &recent_deletes) {
            let Change::Delete(gone) = change else {
                panic!("a put")
            };
            keys.retain(|key| *key != gone.as_str());
        }
        keys
    }

    #[test]
    fn the_end_of_a_directory_deletes_everything_below_it_and_nothing_else() {
        let under = under();
        assert_eq!(left("/root/s/web/a", &under), ["/s/web/c"]);
        for all in ["/root/s/web", "/root/s", "/root", "/"] {
            assert_eq!(left(all, &under), [""; 0], "{all}");
        }
        for beside in ["/root/s/we", "/root/s/web-admin", "/root/s/web/d", "/other"] {
            assert_eq!(left(beside, &under).len(), 3, "{beside}");
        }
        let only = Scope::Key(Key::new("/s/web/c").unwrap());
        assert_eq!(left("/root/s", &only).len(), 2);
        assert_eq!(left("/root/s/web/a", &only).len(), 3);
    }

    #[test]
    fn a_file_replaced_by_a_directory_is_deleted_and_a_new_directory_is_no_change() {
        let config = config();
        let (mut known, recent_deletes) = (KeyIndex::default(), RecentDeletes::default());
        let mut fold =
            |json: &str| changes(&config, &under(), &event(json), &mut known, &recent_deletes);
        let file = r#""node":{"key":"/root/s/web/a","value":"1","ttl":5,"createdIndex":7,"modifiedIndex":7}"#;
        let directory = r#""node":{"key":"/root/s/web/a","dir":true,"modifiedIndex":8}"#;
        assert!(fold(&format!(r#"{{"action":"set",{directory}}}"#)).is_empty());
        assert_eq!(fold(&format!(r#"{{"action":"set",{file}}}"#)).len(), 1);
        let over = format!(r#"{{"action":"set",{directory},"prevNode":{{"dir":false}}}}"#);
        let gone = vec![Change::Delete(Key::new("/s/web/a").unwrap())];
        assert_eq!(fold(&over), gone);
        assert_eq!(
            recent_deletes.without_delete(&[7, 8]),
            [8],
            "it was no expiry"
        );
    }

    #[test]
    fn a_file_in_a_directory_with_a_ttl_has_the_same_owner_in_events_and_lists() {
        let config = config();
        let (mut known, recent_deletes) = (KeyIndex::default(), RecentDeletes::default());
        let mut owner = |json: &str| {
            let told = changes(&config, &under(), &event(json), &mut known, &recent_deletes);
            told.iter().find_map(|change| match change {
                Change::Put(node) => Some(node.owner),
                _ => None,
            })
        };
        let directory = |ttl: &str, at: u64| {
            format!(
                r#"{{"action":"update","node":{{"key":"/root/s/web/a","dir":true,{ttl}
                "createdIndex":4,"modifiedIndex":{at}}}}}"#
            )
        };
        let file = |at: u64| {
            format!(
                r#"{{"action":"set","node":{{"key":"/root/s/web/a/service","value":"",
                "createdIndex":{at},"modifiedIndex":{at}}},"prevNode":{{"value":""}}}}"#
            )
        };
        assert_eq!(owner(&directory(r#""ttl":5,"#, 4)), None);
        assert_eq!(owner(&file(5)), Some(4));
        assert_eq!(owner(&directory("", 6)), None);
        assert_eq!(owner(&file(7)), Some(0));
        assert_eq!(owner(&directory(r#""ttl":5,"#, 8)), None);
        assert_eq!(owner(&file(9)), Some(4));
        let gone = event(r#"{"action":"delete","node":{"key":"/root/s/web/a","dir":true}}"#);
        changes(&config, &under(), &gone, &mut known, &recent_deletes);
        assert_eq!(
            recent_deletes.without_delete(&[4, 5]),
            [5],
            "it was no expiry"
        );
        assert_eq!(
            known.directory_of(&Key::new("/s/web/a/service").unwrap()),
            0
        );
    }

    fn tree(json: &str) -> Option<KeyTree> {
        Some(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_tree_is_its_files_which_expire_with_their_directory_or_alone() {
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
}
