//! A tree in this process: the store behind `memory://NAME`, and the mirror inside `local://`.

mod journal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};
use crate::model::{Claim, Grant};
use crate::store::{Store, Terms};
use crate::sys::generation;
use crate::tree::{Change, Changes, Entry, Key, Lifetime, Node, Scope};
use journal::{Journal, Kept, Record};

/// How many changes a watcher may be behind before it is given a Reset instead.
const BACKLOG: usize = 1024;

/// For how long at least what was held before a restart waits for its owner, who must notice first.
const LEFT: Duration = Duration::from_secs(3);

/// A tree with revisions and watchers. No lock is held while anything waits.
#[derive(Default)]
pub(crate) struct Tree {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    grants: u64,
    nodes: BTreeMap<Key, Held>,
    watchers: Vec<(Scope, mpsc::Sender<Changes>)>,
    /// Where each change is written down, if anywhere.
    journal: Option<Journal>,
}

struct Held {
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
    fn lock(&self) -> MutexGuard<'_, State> {
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

    /// The current nodes in `scope` and the changes from there on.
    fn attach(&self, scope: &Scope) -> (Changes, mpsc::Receiver<Changes>) {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        state.watchers.retain(|(_, sender)| !sender.is_closed());
        state.watchers.push((scope.clone(), sender));
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
    /// Looks at each change of the leased entries whether they are still held, until they are not.
    pub(crate) async fn guard(
        self: &Arc<Tree>,
        entries: &[Entry],
        check: impl Fn() -> Result<()>,
    ) -> Error {
        let leased = entries
            .iter()
            .filter(|entry| entry.lifetime == Lifetime::Leased);
        let watch = |entry: &Entry| self.watch(&Scope::Only(entry.key.clone()));
        let mut changes = stream::select_all(leased.map(watch));
        loop {
            if let Err(lost) = check() {
                return lost;
            }
            if changes.next().await.is_none() {
                return pending().await;
            }
        }
    }
}

impl Tree {
    /// Takes in what was kept; gives the grants that stand for owners who are away, and for how long.
    fn restore(&self, kept: Kept) -> BTreeMap<Duration, u64> {
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
    fn inside<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Held> {
        self.nodes.values().filter(|held| scope.has(&held.node.key))
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
        self.watchers.retain(|(scope, sender)| {
            let theirs = |change: &&Change| match change {
                Change::Reset(_) => false,
                Change::Put(node) => scope.has(&node.key),
                Change::Delete(key) => scope.has(key),
            };
            let changes: Vec<Change> = changes.iter().filter(theirs).cloned().collect();
            if changes.is_empty() {
                return !sender.is_closed();
            }
            let changes = Changes {
                revision,
                changes,
                ..Changes::default()
            };
            sender.try_send(changes).is_ok()
        });
    }
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

impl Edit<'_> {
    /// A number that no other grant of this tree has.
    fn new_grant(&mut self) -> u64 {
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
        let old = self.state.nodes.get_mut(key);
        let age = old
            .as_ref()
            .map_or(self.state.revision, |held| held.node.created);
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
        if self.state.nodes.remove(key).is_some() {
            self.changes.push(Change::Delete(key.clone()));
        }
    }

    fn write(&mut self, entries: &[Entry], grant: u64, ttl: Duration) {
        for Entry {
            key,
            value,
            lifetime,
        } in entries
        {
            let leased = *lifetime == Lifetime::Leased;
            self.put(key, value, None, leased.then_some(grant));
            if let Some(held) = self.state.nodes.get_mut(key) {
                held.ttl = leased.then_some(ttl);
            }
        }
    }

    /// Whether `grant` still holds all leased entries.
    fn check(&self, entries: &[Entry], grant: u64) -> Result<()> {
        for Entry { key, .. } in entries.iter().filter(|e| e.lifetime == Lifetime::Leased) {
            match self.state.nodes.get(key).map(|held| held.grant) {
                Some(Some(holder)) if holder == grant => {}
                Some(Some(_)) => {
                    return Err(replaced(key));
                }
                _ => return Err(Error::new(Kind::LeaseLost, format!("{key} is gone"))),
            }
        }
        Ok(())
    }

    /// Whether nobody but the holders of our grants is there.
    fn check_free(&self, entries: &[Entry], ours: impl Fn(u64) -> bool) -> Result<()> {
        let foreign = |entry: &&Entry| {
            let holder = self.state.nodes.get(&entry.key).and_then(|held| held.grant);
            holder.is_some_and(|holder| !ours(holder))
        };
        match entries.iter().find(foreign) {
            Some(Entry { key, .. }) => Err(replaced(key)),
            None => Ok(()),
        }
    }

    fn end(&mut self, grant: u64) {
        let held = |(key, held): (&Key, &Held)| (held.grant == Some(grant)).then(|| key.clone());
        let keys: Vec<Key> = self.state.nodes.iter().filter_map(held).collect();
        keys.iter().for_each(|key| self.delete(key));
    }
}

/// The error of who has lost a key to another owner.
pub(crate) fn replaced(key: &Key) -> Error {
    Error::new(Kind::Replaced, format!("{key} has another owner now"))
}

/// The store of one client. What it registered goes when it is dropped, as a process's would.
pub(crate) struct MemoryStore {
    tree: Arc<Tree>,
    grants: Mutex<HashSet<u64>>,
}

impl MemoryStore {
    /// The tree that all clients of this process share under `name`.
    pub(crate) fn open(name: &str) -> MemoryStore {
        // The one global of the core besides the log: `memory://NAME` means the same tree to every
        // client of the process. Weak, so a tree goes with its last client.
        type Trees = HashMap<(u32, String), Weak<Tree>>;
        static TREES: Mutex<Option<Trees>> = Mutex::new(None);
        let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
        let trees = trees.get_or_insert_with(HashMap::new);
        trees.retain(|_, tree| tree.strong_count() > 0);
        // A forked child begins anew: what it inherits is its parent's.
        let name = (generation(), name.to_owned());
        let tree = trees.get(&name).and_then(Weak::upgrade).unwrap_or_default();
        trees.insert(name, Arc::downgrade(&tree));
        MemoryStore {
            tree,
            grants: Mutex::default(),
        }
    }

    /// The same, with what it holds written down in a file, from which it begins. What was held for
    /// owners is kept for their TTL, so that they find it again. Must be called on a tokio runtime.
    pub(crate) fn open_with_state(name: &str, path: &Path) -> Result<MemoryStore> {
        let store = MemoryStore::open(name);
        if store.tree.lock().journal.is_some() {
            return Ok(store);
        }
        let (journal, kept) = Journal::open(path).map_err(|e| {
            let text = format!("option state: cannot use the file {}", path.display());
            Error::caused_by(Kind::InvalidArgument, text, e)
        })?;
        let left = store.tree.restore(kept);
        store.tree.lock().journal = Some(journal);
        for (ttl, grant) in left {
            let tree = Arc::downgrade(&store.tree);
            tokio::spawn(async move {
                tokio::time::sleep(ttl.max(LEFT)).await;
                if let Some(tree) = tree.upgrade() {
                    tree.edit(|edit| edit.end(grant));
                }
            });
        }
        Ok(store)
    }

    fn grants(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let grants = std::mem::take(&mut *self.grants());
        self.tree
            .edit(|edit| grants.iter().for_each(|grant| edit.end(*grant)));
    }
}

impl Store for MemoryStore {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>> {
        let mut grants = self.grants();
        let create = |edit: &mut Edit<'_>| {
            if terms.claim == Claim::PutBack {
                edit.check_free(entries, |holder| grants.contains(&holder))?;
            }
            let grant = edit.new_grant();
            edit.write(entries, grant, terms.ttl);
            Ok(grant)
        };
        let created = self.tree.edit(create);
        if let Ok(id) = created {
            grants.insert(id);
        }
        ready(created.map(|id| Grant { id, ttl: terms.ttl })).boxed()
    }

    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        ready(self.tree.edit(|edit| edit.check(entries, grant.id))).boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        let write = |edit: &mut Edit<'_>| {
            edit.check(entries, grant.id)?;
            edit.write(entries, grant.id, grant.ttl);
            Ok(())
        };
        ready(self.tree.edit(write)).boxed()
    }

    fn guard<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        let check = move || self.tree.edit(|edit| edit.check(entries, grant.id));
        self.tree.guard(entries, check).boxed()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.tree.edit(|edit| edit.end(grant.id));
        self.grants().remove(&grant.id);
        ready(Ok(())).boxed()
    }

    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        self.tree.watch(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Prefix;

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

    #[tokio::test(start_paused = true)]
    async fn what_was_written_down_is_there_again_as_old_as_it_was_and_waits_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let terms = Terms {
            ttl: Duration::from_secs(3),
            claim: Claim::TakeOver,
            alone: false,
        };
        let entry = |name: &str| Entry {
            key: key(name),
            value: b"1".to_vec(),
            lifetime: Lifetime::Leased,
        };
        let first = MemoryStore::open_with_state("state-1", &path).unwrap();
        first.create(&[entry("a")], terms).await.unwrap();
        first.create(&[entry("b")], terms).await.unwrap();
        // Killed: nothing of it is dropped.
        std::mem::forget(first);
        let again = MemoryStore::open_with_state("state-2", &path).unwrap();
        let mut watch = again.watch(&scope());
        let begin = watch.next().await.unwrap().unwrap();
        let Change::Reset(nodes) = &begin.changes[0] else {
            panic!("no reset")
        };
        let created: Vec<u64> = nodes.iter().map(|node| node.created).collect();
        assert_eq!(created, [1, 2]);
        assert!(begin.revision > 2);
        // The owner of one comes back, and nobody is told; that of the other does not.
        again.create(&[entry("a")], terms).await.unwrap();
        let gone = watch.next().await.unwrap().unwrap();
        assert_eq!(gone.changes, [Change::Delete(key("b"))]);
        assert!(again.tree.lock().nodes.contains_key(&key("a")));
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
}
