//! What a tree holds, written down as it changes, so that a process that is killed finds it again.
//!
//! A file of lines in JSON, each a change: `{"put":KEY,"value":HEX,"created":N,"ttl_ms":N}`, without a
//! time for what stays, or `{"delete":KEY}`; and at times `{"revision":N}`. Whatever else is in it, a
//! half line at the end for instance, is passed over. It is written anew when it has become long.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kv::Key;

/// A file that is longer than this is none of ours.
const LONGEST: u64 = 1024 * 1024 * 1024;
/// How many lines more than there are keys are borne.
const SPARE: usize = 4096;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    /// For how long it stays without its owner; for ever without one.
    pub(super) ttl: Option<Duration>,
}

/// All that is known.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) revision: u64,
    pub(super) records: BTreeMap<Key, Record>,
}

/// See the module.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    failed: bool,
}

impl Journal {
    /// Reads what was written, and goes on from there.
    pub(super) fn open(path: &Path) -> io::Result<(Journal, Kept)> {
        let kept = match read(path) {
            Ok(text) => replay(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        let mut journal = Journal {
            path: path.to_owned(),
            file: create(path, &kept)?,
            lines: kept.records.len(),
            failed: false,
        };
        journal.file.flush()?;
        Ok((journal, kept))
    }

    /// Writes lines; what cannot be written is said once, and is missing after a restart.
    pub(super) fn write(&mut self, lines: &str) {
        self.lines += lines.lines().count();
        let done = self.file.write_all(lines.as_bytes());
        self.note(done);
    }

    /// Whether it has become long for so many keys.
    pub(super) fn is_long(&self, keys: usize) -> bool {
        self.lines > 2 * keys + SPARE
    }

    /// Begins a new file with this.
    pub(super) fn renew(&mut self, kept: &Kept) {
        self.lines = kept.records.len();
        let done = create(&self.path, kept).map(|file| self.file = file);
        self.note(done);
    }

    fn note(&mut self, done: io::Result<()>) {
        if let Err(error) = done
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(
                backend = "memory",
                %error,
                file = %self.path.display(),
                "cannot write the state file, it will be incomplete"
            );
        }
    }
}

/// The line of a key that was written.
pub(super) fn put(key: &Key, value: &[u8], created: u64, ttl: Option<Duration>) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    let digits = value.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let value: String = digits.map(digit).collect();
    let ttl = ttl.map(|ttl| ttl.as_millis() as u64);
    let line = json!({ "put": key.as_str(), "value": value, "created": created, "ttl_ms": ttl });
    format!("{line}\n")
}

/// The line of a key that was deleted.
pub(super) fn delete(key: &Key) -> String {
    format!("{}\n", json!({ "delete": key.as_str() }))
}

/// The line that says how far it is.
pub(super) fn revision(revision: u64) -> String {
    format!("{}\n", json!({ "revision": revision }))
}

/// A whole new file in place of the old one.
fn create(path: &Path, kept: &Kept) -> io::Result<File> {
    let mut text = revision(kept.revision);
    for (key, record) in &kept.records {
        text += &put(key, &record.value, record.created, record.ttl);
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(io::Error::other("it is no file of ours"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn replay(text: &str) -> Kept {
    let mut kept = Kept::default();
    for line in text.lines() {
        if let Ok(line) = serde_json::from_str(line) {
            // One line that means nothing hides no other.
            let _ = apply(&line, &mut kept);
        }
    }
    kept
}

fn apply(line: &Value, kept: &mut Kept) -> Option<()> {
    if let Some(revision) = line["revision"].as_u64() {
        kept.revision = kept.revision.max(revision);
    } else if let Some(key) = line["delete"].as_str() {
        kept.records.remove(&Key::new(key).ok()?);
    } else {
        let record = Record {
            value: bytes(line["value"].as_str()?)?,
            created: line["created"].as_u64()?,
            ttl: line["ttl_ms"].as_u64().map(Duration::from_millis),
        };
        kept.revision = kept.revision.max(record.created);
        kept.records
            .insert(Key::new(line["put"].as_str()?).ok()?, record);
    }
    Some(())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let pairs = digits?;
    let pairs = pairs.chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(high * 16 + low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(&format!("/s/{name}")).unwrap()
    }

    #[test]
    fn what_was_written_is_found_again_but_for_a_half_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut journal, kept) = Journal::open(&path).unwrap();
        assert_eq!(kept, Kept::default());
        let ttl = Some(Duration::from_secs(3));
        journal.write(&put(&key("a"), b"\x00\xffx", 4, ttl));
        journal.write(&put(&key("b"), b"", 5, None));
        journal.write(&put(&key("c"), b"1", 6, ttl));
        journal.write(&(delete(&key("c")) + &revision(9)));
        journal.write("nonsense\n{\"put\":3}\n{\"put\":\"/s/d\",\"val");
        let (_, kept) = Journal::open(&path).unwrap();
        assert_eq!(kept.revision, 9);
        assert_eq!(kept.records.len(), 2);
        assert_eq!(kept.records[&key("a")].value, b"\x00\xffx");
        assert_eq!(kept.records[&key("a")].ttl, ttl);
        // And what was written anew says the same.
        assert_eq!(Journal::open(&path).unwrap().1, kept);
    }

    proptest::proptest! {
        #[test]
        fn replaying_never_panics(text in ".*") {
            replay(&text);
        }
    }
}
