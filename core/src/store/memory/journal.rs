//! Journal of a tree: a file from which a restarted process restores it.
//!
//! The file has one JSON object per line: `{"put":KEY,"value":HEX,"created":N,"ttl_ms":N}`, where `ttl_ms`
//! is absent for a persistent key, `{"delete":KEY}`, or `{"revision":N}`. Any other line, for instance a
//! partial last one, is skipped. The file is rewritten when it has grown long. A file that cannot be a journal is
//! set aside as `FILE.unusable`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kv::Key;

/// Maximum size of a journal in bytes. A larger one is neither written nor read.
const MAX_JOURNAL_BYTES: u64 = 512 * 1024 * 1024;
/// Maximum length of a line in bytes: the longest key, and a value of two digits per byte.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;
/// Number of bytes in excess of twice the content at which the file is rewritten.
const MAX_EXTRA_BYTES: u64 = 16 * 1024 * 1024;
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
    /// Size of the file.
    bytes: u64,
    /// Size of the file after it was last rewritten.
    content_bytes: u64,
    /// Limit of the size of the file.
    max_bytes: u64,
    /// Whether the content did not fit into the limit. Nothing is appended until it fits again.
    is_full: bool,
    failed: bool,
}

impl Journal {
    /// Reads a journal, or creates it, and opens it for appending. A file that cannot be a journal is set aside.
    pub(super) fn open(path: &Path) -> io::Result<(Journal, JournalContent)> {
        let content = match read(path, MAX_JOURNAL_BYTES) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => JournalContent::default(),
            Err(error) => {
                let aside = set_aside(path)?;
                tracing::warn!(
                    backend = "memory",
                    %error,
                    file = %path.display(),
                    moved_to = %aside.display(),
                    "cannot use the state file, starting without the previous registrations"
                );
                JournalContent::default()
            }
        };
        let (file, bytes) = create(path, &content, MAX_JOURNAL_BYTES)?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            lines: content.records.len(),
            bytes,
            content_bytes: bytes,
            max_bytes: MAX_JOURNAL_BYTES,
            is_full: false,
            failed: false,
        };
        Ok((journal, content))
    }

    /// Appends lines. The first failure is logged; the lines are then missing after a restart.
    pub(super) fn write(&mut self, lines: &str) {
        self.lines += lines.lines().count();
        self.bytes = self.bytes.saturating_add(lines.len() as u64);
        if self.is_full || self.bytes > self.max_bytes {
            // The file is too long for these lines. The next rewrite contains them.
            return;
        }
        let done = self.file.write_all(lines.as_bytes());
        self.record_result(done);
    }

    /// Returns true if the file is long for this number of keys.
    pub(super) fn is_long(&self, keys: usize) -> bool {
        let long = (2 * self.content_bytes).saturating_add(MAX_EXTRA_BYTES);
        self.lines > 2 * keys + MAX_EXTRA_LINES
            || (!self.is_full && self.bytes > long.min(self.max_bytes))
    }

    /// Replaces the file by the content.
    pub(super) fn rewrite(&mut self, content: &JournalContent) {
        self.lines = content.records.len();
        let created = create(&self.path, content, self.max_bytes);
        self.is_full = created.is_err();
        let done = created.map(|(file, bytes)| {
            (self.file, self.bytes, self.content_bytes) = (file, bytes, bytes);
        });
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

/// Writes a new file of at most `max_bytes` and moves it over the old one. Returns it with its size.
fn create(path: &Path, content: &JournalContent, max_bytes: u64) -> io::Result<(File, u64)> {
    let fresh = with_suffix(path, ".new");
    // What another process left there is not opened: opening a pipe would block.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&fresh)?;
    let mut writer = io::BufWriter::new(file);
    let mut bytes = 0;
    let mut write = |line: &str| {
        bytes += line.len() as u64;
        if bytes > max_bytes {
            let text = format!("the registrations exceed the limit of {max_bytes} bytes");
            return Err(io::Error::other(text));
        }
        writer.write_all(line.as_bytes())
    };
    write(&revision(content.revision))?;
    for (key, record) in &content.records {
        write(&put(key, &record.value, record.created, record.ttl))?;
    }
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    fs::rename(&fresh, path)?;
    Ok((file, bytes))
}

/// Moves a file away that cannot be a journal. Returns its new name.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(path, ".unusable");
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Reads a journal line by line, so that its text is never in memory as a whole.
fn read(path: &Path, max_bytes: u64) -> io::Result<JournalContent> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if about.len() > max_bytes {
        let text = format!("it has {} bytes; the limit is {max_bytes}", about.len());
        return Err(io::Error::other(text));
    }
    let (content, valid) = replay(&mut BufReader::new(file.take(max_bytes)))?;
    if valid == 0 && about.len() > 0 {
        return Err(io::Error::other(
            "none of its lines is a record of a registry",
        ));
    }
    Ok(content)
}

/// Returns the content of the lines, and the number of valid ones.
fn replay(text: &mut impl BufRead) -> io::Result<(JournalContent, usize)> {
    let (mut content, mut valid, mut line) = (JournalContent::default(), 0, Vec::new());
    loop {
        line.clear();
        if text.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok((content, valid));
        }
        // An invalid line does not affect the others.
        let applied = serde_json::from_slice(&line)
            .ok()
            .and_then(|line| apply(&line, &mut content));
        valid += usize::from(applied.is_some());
    }
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

    /// Opens a journal at a path that cannot be used as one, and returns the file that was set aside.
    fn check_unusable(make: impl Fn(&Path), is_kept: impl Fn(&Path) -> bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        make(&path);
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert_eq!(content, JournalContent::default());
        journal.write(&put(&key("a"), b"1", 4, None));
        assert_eq!(Journal::open(&path).unwrap().1.records.len(), 1);
        assert!(is_kept(&directory.path().join("state.unusable")));
    }

    #[test]
    fn a_file_that_cannot_be_a_journal_is_set_aside() {
        let text = "root:x:0:0\n";
        check_unusable(
            |path| fs::write(path, text).unwrap(),
            |aside| fs::read_to_string(aside).unwrap() == text,
        );
        let size = MAX_JOURNAL_BYTES + 1;
        check_unusable(
            |path| File::create(path).unwrap().set_len(size).unwrap(),
            |aside| fs::metadata(aside).unwrap().len() == size,
        );
        let mode = nix::sys::stat::Mode::S_IRWXU;
        check_unusable(
            |path| nix::unistd::mkfifo(path, mode).unwrap(),
            |aside| !fs::metadata(aside).unwrap().is_file(),
        );
        check_unusable(|path| fs::create_dir(path).unwrap(), Path::is_dir);
    }

    #[test]
    fn a_pipe_in_place_of_the_new_file_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let fresh = directory.path().join("state.new");
        nix::unistd::mkfifo(&fresh, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (mut journal, _) = Journal::open(&path).unwrap();
        nix::unistd::mkfifo(&fresh, nix::sys::stat::Mode::S_IRWXU).unwrap();
        journal.rewrite(&JournalContent::default());
        assert!(!journal.failed && path.is_file());
    }

    #[test]
    fn a_journal_grows_up_to_its_limit_and_is_rewritten_for_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let line = put(&key("a"), &[0; 1024 * 1024], 4, None);
        while !journal.is_long(1) {
            journal.write(&line);
        }
        assert!(journal.bytes < 2 * MAX_EXTRA_BYTES);
        journal.rewrite(&JournalContent::default());
        journal.max_bytes = line.len() as u64 + 100;
        journal.write(&line);
        journal.write(&line);
        assert!(journal.is_long(1), "the second line does not fit");
        let (_, content) = Journal::open(&path).unwrap();
        journal.rewrite(&content);
        assert!(!journal.failed && !journal.is_long(1));
        journal.max_bytes = 100;
        journal.rewrite(&content);
        assert!(
            journal.failed && !journal.is_long(1),
            "the content does not fit"
        );
        assert_eq!(Journal::open(&path).unwrap().1, content, "the file stays");
    }

    proptest::proptest! {
        #[test]
        fn replaying_never_panics(text in ".*") {
            replay(&mut text.as_bytes()).unwrap();
        }
    }
}
