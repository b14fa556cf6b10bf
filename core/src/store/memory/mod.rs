//! A tree in this process: the store behind `memory://NAME`, and the mirror inside `local://`.

mod journal;
mod tree;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::BoxStream;

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::{generation, hold_forks};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{Grant, OnConflict};
use crate::store::{Store, Terms};
use journal::Journal;
use tree::Edit;

pub(crate) use tree::Tree;

/// For how long at least what was held before a restart waits for its owner, who must notice first.
const LEFT: Duration = Duration::from_secs(3);

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
        // A forked child begins anew: what it inherits is its parent's.
        let name = (generation(), name.to_owned());
        let tree = hold_forks(|| {
            let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
            let trees = trees.get_or_insert_with(HashMap::new);
            trees.retain(|_, tree| tree.strong_count() > 0);
            let tree = trees.get(&name).and_then(Weak::upgrade).unwrap_or_default();
            trees.insert(name, Arc::downgrade(&tree));
            tree
        });
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
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
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

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        ready(Ok(self.tree.get(key))).boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        ready(Ok(self.tree.list(scope))).boxed()
    }

    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>> {
        let mut grants = self.grants();
        let create = |edit: &mut Edit<'_>| {
            if terms.claim == OnConflict::RestoreOnly {
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

    fn put<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Node>) -> BoxFuture<'a, Result<bool>> {
        let put = |edit: &mut Edit<'_>| edit.put_if_unchanged(entry, seen);
        ready(Ok(self.tree.edit(put))).boxed()
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

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
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
    use crate::kv::{Change, Lifetime, Prefix};
    use futures_util::StreamExt;

    fn scope() -> Scope {
        Scope::Under(Prefix::new("/s").unwrap())
    }

    fn key(name: &str) -> Key {
        Key::new(&format!("/s/{name}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_down_is_there_again_as_old_as_it_was_and_waits_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let terms = Terms {
            ttl: Duration::from_secs(3),
            claim: OnConflict::Replace,
            dedicated: false,
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
}
