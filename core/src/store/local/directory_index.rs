//! What is in the directory, mirrored as a tree. Where several files hold one key, because a new owner
//! took it over or an update is under way, the newest counts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::BoxStream;

use crate::error::{Error, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::store::local::entry_file::{self, ProbeResult, Record, failed};
use crate::store::memory::Tree;

/// See the module.
pub(super) struct DirectoryIndex {
    directory: PathBuf,
    tree: Arc<Tree>,
    files: Mutex<Files>,
}

/// What a look at a file found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there, and its owner lives.
    Alive,
    /// It is not there any more, or was none of ours.
    Gone,
    /// It could not be looked at: out of descriptors, perhaps. ProbeResult again.
    Unreadable,
}

#[derive(Default)]
struct Files {
    records: HashMap<String, Record>,
    /// The files of each key, by serial and name; the last one counts.
    of_key: HashMap<Key, BTreeSet<(u64, String)>>,
    /// Those that we have written, until the kernel tells us of that.
    untold: HashSet<String>,
}

impl DirectoryIndex {
    pub(super) fn new(directory: PathBuf) -> DirectoryIndex {
        DirectoryIndex {
            directory,
            tree: Arc::default(),
            files: Mutex::default(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks at each change of the entries whether they are still held, until they are not.
    pub(super) async fn guard(&self, entries: &[Entry], check: impl Fn() -> Result<()>) -> Error {
        self.tree.guard(entries, check).await
    }

    /// Reads one key, after a look at the files that the kernel has not reported yet.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Node>> {
        self.catch_up()?;
        Ok(self.tree.get(key))
    }

    /// Reads the keys of a scope, after a look at the files that the kernel has not reported yet.
    pub(super) fn list(&self, scope: &Scope) -> Result<Vec<Node>> {
        self.catch_up()?;
        Ok(self.tree.list(scope))
    }

    /// Begins with all that was registered before the call, told by the kernel or not yet.
    pub(super) fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        if let Err(error) = self.catch_up() {
            tracing::warn!(backend = "local", error = %error.report(), "cannot scan the directory, retrying");
        }
        self.tree.watch(scope)
    }

    /// Whether somebody else than the holder of these serials lives at `key`.
    pub(super) fn is_taken(&self, key: &Key, ours: impl Fn(u64) -> bool) -> bool {
        loop {
            let newest = self
                .files()
                .of_key
                .get(key)
                .and_then(|files| files.last().cloned());
            match newest {
                Some((serial, name)) if !ours(serial) => {
                    // Its owner may have died a moment ago.
                    if self.refresh(&name) != Seen::Gone {
                        return true;
                    }
                }
                _ => return false,
            }
        }
    }

    /// When the live instance at `key` came online.
    pub(super) fn created(&self, key: &Key) -> Option<u64> {
        self.files().newest(key).map(|record| record.created)
    }

    /// Looks at one file again.
    pub(super) fn refresh(&self, name: &str) -> Seen {
        let seen = self.refresh_all(&[name]);
        seen.first().copied().unwrap_or(Seen::Gone)
    }

    /// Looks at files again; says of each what was seen.
    pub(super) fn refresh_all(&self, names: &[&str]) -> Vec<Seen> {
        let mut files = self.files();
        let mut keys = Vec::new();
        let mut look = |name: &&str| match entry_file::look(&self.directory, name) {
            Ok(ProbeResult::Alive(record)) => {
                keys.extend(files.set(name, Some(record)));
                Seen::Alive
            }
            // Its owner died over it.
            Ok(ProbeResult::Dead) => {
                keys.extend(files.set(name, None));
                Seen::Gone
            }
            Ok(ProbeResult::Nothing) => Seen::Gone,
            Err(error) => {
                tracing::warn!(backend = "local", error = %error.report(), "cannot read an entry, retrying");
                Seen::Unreadable
            }
        };
        let mut seen: Vec<Seen> = names.iter().map(&mut look).collect();
        let gone = names.iter().zip(&mut seen);
        let mut gone: Vec<_> = gone.filter(|(_, seen)| **seen == Seen::Gone).collect();
        match self.came_since(&files, gone.iter().map(|(name, _)| **name)) {
            Ok(since) => {
                for (name, record) in since {
                    keys.extend(files.set(&name, Some(record)));
                }
                for (name, _) in gone {
                    keys.extend(files.set(name, None));
                }
            }
            Err(error) => {
                tracing::warn!(backend = "local", error = %error.report(), "cannot scan the directory, retrying");
                gone.iter_mut()
                    .for_each(|(_, seen)| **seen = Seen::Unreadable);
            }
        }
        for key in keys {
            self.show(&files, &key);
        }
        seen
    }

    /// Takes note of a file that its owner, who is us, has just written. Whether it is still there is seen
    /// by whoever guards it.
    pub(super) fn add(&self, name: &str, record: Record) {
        let mut files = self.files();
        files.untold.insert(name.to_owned());
        for key in files.set(name, Some(record)) {
            self.show(&files, &key);
        }
    }

    /// Whether the news that this file came is what we did ourselves, and so nothing to look at.
    pub(super) fn is_own_news(&self, name: &str) -> bool {
        self.files().untold.remove(name)
    }

    /// Forgets a file that its owner, who is us, took away.
    pub(super) fn forget(&self, name: &str) {
        let mut files = self.files();
        files.untold.remove(name);
        for key in files.set(name, None) {
            self.show(&files, &key);
        }
    }

    /// What came in the place of files that are gone, where we know no other of their keys. An owner
    /// that updates faster than we look has taken away again what we are told of, or what we have just
    /// listed, and must not seem to have gone, or never to have been there.
    fn came_since<'a>(
        &self,
        files: &Files,
        gone: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<(String, Record)>> {
        let keys = files.keys_without(&gone.collect());
        let (mut since, mut before) = (Vec::new(), Vec::new());
        if keys.is_empty() {
            return Ok(since);
        }
        loop {
            let mut names = self.names_of(&keys)?;
            for name in &names {
                if let ProbeResult::Alive(record) = entry_file::look(&self.directory, name)? {
                    since.push((name.clone(), record));
                }
            }
            names.sort();
            // Others than the last time: one may have come and gone between the list and the look.
            let found: HashSet<&Key> = since.iter().map(|(_, record)| &record.key).collect();
            if found.len() == keys.len() || names == before {
                return Ok(since);
            }
            before = names;
        }
    }

    /// Looks at the whole directory again, at every file of it.
    /// Gives those that could not be looked at.
    pub(super) fn rescan(&self) -> Result<Vec<String>> {
        self.files().untold.clear();
        let (listed, known) = (self.file_names()?, self.known());
        let unreadable = |name: &&String| self.refresh(name) == Seen::Unreadable;
        Ok(listed.union(&known).filter(unreadable).cloned().collect())
    }

    /// Looks at the files that came, went or were written over without our having been told yet. Only those
    /// that stay are written over.
    pub(super) fn catch_up(&self) -> Result<()> {
        let (listed, known) = (self.file_names()?, self.known());
        let differing = listed.symmetric_difference(&known);
        let kept = listed
            .intersection(&known)
            .filter(|name| entry_file::is_kept(name));
        let looked_at = differing.chain(kept).map(String::as_str);
        self.refresh_all(&looked_at.collect::<Vec<_>>());
        Ok(())
    }

    fn known(&self) -> HashSet<String> {
        self.files().records.keys().cloned().collect()
    }

    /// The names in the directory, the leftovers of the dead swept away.
    fn file_names(&self) -> Result<HashSet<String>> {
        let unreadable = |e| failed("cannot list", &self.directory, e);
        let mut names = HashSet::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
            let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() else {
                continue;
            };
            entry_file::sweep(&self.directory, &name);
            names.insert(name);
        }
        Ok(names)
    }

    /// The names in the directory of files of these keys, escaped as in names.
    fn names_of(&self, keys: &HashSet<String>) -> Result<Vec<String>> {
        let unreadable = |e| failed("cannot list", &self.directory, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(name) = name.to_str()
                && entry_file::key_of(name).is_some_and(|key| keys.contains(key))
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the tree in line with what counts for `key`. Called with the files locked, so that the
    /// tree takes changes in the order in which they were seen.
    fn show(&self, files: &Files, key: &Key) {
        self.tree.edit(|edit| match files.newest(key) {
            Some(record) => edit.put(
                key,
                &record.value,
                Some(record.created),
                Some(record.serial),
            ),
            None => edit.delete(key),
        });
    }
}

impl Files {
    fn newest(&self, key: &Key) -> Option<&Record> {
        let (_, name) = self.of_key.get(key)?.last()?;
        self.records.get(name)
    }

    /// The keys, escaped as in names, of which no file but these is known.
    fn keys_without(&self, gone: &HashSet<&str>) -> HashSet<String> {
        let key_of = |name: &&str| match self.records.get(*name) {
            Some(record) => Some(record.key.clone()),
            None => entry_file::full_key_of(name),
        };
        let is_left = |key: &Key| {
            let mut files = self.of_key.get(key).into_iter().flatten();
            files.any(|(_, name)| !gone.contains(name.as_str()))
        };
        let keys = gone.iter().filter_map(key_of).filter(|key| !is_left(key));
        keys.map(|key| entry_file::escape(&key)).collect()
    }

    /// Notes what a file holds now; gives the keys concerned.
    fn set(&mut self, name: &str, found: Option<Record>) -> Vec<Key> {
        let mut keys = Vec::new();
        if let Some(old) = self.records.remove(name) {
            if let Some(names) = self.of_key.get_mut(&old.key) {
                names.remove(&(old.serial, name.to_owned()));
                if names.is_empty() {
                    self.of_key.remove(&old.key);
                }
            }
            keys.push(old.key);
        }
        if let Some(new) = found {
            keys.push(new.key.clone());
            let names = self.of_key.entry(new.key.clone()).or_default();
            names.insert((new.serial, name.to_owned()));
            self.records.insert(name.to_owned(), new);
        }
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Entry, Lifetime};
    use crate::store::local::entry_file::OwnedFile;

    /// An owner that updates twice while we look elsewhere: each file that we are told of is gone.
    #[test]
    fn an_owner_that_is_faster_than_we_are_told_does_not_seem_to_go() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = DirectoryIndex::new(directory.path().to_owned());
        let key = Key::new("/services/web/a:1").unwrap();
        let entry = Entry {
            key: key.clone(),
            value: "1".into(),
            lifetime: Lifetime::Leased,
        };
        let write = || OwnedFile::new(shelf.directory(), &entry, 1, 1).unwrap();

        let first = write();
        assert!(shelf.refresh(first.name()) == Seen::Alive);
        let second = write();
        first.remove();
        let third = write();
        second.remove();
        assert!(shelf.refresh(second.name()) == Seen::Gone);
        assert!(shelf.refresh(first.name()) == Seen::Gone);
        assert_eq!(shelf.created(&key), Some(1));

        // It has known both that are gone, and is told so at once.
        let fourth = write();
        assert!(shelf.refresh(fourth.name()) == Seen::Alive);
        let fifth = write();
        third.remove();
        fourth.remove();
        shelf.refresh_all(&[third.name(), fourth.name()]);
        assert_eq!(shelf.created(&key), Some(1));

        // Who comes new has listed one that is gone as it looks.
        let late = DirectoryIndex::new(directory.path().to_owned());
        assert!(late.refresh(second.name()) == Seen::Gone);
        assert_eq!(late.created(&key), Some(1));

        fifth.remove();
        assert!(shelf.refresh(fifth.name()) == Seen::Gone);
        assert_eq!(shelf.created(&key), None);
    }
}
