//! Store in the memory of this process, for `memory://NAME`; also the mirror of the files of `local://`.

mod journal;
mod tree;
mod tree_watches;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::BoxStream;
use once_cell::sync::Lazy;

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::{generation, hold_forks};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{Grant, OnConflict};
use crate::store::{Store, Terms};
use journal::Journal;
use tree::Edit;

pub(crate) use tree::Tree;

/// Minimum time that a restored key waits for its owner, which must notice the restart first.
const MIN_RESTORE_WAIT: Duration = Duration::from_secs(3);

/// The store of one client. Its entries are deleted when it is dropped.
pub(crate) struct MemoryStore {
    tree: Arc<Tree>,
    grants: Mutex<HashSet<u64>>,
}

impl MemoryStore {
    /// Opens the tree that all clients of this process share under `name`.
    pub(crate) fn open(name: &str) -> MemoryStore {
        // A global, so that `memory://NAME` is one tree for all clients of the process. Weak, so that the
        // tree ends with its last client.
        type Trees = HashMap<(u32, String), Weak<Tree>>;
        static TREES: Lazy<Mutex<Trees>> = Lazy::new(Mutex::default);
        // A forked child process has trees of its own.
        let name = (generation(), name.to_owned());
        let tree = hold_forks(|| {
            let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Opens the tree with a journal file, from which it is restored. Restored keys wait for their owners
    /// for their TTL. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] if the file cannot be used.
    pub(crate) fn open_with_state(name: &str, path: &Path) -> Result<MemoryStore> {
        let store = MemoryStore::open(name);
        if store.tree.lock().journal.is_some() {
            return Ok(store);
        }
        let (journal, content) = Journal::open(path).map_err(|e| {
            let text = format!("option state: cannot use the file {}", path.display());
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })?;
        let waiting = store.tree.restore(content);
        store.tree.lock().journal = Some(journal);
        for (ttl, grant) in waiting {
            let tree = Arc::downgrade(&store.tree);
            tokio::spawn(async move {
                tokio::time::sleep(ttl.max(MIN_RESTORE_WAIT)).await;
                if let Some(tree) = tree.upgrade() {
                    tree.edit(|edit| edit.end_grant(grant));
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
            .edit(|edit| grants.iter().for_each(|grant| edit.end_grant(*grant)));
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
            if terms.on_conflict == OnConflict::RestoreOnly {
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
        self.tree.wait_for_loss(entries, check).boxed()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.tree.edit(|edit| edit.end_grant(grant.id));
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
    use crate::kv::{Change, Prefix};
    use futures_util::StreamExt;

    fn scope() -> Scope {
        Scope::Prefix(Prefix::new("/s").unwrap())
    }

    fn key(name: &str) -> Key {
        Key::new(&format!("/s/{name}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn journaled_keys_are_restored_with_their_age_and_wait_for_their_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let terms = Terms {
            ttl: Duration::from_secs(3),
            on_conflict: OnConflict::Replace,
            dedicated: false,
        };
        let entry = |name: &str| Entry::leased(key(name), "1");
        let first = MemoryStore::open_with_state("state-1", &path).unwrap();
        first.create(&[entry("a")], terms).await.unwrap();
        first.create(&[entry("b")], terms).await.unwrap();
        // Simulates a killed process: nothing is dropped.
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
        // The owner of one key returns without an event; the owner of the other does not return.
        again.create(&[entry("a")], terms).await.unwrap();
        let gone = watch.next().await.unwrap().unwrap();
        assert_eq!(gone.changes, [Change::Delete(key("b"))]);
        assert!(again.tree.lock().nodes.contains_key(&key("a")));
    }
}
