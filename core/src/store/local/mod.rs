//! Store of all processes of this machine, without a server: a directory with one file per entry, which its
//! owner keeps open and locked.
//!
//! The kernel releases the lock and reports the close when the owner dies in any way, so a death is detected
//! at once and without heartbeats. File names are unique to their owner, so the clean-up after a dead owner
//! never removes a file of a live one.

mod directory_index;
mod entry_file;
mod persistent_entry;
mod watcher;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::BoxStream;
use tokio::task::AbortHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Entry, Key, Node, Scope};
use crate::model::{Grant, OnConflict};
use crate::store::{Store, Terms, replaced};
use directory_index::DirectoryIndex;
use entry_file::{EntryRecord, OwnedFile};

/// The store of one client. Must be opened on a tokio runtime.
pub(crate) struct LocalStore {
    index: Arc<DirectoryIndex>,
    /// The open, locked files of each grant. Dropping them has the effect of a death.
    owned: Mutex<HashMap<u64, Vec<OwnedFile>>>,
    watcher: AbortHandle,
}

impl LocalStore {
    /// Opens and reads the directory `path`, or the default directory of the user if `path` is empty.
    pub(crate) fn open(path: &str) -> Result<LocalStore> {
        let directory = if path.is_empty() {
            default_directory()
        } else {
            PathBuf::from(path)
        };
        prepare_directory(&directory)?;
        let index = Arc::new(DirectoryIndex::new(directory));
        let watcher = watcher::start(index.clone())?;
        Ok(LocalStore {
            index,
            owned: Mutex::default(),
            watcher,
        })
    }

    fn owned(&self) -> MutexGuard<'_, HashMap<u64, Vec<OwnedFile>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the entries as files of the grant. If one fails, the others are removed.
    fn write(&self, entries: &[Entry], grant: u64) -> Result<Vec<OwnedFile>> {
        prepare_directory(self.index.directory())?;
        let mut written = Vec::with_capacity(entries.len());
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let created = self.index.created(&entry.key).unwrap_or(grant);
            match OwnedFile::new(self.index.directory(), entry, created, grant) {
                Ok(file) => {
                    written.push(file);
                    records.push(EntryRecord::new(entry, created, grant));
                }
                Err(error) => {
                    self.remove_files(&written);
                    return Err(error);
                }
            }
        }
        // Updates this process's own index; inotify notifies the others.
        for (file, record) in written.iter().zip(records) {
            self.index.add(file.name(), record);
        }
        Ok(written)
    }

    fn remove_files(&self, files: &[OwnedFile]) {
        for file in files {
            file.remove();
            self.index.remove(file.name());
        }
    }

    fn end_grant(&self, grant: Grant) {
        let files = self.owned().remove(&grant.id);
        self.remove_files(&files.unwrap_or_default());
    }

    fn check_ownership(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        let gone = |what: &str| Err(Error::new(ErrorKind::LeaseLost, format!("{what} is gone")));
        match self.owned().get(&grant.id) {
            None => return gone("the registration"),
            Some(files) => {
                if let Some(file) = files.iter().find(|file| !file.is_in_place()) {
                    self.index.refresh(file.name());
                    return gone(&file.path().display().to_string());
                }
            }
        }
        if let Some(taken) = self.taken_key(entries, |serial| serial <= grant.id) {
            // Otherwise this entry would reappear when the other owner goes offline.
            self.end_grant(grant);
            return Err(replaced(taken));
        }
        Ok(())
    }

    /// Returns the first of the keys that has another owner.
    fn taken_key<'a>(&self, entries: &'a [Entry], ours: impl Fn(u64) -> bool) -> Option<&'a Key> {
        let mut keys = entries.iter().map(|entry| &entry.key);
        keys.find(|key| self.index.is_taken(key, &ours))
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.watcher.abort();
        self.owned()
            .values()
            .for_each(|files| self.remove_files(files));
    }
}

impl Store for LocalStore {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(prepare_directory(self.index.directory())).boxed()
    }

    // Calls finish without waiting: the files are small and usually on a memory file system.

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        ready(self.index.get(key)).boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        ready(self.index.list(scope)).boxed()
    }

    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>> {
        async move {
            if terms.on_conflict == OnConflict::RestoreOnly {
                // inotify may not have reported another owner yet.
                self.index.catch_up()?;
                let ours: HashSet<u64> = self.owned().keys().copied().collect();
                if let Some(taken) = self.taken_key(entries, |serial| ours.contains(&serial)) {
                    return Err(replaced(taken));
                }
            }
            let id = entry_file::now_micros();
            let written = self.write(entries, id)?;
            self.owned().insert(id, written);
            Ok(Grant { id, ttl: terms.ttl })
        }
        .boxed()
    }

    fn put<'a>(&'a self, entry: &'a Entry, seen: Option<&'a Node>) -> BoxFuture<'a, Result<bool>> {
        async move {
            prepare_directory(self.index.directory())?;
            // Revisions are local to a process, so the value is compared.
            let seen = seen.map(|node| &*node.value);
            let (name, written) = persistent_entry::put(self.index.directory(), entry, seen)?;
            self.index.refresh(&name);
            Ok(written)
        }
        .boxed()
    }

    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        ready(self.check_ownership(entries, grant)).boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            self.check_ownership(entries, grant)?;
            let written = self.write(entries, grant.id)?;
            let old = self.owned().insert(grant.id, written);
            self.remove_files(&old.unwrap_or_default());
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.end_grant(grant);
        ready(Ok(())).boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.index
            .wait_for_loss(entries, move || self.check_ownership(entries, grant))
            .boxed()
    }

    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        self.index.watch(scope)
    }
}

/// Returns the directory of this user. It depends on nothing else: programs whose environments differ, such as a login
/// shell and a cron job, must see each other.
fn default_directory() -> PathBuf {
    Path::new("/tmp").join(format!("libdiscover-{}", nix::unistd::geteuid()))
}

/// Creates the directory with access for its owner only, or checks that an existing one is safe.
fn prepare_directory(directory: &Path) -> Result<()> {
    let refuse = |kind, why: &str| {
        Err(Error::new(
            kind,
            format!("local directory {}: {why}", directory.display()),
        ))
    };
    match fs::symlink_metadata(directory) {
        Ok(found) if !found.is_dir() => refuse(ErrorKind::InvalidArgument, "is not a directory"),
        Ok(found) if found.uid() != nix::unistd::geteuid().as_raw() => {
            refuse(ErrorKind::PermissionDenied, "belongs to another user")
        }
        Ok(found) if found.mode() & 0o022 != 0 => refuse(
            ErrorKind::PermissionDenied,
            "may be written by other users; chmod it to 700",
        ),
        Ok(_) => Ok(()),
        Err(_) => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| entry_file::file_error("cannot make", directory, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_depends_on_the_user_alone() {
        let uid = nix::unistd::geteuid();
        assert_eq!(
            default_directory(),
            PathBuf::from(format!("/tmp/libdiscover-{uid}"))
        );
    }
}
