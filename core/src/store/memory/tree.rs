//! A tree of keys in this process, with revisions and watchers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::pending;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::store::memory::journal::{self, Journal, Kept, Record};
use crate::store::replaced;

/// How many changes a watcher may be behind before it is given a Reset instead.
const BACKLOG: usize = 1024;

/// A tree with revisions and watchers. No lock is held while anything waits.
#[derive(Default)]
pub(crate) struct Tree {
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    revision: u64,
    grants: u64,
    pub(super) nodes: BTreeMap<Key, Held>,
    /// What each grant holds, so that its end looks at nothing else.
    granted: HashMap<u64, Vec<Key>>,
    /// Those of folders.
    watchers: Vec<(Scope, mpsc::Sender<Changes>)>,
    /// Those of single keys: each registration has one, so they are found without a walk.
    of_keys: HashMap<Key, Vec<mpsc::Sender<Changes>>>,
    /// Where each change is written down, if anywhere.
    pub(super) journal: Option<Journal>,
}

pub(super) struct Held {
    node: Node,
    grant: Option<u64>,
    /// For how long it is kept for an owner who comes back after a restart.
    ttl: Option<Duration>,
}

/// Changes being made at one revision.
pub(crate) struct Edit<'a> {
    state: &'a mut State,
    changes: Vec<Change>,
}

impl Tree {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere does not make the tree wrong: each edit is applied whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes that become visible together, and tells the watchers.
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
            state.write_down(&changes);
            state.tell(&changes);
        }
        result
    }

    /// Returns the node of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<Node> {
        self.lock().nodes.get(key).map(|held| held.node.clone())
    }

    /// Returns the nodes of a scope, sorted by key.
    pub(crate) fn list(&self, scope: &Scope) -> Vec<Node> {
        let state = self.lock();
        state.inside(scope).map(|held| held.node.clone()).collect()
    }

    /// The current nodes in `scope` and the changes from there on.
    fn attach(&self, scope: &Scope) -> (Changes, mpsc::Receiver<Changes>) {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        state.admit(scope, sender);
        let nodes = state.inside(scope).map(|held| held.node.clone()).collect();
        (
            Changes {
                revision: state.revision,
                changes: vec![Change::Reset(nodes)],
                ..Changes::default()
            },
            receiver,
        )
    }

    /// What is in `scope`, then what changes; never ends.
    pub(crate) fn watch(self: &Arc<Tree>, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        let start = (self.clone(), scope.clone(), None);
        stream::unfold(start, |(tree, scope, receiver)| async move {
            if let Some(mut receiver) = receiver {
                let received: Option<Changes> = mpsc::Receiver::recv(&mut receiver).await;
                if let Some(changes) = received {
                    return Some((Ok(changes), (tree, scope, Some(receiver))));
                }
            }
            // New here, or so far behind that the tree let go of us: start again from the whole.
            let (reset, receiver) = tree.attach(&scope);
            Some((Ok(reset), (tree, scope, Some(receiver))))
        })
        .boxed()
    }
}

impl Tree {
    /// Looks at each change of the entries whether they are still held, until they are not.
    pub(crate) async fn guard(
        self: &Arc<Tree>,
        entries: &[Entry],
        check: impl Fn() -> Result<()>,
    ) -> Error {
        let watch = |entry: &Entry| self.watch(&Scope::Only(entry.key.clone()));
        let mut changes = match entries {
            [only] => watch(only),
            _ => stream::select_all(entries.iter().map(watch)).boxed(),
        };
        // The first of each says what is there: that is when to look for the first time.
        while changes.next().await.is_some() {
            if let Err(lost) = check() {
                return lost;
            }
        }
        pending().await
    }
}

impl Tree {
    /// Takes in what was kept; gives the grants that stand for owners who are away, and for how long.
    pub(super) fn restore(&self, kept: Kept) -> BTreeMap<Duration, u64> {
        let mut left = BTreeMap::new();
        self.edit(|edit| {
            // What is made from here on is younger than all that was.
            edit.state.revision = edit.state.revision.max(kept.revision + 1);
            for (key, record) in kept.records {
                let grant = record.ttl.map(|ttl| {
                    let next = edit.state.grants + 1;
                    let grant = *left.entry(ttl).or_insert(next);
                    edit.state.grants = edit.state.grants.max(grant);
                    grant
                });
                edit.put(&key, &record.value, Some(record.created), grant);
                if let Some(held) = edit.state.nodes.get_mut(&key) {
                    held.ttl = record.ttl;
                }
            }
        });
        left
    }
}

impl State {
    fn admit(&mut self, scope: &Scope, sender: mpsc::Sender<Changes>) {
        match scope {
            Scope::Under(_) => {
                self.watchers.retain(|(_, sender)| !sender.is_closed());
                self.watchers.push((scope.clone(), sender));
            }
            Scope::Only(key) => {
                // KeyRevisions that were watched once and never written again are let go of now and then.
                if self.of_keys.len() > 2 * self.nodes.len() + 1024 {
                    self.of_keys.retain(|_, senders| {
                        senders.retain(|sender| !sender.is_closed());
                        !senders.is_empty()
                    });
                }
                let senders = self.of_keys.entry(key.clone()).or_default();
                senders.retain(|sender| !sender.is_closed());
                senders.push(sender);
            }
        }
    }

    fn inside<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Held> {
        let from = match scope {
            Scope::Under(prefix) => prefix.as_str(),
            Scope::Only(key) => key.as_str(),
        };
        // KeyRevisions are in order, so those of a scope stand together.
        let after = self
            .nodes
            .range::<str, _>((Bound::Included(from), Bound::Unbounded));
        after
            .map(|(_, held)| held)
            .take_while(|held| scope.has(&held.node.key))
    }

    fn write_down(&mut self, changes: &[Change]) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let mut lines = journal::revision(self.revision);
        for change in changes {
            match change {
                Change::Put(Node { key, .. }) => {
                    if let Some(Held { node, ttl, .. }) = self.nodes.get(key) {
                        lines += &journal::put(key, &node.value, node.created, *ttl);
                    }
                }
                Change::Delete(key) => lines += &journal::delete(key),
                Change::Reset(_) => {}
            }
        }
        journal.write(&lines);
        if journal.is_long(self.nodes.len()) {
            let record = |(key, held): (&Key, &Held)| (key.clone(), held.record());
            journal.renew(&Kept {
                revision: self.revision,
                records: self.nodes.iter().map(record).collect(),
            });
        }
    }

    fn tell(&mut self, changes: &[Change]) {
        let revision = self.revision;
        let keyed = || changes.iter().filter_map(|c| Some((key_of(c)?, c)));
        self.watchers.retain(|(scope, sender)| {
            let theirs = keyed().filter(|(key, _)| scope.has(key));
            pass_on(revision, theirs.map(|(_, change)| change.clone()), sender)
        });
        // Those of one key together, and in their order: the end of a client deletes all that it held at
        // once, and each of its keys is watched.
        let mut keyed: Vec<(&Key, &Change)> = keyed().collect();
        keyed.sort_by_key(|(key, _)| *key);
        for same in keyed.chunk_by(|(one, _), (other, _)| one == other) {
            let key = same[0].0;
            let Some(senders) = self.of_keys.get_mut(key) else {
                continue;
            };
            let theirs = same.iter().map(|(_, change)| (*change).clone());
            senders.retain(|sender| pass_on(revision, theirs.clone(), sender));
            if senders.is_empty() {
                self.of_keys.remove(key);
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

/// Tells one watcher what concerns it; false when it is to be let go of.
fn pass_on(
    revision: u64,
    theirs: impl Iterator<Item = Change>,
    sender: &mpsc::Sender<Changes>,
) -> bool {
    let changes: Vec<Change> = theirs.collect();
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

impl Held {
    fn record(&self) -> Record {
        Record {
            value: self.node.value.to_vec(),
            created: self.node.created,
            ttl: self.ttl,
        }
    }
}

impl State {
    /// Notes that a key went from one grant to another.
    fn hand(&mut self, key: &Key, from: Option<u64>, to: Option<u64>) {
        if from == to {
            return;
        }
        if let Some(grant) = from
            && let Some(keys) = self.granted.get_mut(&grant)
        {
            keys.retain(|held| held != key);
            if keys.is_empty() {
                self.granted.remove(&grant);
            }
        }
        if let Some(grant) = to {
            self.granted.entry(grant).or_default().push(key.clone());
        }
    }
}

impl Edit<'_> {
    /// A number that no other grant of this tree has.
    pub(super) fn new_grant(&mut self) -> u64 {
        self.state.grants += 1;
        self.state.grants
    }

    /// Writes a node. Age survives a rewrite unless `created` says otherwise; the same value is silent.
    pub(crate) fn put(
        &mut self,
        key: &Key,
        value: &[u8],
        created: Option<u64>,
        grant: Option<u64>,
    ) {
        let old = self.state.nodes.get(key);
        let before = old.as_ref().and_then(|held| held.grant);
        let age = old.map_or(self.state.revision, |held| held.node.created);
        self.state.hand(key, before, grant);
        let old = self.state.nodes.get_mut(key);
        let created = created.unwrap_or(age);
        if let Some(held) = old
            && *held.node.value == *value
            && held.node.created == created
        {
            held.grant = grant;
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
        let held = Held { node, grant, ttl };
        self.state.nodes.insert(key.clone(), held);
    }

    /// Deletes a node, if it is there.
    pub(crate) fn delete(&mut self, key: &Key) {
        if let Some(held) = self.state.nodes.remove(key) {
            self.state.hand(key, held.grant, None);
            self.changes.push(Change::Delete(key.clone()));
        }
    }

    pub(super) fn write(&mut self, entries: &[Entry], grant: u64, ttl: Duration) {
        for Entry { key, value, .. } in entries {
            self.put(key, value, None, Some(grant));
            if let Some(held) = self.state.nodes.get_mut(key) {
                held.ttl = Some(ttl);
            }
        }
    }

    /// Writes what stays, if nobody did since it was seen; says whether.
    pub(super) fn put_if_unchanged(&mut self, entry: &Entry, seen: Option<&Node>) -> bool {
        let now = self.state.nodes.get(&entry.key);
        let unchanged = now.map(|held| held.node.modified) == seen.map(|node| node.modified);
        if unchanged {
            self.put(&entry.key, &entry.value, None, None);
        }
        unchanged
    }

    /// Whether `grant` still holds all entries.
    pub(super) fn check(&self, entries: &[Entry], grant: u64) -> Result<()> {
        for Entry { key, .. } in entries {
            match self.state.nodes.get(key).map(|held| held.grant) {
                Some(Some(holder)) if holder == grant => {}
                Some(Some(_)) => {
                    return Err(replaced(key));
                }
                _ => return Err(Error::new(ErrorKind::LeaseLost, format!("{key} is gone"))),
            }
        }
        Ok(())
    }

    /// Whether nobody but the holders of our grants is there.
    pub(super) fn check_free(&self, entries: &[Entry], ours: impl Fn(u64) -> bool) -> Result<()> {
        let foreign = |entry: &&Entry| {
            let holder = self.state.nodes.get(&entry.key).and_then(|held| held.grant);
            holder.is_some_and(|holder| !ours(holder))
        };
        match entries.iter().find(foreign) {
            Some(Entry { key, .. }) => Err(replaced(key)),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self, grant: u64) {
        let mut keys = self.state.granted.remove(&grant).unwrap_or_default();
        keys.sort_unstable();
        keys.iter().for_each(|key| self.delete(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Prefix;

    fn scope() -> Scope {
        Scope::Under(Prefix::new("/s").unwrap())
    }

    fn key(name: &str) -> Key {
        Key::new(&format!("/s/{name}")).unwrap()
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_reset_to_the_truth() {
        let tree = Arc::new(Tree::default());
        let mut watch = tree.watch(&scope());
        assert_eq!(
            watch.next().await.unwrap().unwrap().changes,
            [Change::Reset(vec![])]
        );
        for i in 0..BACKLOG + 2 {
            tree.edit(|edit| edit.put(&key("a"), i.to_string().as_bytes(), None, None));
        }
        let mut last = None;
        for _ in 0..=BACKLOG {
            last = watch.next().await;
        }
        let Change::Reset(nodes) = &last.unwrap().unwrap().changes[0] else {
            panic!("no reset")
        };
        assert_eq!(&*nodes[0].value, (BACKLOG + 1).to_string().as_bytes());
        assert_eq!(nodes[0].created, 1, "age survives rewrites");
    }

    #[tokio::test]
    async fn an_edit_is_one_item_and_silence_is_none() {
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
    async fn who_watches_a_key_is_told_its_changes_of_an_edit_together_and_no_others() {
        let tree = Arc::new(Tree::default());
        let mut watch = tree.watch(&Scope::Only(key("b")));
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
