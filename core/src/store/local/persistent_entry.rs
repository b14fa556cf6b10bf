//! What stays when its writer goes. Anybody may write it, so writers take turns: who holds the lock of
//! the directory reads, compares and writes.

use std::fs::File;
use std::path::Path;

use crate::error::Result;
use crate::fork_safety::NotInherited;
use crate::kv::Entry;
use crate::store::local::entry_file::{self, OwnFd, OwnedFile, ProbeResult, failed};

/// Writes the entry if its file says what was `seen`, none being no file. Gives the name of the file, and
/// whether it was written; somebody else's turn counts as a change.
pub(super) fn put(directory: &Path, entry: &Entry, seen: Option<&[u8]>) -> Result<(String, bool)> {
    let name = entry_file::file_name(entry, 0)?;
    let lock = || File::open(directory).and_then(entry_file::lock).map(OwnFd);
    let _turn = match NotInherited::open(lock) {
        Ok(turn) => turn,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok((name, false)),
        Err(e) => return Err(failed("cannot lock", directory, e)),
    };
    let now = match entry_file::look(directory, &name)? {
        ProbeResult::Alive(record) => Some(record),
        ProbeResult::Dead | ProbeResult::Nothing => None,
    };
    let unchanged = now.as_ref().map(|record| &record.value[..]) == seen;
    if unchanged {
        let created = now.map_or_else(entry_file::now_micros, |record| record.created);
        OwnedFile::new(directory, entry, created, 0)?;
    }
    Ok((name, unchanged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Key, Lifetime};

    fn entry(value: &str) -> Entry {
        Entry {
            key: Key::new("/infos/web").unwrap(),
            value: value.into(),
            lifetime: Lifetime::Kept,
        }
    }

    #[test]
    fn only_who_knows_what_is_there_writes_and_nobody_while_another_does() {
        let directory = tempfile::tempdir().unwrap();
        let put = |value, seen: Option<&str>| {
            let seen = seen.map(str::as_bytes);
            super::put(directory.path(), &entry(value), seen).unwrap().1
        };
        assert!(!put("1", Some("0")));
        assert!(put("1", None));
        assert!(!put("2", None));
        let other = entry_file::lock(File::open(directory.path()).unwrap()).unwrap();
        assert!(!put("2", Some("1")));
        drop(other);
        assert!(put("2", Some("1")));
        let name = entry_file::file_name(&entry(""), 0).unwrap();
        let ProbeResult::Alive(record) = entry_file::look(directory.path(), &name).unwrap() else {
            panic!("it stays without a writer")
        };
        assert_eq!(record.value, b"2");
    }
}
