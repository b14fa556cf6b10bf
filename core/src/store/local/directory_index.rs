//! Index of the directory, mirrored as a tree. If a takeover or an update leaves several files of one key,
//! the newest counts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, PollNext, StreamExt};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::store::local::entry_file::{self, EntryRecord, ProbeResult, file_error};
use crate::store::memory::Tree;

/// The live files of the directory, and the tree that shows them.
pub(super) struct DirectoryIndex {
    directory: PathBuf,
    tree: Arc<Tree>,
    files: Mutex<Files>,
    /// Why the directory cannot be read, if so.
    fault: watch::Sender<Option<Error>>,
}

/// Result of looking at a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    /// The file exists and its owner is alive.
    Live,
    /// The file does not exist, or is not an entry.
    Absent,
    /// The file could not be read, for instance for lack of descriptors; try again.
    Unreadable,
}

#[derive(Default)]
struct Files {
    records: HashMap<String, EntryRecord>,
    /// The files of each key, by serial and name; the last one counts.
    of_key: HashMap<Key, BTreeSet<(u64, String)>>,
    /// Files that this process wrote and inotify has not reported yet.
    own_writes: HashSet<String>,
}

impl DirectoryIndex {
    pub(super) fn new(directory: PathBuf) -> DirectoryIndex {
        DirectoryIndex {
            directory,
            tree: Arc::default(),
            files: Mutex::default(),
            fault: watch::Sender::new(None),
        }
    }

    /// Records why the directory cannot be read, or that it was read again. The watches report both.
    pub(super) fn set_fault(&self, fault: Option<Error>) {
        self.fault.send_if_modified(|known| {
            let text = |fault: &Option<Error>| fault.as_ref().map(Error::to_string);
            let is_other = text(known) != text(&fault);
            *known = fault;
            is_other
        });
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs `check` at each change of the entries, until it fails; returns the error.
    pub(super) async fn wait_for_loss(
        &self,
        entries: &[Entry],
        check: impl Fn() -> Result<()>,
    ) -> Error {
        self.tree.wait_for_loss(entries, check).await
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

    /// Watches a scope; the first item includes everything that was registered before the call.
    pub(super) fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        if let Err(error) = self.catch_up() {
            tracing::warn!(backend = "local", error = %error.report(), "cannot scan the directory, retrying");
        }
        let mut fault = self.fault.subscribe();
        if fault.borrow().is_some() {
            fault.mark_changed();
        }
        let health = stream::unfold((self.tree.clone(), fault), async |(tree, mut fault)| {
            // The sender lives as long as the store.
            fault.changed().await.ok()?;
            let now = fault.borrow_and_update().clone();
            let item = now.map_or_else(|| Ok(tree.no_changes()), Err);
            Some((item, (tree, fault)))
        });
        // Changes that precede the end of a fault are emitted before it.
        stream::select_with_strategy(self.tree.watch(scope), health, |()| PollNext::Left).boxed()
    }

    /// Returns true if another live owner than those with these serials has the key.
    pub(super) fn is_taken(&self, key: &Key, ours: impl Fn(u64) -> bool) -> bool {
        loop {
            let newest = self
                .files()
                .of_key
                .get(key)
                .and_then(|files| files.last().cloned());
            match newest {
                Some((serial, name)) if !ours(serial) => {
                    // Its owner may have just died.
                    if self.refresh(&name) != FileState::Absent {
                        return true;
                    }
                }
                _ => return false,
            }
        }
    }

    /// Returns when the live instance at the key came online, in microseconds since boot; `None` if there is none.
    pub(super) fn created(&self, key: &Key) -> Option<u64> {
        self.files().newest(key).map(|record| record.created)
    }

    /// Re-reads one file.
    pub(super) fn refresh(&self, name: &str) -> FileState {
        let seen = self.refresh_all(&[name]);
        seen.first().copied().unwrap_or(FileState::Absent)
    }

    /// Re-reads files; returns the result for each.
    pub(super) fn refresh_all(&self, names: &[&str]) -> Vec<FileState> {
        let mut files = self.files();
        let mut keys = Vec::new();
        let mut look = |name: &&str| match entry_file::probe(&self.directory, name) {
            Ok(ProbeResult::Live(record)) => {
                keys.extend(files.set(name, Some(record)));
                FileState::Live
            }
            // The owner died.
            Ok(ProbeResult::Dead) => {
                keys.extend(files.set(name, None));
                FileState::Absent
            }
            Ok(ProbeResult::Absent) => FileState::Absent,
            Err(error) => {
                tracing::warn!(backend = "local", error = %error.report(), "cannot read an entry, retrying");
                FileState::Unreadable
            }
        };
        let mut seen: Vec<FileState> = names.iter().map(&mut look).collect();
        let gone = names.iter().zip(&mut seen);
        let mut gone: Vec<_> = gone
            .filter(|(_, seen)| **seen == FileState::Absent)
            .collect();
        match self.find_replacements(&files, gone.iter().map(|(name, _)| **name)) {
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
                    .for_each(|(_, seen)| **seen = FileState::Unreadable);
            }
        }
        for key in keys {
            self.update_tree(&files, &key);
        }
        seen
    }

    /// Adds a file that this process has just written. The watcher of the lease checks that it stays.
    pub(super) fn add(&self, name: &str, record: EntryRecord) {
        let mut files = self.files();
        files.own_writes.insert(name.to_owned());
        for key in files.set(name, Some(record)) {
            self.update_tree(&files, &key);
        }
    }

    /// Returns true if the inotify event of this file reports an own write, which needs no look.
    pub(super) fn is_own_write(&self, name: &str) -> bool {
        self.files().own_writes.remove(name)
    }

    /// Removes a file that this process deleted.
    pub(super) fn remove(&self, name: &str) {
        let mut files = self.files();
        files.own_writes.remove(name);
        for key in files.set(name, None) {
            self.update_tree(&files, &key);
        }
    }

    /// Finds the files that replaced files which are gone, for keys without another known file. An owner
    /// that updates faster than this process reads has already deleted the files of which inotify reports,
    /// and must not seem to be offline.
    fn find_replacements<'a>(
        &self,
        files: &Files,
        gone: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<(String, EntryRecord)>> {
        let keys = files.keys_without(&gone.collect());
        let (mut since, mut before) = (Vec::new(), Vec::new());
        if keys.is_empty() {
            return Ok(since);
        }
        loop {
            let mut names = self.names_of(&keys)?;
            for name in &names {
                if let ProbeResult::Live(record) = entry_file::probe(&self.directory, name)? {
                    since.push((name.clone(), record));
                }
            }
            names.sort();
            // Retries if the names changed: a file may be replaced between listing and reading.
            let found: HashSet<&Key> = since.iter().map(|(_, record)| &record.key).collect();
            if found.len() == keys.len() || names == before {
                return Ok(since);
            }
            before = names;
        }
    }

    /// Re-reads every file of the directory. Returns the files that could not be read.
    pub(super) fn rescan(&self) -> Result<Vec<String>> {
        self.files().own_writes.clear();
        let (listed, known) = (self.file_names()?, self.known());
        let unreadable = |name: &&String| self.refresh(name) == FileState::Unreadable;
        Ok(listed.union(&known).filter(unreadable).cloned().collect())
    }

    /// Reads the files that were created, deleted or overwritten and not yet reported by inotify. Only
    /// persistent files are overwritten.
    pub(super) fn catch_up(&self) -> Result<()> {
        let (listed, known) = (self.file_names()?, self.known());
        let differing = listed.symmetric_difference(&known);
        let persistent = listed
            .intersection(&known)
            .filter(|name| entry_file::is_persistent(name));
        let looked_at = differing.chain(persistent).map(String::as_str);
        self.refresh_all(&looked_at.collect::<Vec<_>>());
        Ok(())
    }

    fn known(&self) -> HashSet<String> {
        self.files().records.keys().cloned().collect()
    }

    /// Returns the file names of the directory, and removes the leftovers of dead processes.
    fn file_names(&self) -> Result<HashSet<String>> {
        let unreadable = |e| file_error("cannot list", &self.directory, e);
        let mut names = HashSet::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
            let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() else {
                continue;
            };
            entry_file::remove_if_abandoned(&self.directory, &name);
            names.insert(name);
        }
        Ok(names)
    }

    /// Returns the names of files of these keys, which are escaped as in names.
    fn names_of(&self, keys: &HashSet<String>) -> Result<Vec<String>> {
        let unreadable = |e| file_error("cannot list", &self.directory, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(name) = name.to_str()
                && entry_file::escaped_key(name).is_some_and(|key| keys.contains(key))
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the tree for a key. The caller holds the lock of the files, so that changes reach the tree in
    /// order.
    fn update_tree(&self, files: &Files, key: &Key) {
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
    fn newest(&self, key: &Key) -> Option<&EntryRecord> {
        let (_, name) = self.of_key.get(key)?.last()?;
        self.records.get(name)
    }

    /// Returns the keys, escaped as in names, that have no file except these.
    fn keys_without(&self, gone: &HashSet<&str>) -> HashSet<String> {
        let key_of = |name: &&str| match self.records.get(*name) {
            Some(record) => Some(record.key.clone()),
            None => entry_file::key_of_name(name),
        };
        let is_left = |key: &Key| {
            let mut files = self.of_key.get(key).into_iter().flatten();
            files.any(|(_, name)| !gone.contains(name.as_str()))
        };
        let keys = gone.iter().filter_map(key_of).filter(|key| !is_left(key));
        keys.map(|key| entry_file::escape(&key)).collect()
    }

    /// Records the content of a file. Returns the keys that it concerns.
    fn set(&mut self, name: &str, found: Option<EntryRecord>) -> Vec<Key> {
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
    use crate::kv::Entry;
    use crate::store::local::entry_file::OwnedFile;

    /// An owner updates twice between two looks: every reported file is gone.
    #[test]
    fn an_owner_that_updates_faster_than_inotify_reports_stays_online() {
        let directory = tempfile::tempdir().unwrap();
        let index = DirectoryIndex::new(directory.path().to_owned());
        let key = Key::new("/services/web/a:1").unwrap();
        let entry = Entry::leased(key.clone(), "1");
        let write = || OwnedFile::new(index.directory(), &entry, 1, 1).unwrap();

        let first = write();
        assert!(index.refresh(first.name()) == FileState::Live);
        let second = write();
        first.remove();
        let third = write();
        second.remove();
        assert!(index.refresh(second.name()) == FileState::Absent);
        assert!(index.refresh(first.name()) == FileState::Absent);
        assert_eq!(index.created(&key), Some(1));

        // This process knows the replacement of both files, and looks at once.
        let fourth = write();
        assert!(index.refresh(fourth.name()) == FileState::Live);
        let fifth = write();
        third.remove();
        fourth.remove();
        index.refresh_all(&[third.name(), fourth.name()]);
        assert_eq!(index.created(&key), Some(1));

        // A new index has listed a file that is gone when it is read.
        let late = DirectoryIndex::new(directory.path().to_owned());
        assert!(late.refresh(second.name()) == FileState::Absent);
        assert_eq!(late.created(&key), Some(1));

        fifth.remove();
        assert!(index.refresh(fifth.name()) == FileState::Absent);
        assert_eq!(index.created(&key), None);
    }
}
