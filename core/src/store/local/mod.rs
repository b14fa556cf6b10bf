//! Every process of this machine, without a server: a directory in which each entry is a file that
//! its owner keeps open and locked.
//!
//! The kernel drops the lock and reports the close when the owner dies, however it dies, so a death is
//! seen at once and without a heartbeat. File names are unique to their owner, so cleaning up after
//! the dead can never remove a file of the living.

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
use entry_file::{OwnedFile, Record};

/// See the module. Must be opened on a tokio runtime.
pub(crate) struct LocalStore {
    shelf: Arc<DirectoryIndex>,
    /// The open, locked files of each grant. Dropping them is what a death does.
    owned: Mutex<HashMap<u64, Vec<OwnedFile>>>,
    watcher: AbortHandle,
}

impl LocalStore {
    /// Opens the directory `path`, or the user's own one when it is empty, and reads it.
    pub(crate) fn open(path: &str) -> Result<LocalStore> {
        let directory = if path.is_empty() {
            default_directory()
        } else {
            PathBuf::from(path)
        };
        prepare(&directory)?;
        let shelf = Arc::new(DirectoryIndex::new(directory));
        let watcher = watcher::start(shelf.clone())?;
        Ok(LocalStore {
            shelf,
            owned: Mutex::default(),
            watcher,
        })
    }

    fn owned(&self) -> MutexGuard<'_, HashMap<u64, Vec<OwnedFile>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the entries as files of `grant`; all of them or none that others see for long.
    fn write(&self, entries: &[Entry], grant: u64) -> Result<Vec<OwnedFile>> {
        let mut written = Vec::with_capacity(entries.len());
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let created = self.shelf.created(&entry.key).unwrap_or(grant);
            match OwnedFile::new(self.shelf.directory(), entry, created, grant) {
                Ok(file) => {
                    written.push(file);
                    records.push(Record::of(entry, created, grant));
                }
                Err(error) => {
                    self.take_away(&written);
                    return Err(error);
                }
            }
        }
        // Our own view has them at once; others are told by the kernel.
        for (file, record) in written.iter().zip(records) {
            self.shelf.add(file.name(), record);
        }
        Ok(written)
    }

    fn take_away(&self, files: &[OwnedFile]) {
        for file in files {
            file.remove();
            self.shelf.forget(file.name());
        }
    }

    fn end(&self, grant: Grant) {
        let files = self.owned().remove(&grant.id);
        self.take_away(&files.unwrap_or_default());
    }

    fn check(&self, entries: &[Entry], grant: Grant) -> Result<()> {
        let gone = |what: &str| Err(Error::new(ErrorKind::LeaseLost, format!("{what} is gone")));
        match self.owned().get(&grant.id) {
            None => return gone("the registration"),
            Some(files) => {
                if let Some(file) = files.iter().find(|file| !file.is_in_place()) {
                    self.shelf.refresh(file.name());
                    return gone(&file.path().display().to_string());
                }
            }
        }
        if let Some(taken) = self.taken(entries, |serial| serial <= grant.id) {
            // What we hold would come to light again when the other one goes.
            self.end(grant);
            return Err(replaced(taken));
        }
        Ok(())
    }

    /// The first of the keys that has another owner.
    fn taken<'a>(&self, entries: &'a [Entry], ours: impl Fn(u64) -> bool) -> Option<&'a Key> {
        let mut keys = entries.iter().map(|entry| &entry.key);
        keys.find(|key| self.shelf.is_taken(key, &ours))
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.watcher.abort();
        self.owned()
            .values()
            .for_each(|files| self.take_away(files));
    }
}

impl Store for LocalStore {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(prepare(self.shelf.directory())).boxed()
    }

    // The files are small and the directory is in memory, as a rule; no call here waits for anybody.

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        ready(self.shelf.get(key)).boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        ready(self.shelf.list(scope)).boxed()
    }

    fn create<'a>(&'a self, entries: &'a [Entry], terms: Terms) -> BoxFuture<'a, Result<Grant>> {
        async move {
            prepare(self.shelf.directory())?;
            if terms.claim == OnConflict::RestoreOnly {
                // Who came meanwhile may not have been told to us yet.
                self.shelf.catch_up()?;
                let ours: HashSet<u64> = self.owned().keys().copied().collect();
                if let Some(taken) = self.taken(entries, |serial| ours.contains(&serial)) {
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
            prepare(self.shelf.directory())?;
            // Other processes have revisions of their own, so what counts is the value.
            let seen = seen.map(|node| &*node.value);
            let (name, written) = persistent_entry::put(self.shelf.directory(), entry, seen)?;
            self.shelf.refresh(&name);
            Ok(written)
        }
        .boxed()
    }

    fn renew<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        ready(self.check(entries, grant)).boxed()
    }

    fn update<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            self.check(entries, grant)?;
            let written = self.write(entries, grant.id)?;
            let old = self.owned().insert(grant.id, written);
            self.take_away(&old.unwrap_or_default());
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], grant: Grant) -> BoxFuture<'a, Result<()>> {
        self.end(grant);
        ready(Ok(())).boxed()
    }

    fn lease_lost<'a>(&'a self, entries: &'a [Entry], grant: Grant) -> BoxFuture<'a, Error> {
        self.shelf
            .guard(entries, move || self.check(entries, grant))
            .boxed()
    }

    fn watch(&self, scope: &Scope) -> BoxStream<'static, Result<Changes>> {
        self.shelf.watch(scope)
    }
}

/// `$XDG_RUNTIME_DIR/libdiscover`, else a directory of this user under the temporary directory.
fn default_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("libdiscover"),
        None => std::env::temp_dir().join(format!("libdiscover-{}", nix::unistd::geteuid())),
    }
}

/// Makes the directory, readable by its owner only, or checks that it is ours alone.
fn prepare(directory: &Path) -> Result<()> {
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
            .map_err(|e| entry_file::failed("cannot make", directory, e)),
    }
}
