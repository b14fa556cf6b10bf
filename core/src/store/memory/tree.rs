//! In-memory tree of keys with revisions and watches.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::pending;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::store::memory::journal::{self, Journal, JournalContent, JournalRecord};
use crate::store::memory::tree_watches::{MAX_LAG, TreeWatches};
use crate::store::replaced;

/// A tree of keys with revisions and watches. Its lock is never held across an await.
#[derive(Default)]
pub(crate) struct Tree {
    state: Mutex<TreeState>,
}

#[derive(Default)]
pub(super) struct TreeState {
    revision: u64,
    grants: u64,
    pub(super) nodes: BTreeMap<Key, StoredNode>,
    /// The keys of each grant.
    grant_keys: HashMap<u64, Vec<Key>>,
    watches: TreeWatches,
    /// Receives each change, if there is a journal.
    pub(super) journal: Option<Journal>,
}

pub(super) struct StoredNode {
    node: Node,
    grant: Option<u64>,
    /// How long the key waits for its owner after a restart.
    ttl: Option<Duration>,
}

/// A transaction: changes with one revision.
pub(crate) struct Edit<'a> {
    state: &'a mut TreeState,
    changes: Vec<Change>,
}

impl Tree {
    pub(super) fn lock(&self) -> MutexGuard<'_, TreeState> {
        // A panic elsewhere leaves the tree consistent: each transaction is applied completely.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a transaction and notifies the watches.
    pub(crate) fn edit<R>(&self, change: impl FnOnce(&mut Edit<'_>) -> R) -> R {
        let mut state = self.lock();
        state.revision += 1;
        let mut edit = Edit {
            state: &mut state,
            changes: Vec::new(),
        };
        let result = change(&mut edit);
        let changes = edit.changes;
        if changes.is_empty() {
            state.revision -= 1;
        } else {
            state.write_journal(&changes);
            let revision = state.revision;
            state.watches.notify(revision, &changes);
        }
        result
    }

    /// Returns the node of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<Node> {
        self.lock().nodes.get(key).map(|stored| stored.node.clone())
    }

    /// Returns the nodes of a scope, sorted by key.
    pub(crate) fn list(&self, scope: &Scope) -> Vec<Node> {
        let state = self.lock();
        state
            .nodes_in(scope)
            .map(|stored| stored.node.clone())
            .collect()
    }

    /// Registers a watch; returns the nodes of the scope and the channel of later changes.
    fn attach(&self, scope: &Scope) -> (Changes, mpsc::Receiver<Changes>) {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(MAX_LAG);
        let keys = state.nodes.len();
        state.watches.add(scope, sender, keys);
        let nodes = state
            .nodes_in(scope)
            .map(|stored| stored.node.clone())
            .collect();
        (
            Changes {
                revision: state.revision,
                changes: vec![Change::Reset(nodes)],
                ..Changes::default()
            },
            receiver,
        )
    }

    /// Returns the current revision without a change, as a sign that a watch is up to date.
    #[cfg(feature = "local")]
    pub(crate) fn no_changes(&self) -> Changes {
        Changes {
            revision: self.lock().revision,
            ..Changes::default()
        }
    }

    /// Watches a scope: emits its nodes, then every change. Never ends.
    pub(crate) fn watch(self: &Arc<Tree>, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        let start = (self.clone(), scope.clone(), None);
        stream::unfold(start, |(tree, scope, receiver)| async move {
            if let Some(mut receiver) = receiver {
                let received: Option<Changes> = mpsc::Receiver::recv(&mut receiver).await;
                if let Some(changes) = received {
                    return Some((Ok(changes), (tree, scope, Some(receiver))));
                }
            }
            // New, or dropped because of its lag: starts with a Reset.
            let (reset, receiver) = tree.attach(&scope);
            Some((Ok(reset), (tree, scope, Some(receiver))))
        })
        .boxed()
    }
}

impl Tree {
    /// Runs `check` at each change of the entries, until it fails; returns the error.
    pub(crate) async fn wait_for_loss(
        self: &Arc<Tree>,
        entries: &[Entry],
        check: impl Fn() -> Result<()>,
    ) -> Error {
        let watch = |entry: &Entry| self.watch(&Scope::Key(entry.key.clone()));
        let mut changes = match entries {
            [only] => watch(only),
            _ => stream::select_all(entries.iter().map(watch)).boxed(),
        };
        // The first item of each watch triggers the first check.
        while changes.next().await.is_some() {
            if let Err(lost) = check() {
                return lost;
            }
        }
        pending().await
    }
}

impl Tree {
    /// Restores the content of a journal. Returns the grant for each TTL, under which keys wait for their
    /// owners.
    pub(super) fn restore(&self, content: JournalContent) -> BTreeMap<Duration, u64> {
        let mut waiting = BTreeMap::new();
        self.edit(|edit| {
            // New keys must be younger than the restored ones.
            edit.state.revision = edit.state.revision.max(content.revision + 1);
            for (key, record) in content.records {
                let grant = record.ttl.map(|ttl| {
                    let next = edit.state.grants + 1;
                    let grant = *waiting.entry(ttl).or_insert(next);
                    edit.state.grants = edit.state.grants.max(grant);
                    grant
                });
                edit.put(&key, &record.value, Some(record.created), grant);
                if let Some(stored) = edit.state.nodes.get_mut(&key) {
                    stored.ttl = record.ttl;
                }
            }
        });
        waiting
    }
}

impl TreeState {
    fn nodes_in<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a StoredNode> {
        let from = match scope {
            Scope::Prefix(prefix) => prefix.as_str(),
            Scope::Key(key) => key.as_str(),
        };
        // Keys are sorted, so those of a scope are adjacent.
        let after = self
            .nodes
            .range::<str, _>((Bound::Included(from), Bound::Unbounded));
        after
            .map(|(_, stored)| stored)
            .take_while(|stored| scope.contains(&stored.node.key))
    }

    fn write_journal(&mut self, changes: &[Change]) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let mut lines = journal::revision(self.revision);
        for change in changes {
            match change {
                Change::Put(Node { key, .. }) => {
                    if let Some(StoredNode { node, ttl, .. }) = self.nodes.get(key) {
                        lines += &journal::put(key, &node.value, node.created, *ttl);
                    }
                }
                Change::Delete(key) => lines += &journal::delete(key),
                Change::Reset(_) => {}
            }
        }
        journal.write(&lines);
        if journal.is_long(self.nodes.len()) {
            let record = |(key, stored): (&Key, &StoredNode)| (key.clone(), stored.record());
            journal.rewrite(&JournalContent {
                revision: self.revision,
                records: self.nodes.iter().map(record).collect(),
            });
        }
    }
}

impl StoredNode {
    fn record(&self) -> JournalRecord {
        JournalRecord {
            value: self.node.value.to_vec(),
            created: self.node.created,
            ttl: self.ttl,
        }
    }
}

impl TreeState {
    /// Moves a key from one grant to another.
    fn move_key(&mut self, key: &Key, from: Option<u64>, to: Option<u64>) {
        if from == to {
            return;
        }
        if let Some(grant) = from
            && let Some(keys) = self.grant_keys.get_mut(&grant)
        {
            keys.retain(|stored| stored != key);
            if keys.is_empty() {
                self.grant_keys.remove(&grant);
            }
        }
        if let Some(grant) = to {
            self.grant_keys.entry(grant).or_default().push(key.clone());
        }
    }
}

impl Edit<'_> {
    /// Returns an id that no other grant of this tree has.
    pub(super) fn new_grant(&mut self) -> u64 {
        self.state.grants += 1;
        self.state.grants
    }

    /// Writes a node. An existing key keeps its age unless `created` is given; an unchanged value emits no
    /// event.
    pub(crate) fn put(
        &mut self,
        key: &Key,
        value: &[u8],
        created: Option<u64>,
        grant: Option<u64>,
    ) {
        let old = self.state.nodes.get(key);
        let before = old.as_ref().and_then(|stored| stored.grant);
        let age = old.map_or(self.state.revision, |stored| stored.node.created);
        self.state.move_key(key, before, grant);
        let old = self.state.nodes.get_mut(key);
        let created = created.unwrap_or(age);
        if let Some(stored) = old
            && *stored.node.value == *value
            && stored.node.created == created
        {
            stored.grant = grant;
            return;
        }
        let node = Node {
            key: key.clone(),
            value: value.into(),
            created,
            modified: self.state.revision,
            owner: grant.unwrap_or(0),
        };
        self.changes.push(Change::Put(node.clone()));
        let ttl = None;
        let stored = StoredNode { node, grant, ttl };
        self.state.nodes.insert(key.clone(), stored);
    }

    /// Deletes a node if it exists.
    pub(crate) fn delete(&mut self, key: &Key) {
        if let Some(stored) = self.state.nodes.remove(key) {
            self.state.move_key(key, stored.grant, None);
            self.changes.push(Change::Delete(key.clone()));
        }
    }

    pub(super) fn write(&mut self, entries: &[Entry], grant: u64, ttl: Duration) {
        for Entry { key, value, .. } in entries {
            self.put(key, value, None, Some(grant));
            if let Some(stored) = self.state.nodes.get_mut(key) {
                stored.ttl = Some(ttl);
            }
        }
    }

    /// Writes a persistent key if it is unchanged since it was read; returns whether it did.
    pub(super) fn put_if_unchanged(&mut self, entry: &Entry, seen: Option<&Node>) -> bool {
        let now = self.state.nodes.get(&entry.key);
        let unchanged = now.map(|stored| stored.node.modified) == seen.map(|node| node.modified);
        if unchanged {
            self.put(&entry.key, &entry.value, None, None);
        }
        unchanged
    }

    /// Checks that the grant owns all entries.
    pub(super) fn check(&self, entries: &[Entry], grant: u64) -> Result<()> {
        for Entry { key, .. } in entries {
            match self.state.nodes.get(key).map(|stored| stored.grant) {
                Some(Some(holder)) if holder == grant => {}
                Some(Some(_)) => {
                    return Err(replaced(key));
                }
                _ => return Err(Error::new(ErrorKind::LeaseLost, format!("{key} is gone"))),
            }
        }
        Ok(())
    }

    /// Checks that no grant except `ours` owns one of the entries.
    pub(super) fn check_free(&self, entries: &[Entry], ours: impl Fn(u64) -> bool) -> Result<()> {
        let foreign = |entry: &&Entry| {
            let holder = self
                .state
                .nodes
                .get(&entry.key)
                .and_then(|stored| stored.grant);
            holder.is_some_and(|holder| !ours(holder))
        };
        match entries.iter().find(foreign) {
            Some(Entry { key, .. }) => Err(replaced(key)),
            None => Ok(()),
        }
    }

    pub(super) fn end_grant(&mut self, grant: u64) {
        let mut keys = self.state.grant_keys.remove(&grant).unwrap_or_default();
        keys.sort_unstable();
        keys.iter().for_each(|key| self.delete(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Prefix;

    fn scope() -> Scope {
        Scope::Prefix(Prefix::new("/s").unwrap())
    }

    fn key(name: &str) -> Key {
        Key::new(&format!("/s/{name}")).unwrap()
    }

    #[tokio::test]
    async fn a_lagging_watch_is_reset_to_the_current_state() {
        let tree = Arc::new(Tree::default());
        let mut watch = tree.watch(&scope());
        assert_eq!(
            watch.next().await.unwrap().unwrap().changes,
            [Change::Reset(vec![])]
        );
        for i in 0..MAX_LAG + 2 {
            tree.edit(|edit| edit.put(&key("a"), i.to_string().as_bytes(), None, None));
        }
        let mut last = None;
        for _ in 0..=MAX_LAG {
            last = watch.next().await;
        }
        let Change::Reset(nodes) = &last.unwrap().unwrap().changes[0] else {
            panic!("no reset")
        };
        assert_eq!(&*nodes[0].value, (MAX_LAG + 1).to_string().as_bytes());
        assert_eq!(nodes[0].created, 1, "age survives rewrites");
    }

    #[tokio::test]
    async fn a_transaction_is_one_item_and_an_unchanged_value_is_none() {
        let tree = Arc::new(Tree::default());
        let mut watch = tree.watch(&scope());
        watch.next().await;
        tree.edit(|edit| edit.put(&key("a"), b"1", None, None));
        tree.edit(|edit| edit.put(&key("a"), b"1", None, None));
        tree.edit(|edit| {
            edit.put(&key("b"), b"2", None, None);
            edit.delete(&key("a"));
        });
        assert_eq!(watch.next().await.unwrap().unwrap().changes.len(), 1);
        let both = watch.next().await.unwrap().unwrap();
        assert_eq!((both.revision, both.changes.len()), (2, 2));
    }

    #[tokio::test]
    async fn a_watch_of_a_key_receives_its_changes_of_a_transaction_together_and_no_others() {
        let tree = Arc::new(Tree::default());
        let mut watch = tree.watch(&Scope::Key(key("b")));
        watch.next().await;
        tree.edit(|edit| {
            edit.put(&key("b"), b"1", None, None);
            edit.put(&key("a"), b"1", None, None);
            edit.delete(&key("b"));
        });
        tree.edit(|edit| edit.put(&key("b"), b"2", None, None));
        let told = watch.next().await.unwrap().unwrap().changes;
        let [Change::Put(put), Change::Delete(deleted)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((&put.key, deleted), (&key("b"), &key("b")));
        assert_eq!(watch.next().await.unwrap().unwrap().changes.len(), 1);
    }
}
