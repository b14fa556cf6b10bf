//! Journal of a tree: a file from which a restarted process restores it.
//!
//! The file has one JSON object per line: `{"put":KEY,"value":HEX,"created":N,"ttl_ms":N}`, where `ttl_ms`
//! is absent for a persistent key, `{"delete":KEY}`, or `{"revision":N}`. Any other line, for instance a
//! partial last one, is skipped. The file is rewritten when it has grown long.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kv::Key;

/// Maximum size of a journal in bytes.
const MAX_JOURNAL_BYTES: u64 = 1024 * 1024 * 1024;
/// Number of lines in excess of the keys at which the file is rewritten.
const MAX_EXTRA_LINES: usize = 4096;

/// State of a key in the journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JournalRecord {
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    /// How long the key waits for its owner; `None` for a persistent key.
    pub(super) ttl: Option<Duration>,
}

/// Content of a journal.
#[derive(Debug, Default, PartialEq)]
pub(super) struct JournalContent {
    pub(super) revision: u64,
    pub(super) records: BTreeMap<Key, JournalRecord>,
}

/// An open journal file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    failed: bool,
}

impl Journal {
    /// Reads a journal, or creates it, and opens it for appending.
    pub(super) fn open(path: &Path) -> io::Result<(Journal, JournalContent)> {
        let content = match read(path) {
            Ok(text) => replay(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => JournalContent::default(),
            Err(error) => return Err(error),
        };
        let mut journal = Journal {
            path: path.to_owned(),
            file: create(path, &content)?,
            lines: content.records.len(),
            failed: false,
        };
        journal.file.flush()?;
        Ok((journal, content))
    }

    /// Appends lines. The first failure is logged; the lines are then missing after a restart.
    pub(super) fn write(&mut self, lines: &str) {
        self.lines += lines.lines().count();
        let done = self.file.write_all(lines.as_bytes());
        self.record_result(done);
    }

    /// Returns true if the file is long for this number of keys.
    pub(super) fn is_long(&self, keys: usize) -> bool {
        self.lines > 2 * keys + MAX_EXTRA_LINES
    }

    /// Replaces the file by the content.
    pub(super) fn rewrite(&mut self, content: &JournalContent) {
        self.lines = content.records.len();
        let done = create(&self.path, content).map(|file| self.file = file);
        self.record_result(done);
    }

    fn record_result(&mut self, done: io::Result<()>) {
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

/// Returns the line of a written key.
pub(super) fn put(key: &Key, value: &[u8], created: u64, ttl: Option<Duration>) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    let digits = value.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let value: String = digits.map(digit).collect();
    let ttl = ttl.map(|ttl| ttl.as_millis() as u64);
    let line = json!({ "put": key.as_str(), "value": value, "created": created, "ttl_ms": ttl });
    format!("{line}\n")
}

/// Returns the line of a deleted key.
pub(super) fn delete(key: &Key) -> String {
    format!("{}\n", json!({ "delete": key.as_str() }))
}

/// Returns the line of a revision.
pub(super) fn revision(revision: u64) -> String {
    format!("{}\n", json!({ "revision": revision }))
}

/// Writes a new file and moves it over the old one.
fn create(path: &Path, content: &JournalContent) -> io::Result<File> {
    let mut text = revision(content.revision);
    for (key, record) in &content.records {
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
    if !about.is_file() || about.len() > MAX_JOURNAL_BYTES {
        return Err(io::Error::other("it is no file of ours"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn replay(text: &str) -> JournalContent {
    let mut content = JournalContent::default();
    for line in text.lines() {
        if let Ok(line) = serde_json::from_str(line) {
            // An invalid line does not affect the others.
            let _ = apply(&line, &mut content);
        }
    }
    content
}

fn apply(line: &Value, content: &mut JournalContent) -> Option<()> {
    if let Some(revision) = line["revision"].as_u64() {
        content.revision = content.revision.max(revision);
    } else if let Some(key) = line["delete"].as_str() {
        content.records.remove(&Key::new(key).ok()?);
    } else {
        let record = JournalRecord {
            value: decode_hex(line["value"].as_str()?)?,
            created: line["created"].as_u64()?,
            ttl: line["ttl_ms"].as_u64().map(Duration::from_millis),
        };
        content.revision = content.revision.max(record.created);
        content
            .records
            .insert(Key::new(line["put"].as_str()?).ok()?, record);
    }
    Some(())
}

fn decode_hex(hex: &str) -> Option<Vec<u8>> {
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
    fn a_journal_is_read_back_without_a_partial_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert_eq!(content, JournalContent::default());
        let ttl = Some(Duration::from_secs(3));
        journal.write(&put(&key("a"), b"\x00\xffx", 4, ttl));
        journal.write(&put(&key("b"), b"", 5, None));
        journal.write(&put(&key("c"), b"1", 6, ttl));
        journal.write(&(delete(&key("c")) + &revision(9)));
        journal.write("nonsense\n{\"put\":3}\n{\"put\":\"/s/d\",\"val");
        let (_, content) = Journal::open(&path).unwrap();
        assert_eq!(content.revision, 9);
        assert_eq!(content.records.len(), 2);
        assert_eq!(content.records[&key("a")].value, b"\x00\xffx");
        assert_eq!(content.records[&key("a")].ttl, ttl);
        // The rewritten file has the same content.
        assert_eq!(Journal::open(&path).unwrap().1, content);
    }

    proptest::proptest! {
        #[test]
        fn replaying_never_panics(text in ".*") {
            replay(&text);
        }
    }
}
