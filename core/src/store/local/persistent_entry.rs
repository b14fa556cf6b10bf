//! Persistent entries, which survive their writer. Any process may write them, under the lock of the
//! directory.

use std::fs::File;
use std::path::Path;

use crate::error::Result;
use crate::fork_safety::NotInherited;
use crate::kv::Entry;
use crate::store::local::entry_file::{self, LockedFile, OwnedFile, ProbeResult, file_error};

/// Writes the entry if its file has the value `seen`; `None` means that there is no file. Returns the file
/// name, and whether the entry was written. A locked directory counts as a changed file.
pub(super) fn put(directory: &Path, entry: &Entry, seen: Option<&[u8]>) -> Result<(String, bool)> {
    let name = entry_file::file_name(entry, 0)?;
    let lock = || {
        File::open(directory)
            .and_then(entry_file::lock_exclusively)
            .map(LockedFile)
    };
    let _turn = match NotInherited::open(lock) {
        Ok(turn) => turn,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok((name, false)),
        Err(e) => return Err(file_error("cannot lock", directory, e)),
    };
    let now = match entry_file::probe(directory, &name)? {
        ProbeResult::Live(record) => Some(record),
        ProbeResult::Dead | ProbeResult::Absent => None,
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
    use crate::kv::Key;

    fn entry(value: &str) -> Entry {
        Entry::persistent(Key::new("/infos/web").unwrap(), value)
    }

    #[test]
    fn an_entry_is_written_only_over_the_value_that_was_read_and_not_under_a_foreign_lock() {
        let directory = tempfile::tempdir().unwrap();
        let put = |value, seen: Option<&str>| {
            let seen = seen.map(str::as_bytes);
            super::put(directory.path(), &entry(value), seen).unwrap().1
        };
        assert!(!put("1", Some("0")));
        assert!(put("1", None));
        assert!(!put("2", None));
        let other = entry_file::lock_exclusively(File::open(directory.path()).unwrap()).unwrap();
        assert!(!put("2", Some("1")));
        drop(other);
        assert!(put("2", Some("1")));
        let name = entry_file::file_name(&entry(""), 0).unwrap();
        let ProbeResult::Live(record) = entry_file::probe(directory.path(), &name).unwrap() else {
            panic!("it stays without a writer")
        };
        assert_eq!(record.value, b"2");
    }
}
