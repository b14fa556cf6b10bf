//! File of one entry: its name, its format, and the lock that shows that its owner is alive.
//!
//! The name is the escaped key, then `~` and numbers that are unique to the owner and grow with time. The
//! format is a line `libdiscover 1 CREATED KEY`, then the value. A file is written under a temporary name,
//! locked, and then renamed, so that other processes only see complete and locked files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::time::{ClockId, clock_gettime};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::NotInherited;
use crate::kv::{Entry, Key, Lifetime, MAX_VALUE_BYTES};

const MAGIC: &str = "libdiscover 1";
/// Maximum length of a file name on Linux.
const MAX_FILE_NAME: usize = 255;
/// Keeps names readable: slashes become `+`, addresses stay.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b':');
/// Suffix of the name of a persistent entry.
const PERSISTENT_SUFFIX: &str = "~kept";
/// Prefix of the name of an incomplete file.
const TEMP_PREFIX: &str = ".libdiscover-";

/// An entry that this process wrote. The entry is live while the file is open.
pub(super) struct OwnedFile {
    file: NotInherited<LockedFile>,
    path: PathBuf,
    name: String,
}

impl OwnedFile {
    /// Writes the entry so that other processes see it complete or not at all.
    pub(super) fn new(
        directory: &Path,
        entry: &Entry,
        created: u64,
        grant: u64,
    ) -> Result<OwnedFile> {
        let name = file_name(entry, grant)?;
        let path = directory.join(&name);
        let temp_path = directory.join(temp_name());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut text = format!("{MAGIC} {created} {}\n", entry.key).into_bytes();
        text.extend_from_slice(&entry.value);
        let publish = || -> std::io::Result<NotInherited<LockedFile>> {
            let file = NotInherited::open(|| {
                Ok(LockedFile(lock_exclusively(options.open(&temp_path)?)?))
            })?;
            let mut writer: &File = &file.0;
            writer.write_all(&text)?;
            fs::rename(&temp_path, &path)?;
            Ok(file)
        };
        let file = publish().map_err(|e| {
            let _ = fs::remove_file(&temp_path);
            file_error("cannot write", &path, e)
        })?;
        Ok(OwnedFile { file, path, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the path still names this file.
    pub(super) fn is_in_place(&self) -> bool {
        match (fs::symlink_metadata(&self.path), self.file.0.metadata()) {
            (Ok(seen), Ok(own)) => seen.ino() == own.ino() && seen.dev() == own.dev(),
            _ => false,
        }
    }

    /// Deletes the file. Its name is unique, so no other owner's file is deleted.
    pub(super) fn remove(&self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Result of probing a file.
pub(super) enum ProbeResult {
    /// A live entry.
    Live(EntryRecord),
    /// The owner is dead; the file was removed.
    Dead,
    /// The file does not exist or is not an entry.
    Absent,
}

/// A live entry as read.
#[derive(Clone)]
pub(super) struct EntryRecord {
    pub(super) key: Key,
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    /// The file with the highest serial counts if a key has several.
    pub(super) serial: u64,
}

impl EntryRecord {
    /// Returns the record of a file that was written with these values.
    pub(super) fn new(entry: &Entry, created: u64, grant: u64) -> EntryRecord {
        EntryRecord {
            key: entry.key.clone(),
            value: entry.value.to_vec(),
            created,
            serial: grant,
        }
    }
}

/// Reads a file if its owner is alive, and removes it otherwise. Foreign files are left alone.
pub(super) fn probe(directory: &Path, name: &str) -> Result<ProbeResult> {
    let Some((key, serial)) = parse_name(name) else {
        return Ok(ProbeResult::Absent);
    };
    let path = directory.join(name);
    let unreadable = |e| file_error("cannot read", &path, e);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let mut file = match options.read(true).custom_flags(flags.bits()).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(ProbeResult::Absent),
        // A symbolic link is foreign.
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Ok(ProbeResult::Absent),
        Err(e) => return Err(unreadable(e)),
    };
    let about = file.metadata().map_err(unreadable)?;
    // The directory may have been writable by others, or may belong to root.
    if !about.is_file() || about.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(ProbeResult::Absent);
    }
    let limit = (MAX_VALUE_BYTES + 4096) as u64;
    // Room for more than the content, so that the second read finds the end.
    let mut bytes = Vec::with_capacity(about.len().min(limit) as usize + 64);
    (&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let Some(record) = parse(&bytes, serial).filter(|record| escape(&record.key) == key) else {
        tracing::warn!(backend = "local", file = %path.display(), "ignoring file not written by libdiscover");
        return Ok(ProbeResult::Absent);
    };
    if is_persistent(name) {
        return Ok(ProbeResult::Live(record));
    }
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Ok(ProbeResult::Live(record)),
        Err((_, errno)) => Err(file_error("cannot lock", &path, errno.into())),
        Ok(_) => {
            let _ = fs::remove_file(&path);
            Ok(ProbeResult::Dead)
        }
    }
}

/// Removes an incomplete file of a process that died.
pub(super) fn remove_if_abandoned(directory: &Path, name: &str) {
    let path = directory.join(name);
    let old = |path: &Path| {
        let found = fs::symlink_metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)?;
        found
            .modified()
            .ok()?
            .elapsed()
            .ok()
            .filter(|age| age.as_secs() > 60)
    };
    if is_temp_name(name)
        && old(&path).is_some()
        && File::open(&path).is_ok_and(|file| lock_exclusively(file).is_ok())
    {
        let _ = fs::remove_file(&path);
    }
}

/// Returns microseconds since boot, on the clock that all processes of the machine share. Never returns a
/// value twice in one process. The values of 285 years are exact in JavaScript.
pub(super) fn now_micros() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| {
        t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000
    });
    let next = |last: u64| Some(now.max(last + 1));
    match LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(last) | Err(last) => now.max(last + 1),
    }
}

/// Returns an error about a file, with the kind that callers act on.
pub(super) fn file_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        std::io::ErrorKind::NotFound => ErrorKind::Unavailable,
        _ => ErrorKind::Resource,
    };
    Error::caused_by(kind, format!("{what} {}", path.display()), error)
}

/// A locked file; the lock shows that the owner is alive.
pub(super) struct LockedFile(pub(super) Flock<File>);

impl AsRawFd for LockedFile {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

pub(super) fn lock_exclusively(file: File) -> std::io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Escapes a key for a file name.
pub(super) fn escape(key: &Key) -> String {
    let part = |part| utf8_percent_encode(part, ESCAPED).to_string();
    key.as_str()
        .split('/')
        .map(part)
        .collect::<Vec<_>>()
        .join("+")
}

/// Reverses [`escape`].
fn unescape(escaped: &str) -> Option<Key> {
    let path = escaped.replace('+', "/");
    let path = percent_decode_str(&path).decode_utf8().ok()?;
    Key::new(&path).ok()
}

/// Returns the file name of an entry.
pub(super) fn file_name(entry: &Entry, grant: u64) -> Result<String> {
    let key = escape(&entry.key);
    let name = match entry.lifetime {
        // Every write has a name of its own, so that none replaces another.
        Lifetime::Leased | Lifetime::LeasedDirectory => {
            let (process, now) = (std::process::id(), now_micros());
            format!("{key}~{grant:016x}.{process:x}.{now:016x}")
        }
        Lifetime::Persistent => format!("{key}{PERSISTENT_SUFFIX}"),
    };
    if name.len() > MAX_FILE_NAME {
        return Err(Error::invalid(format!(
            "service name and address need a file name of {} bytes; local:// takes {MAX_FILE_NAME}",
            name.len()
        )));
    }
    Ok(name)
}

/// Returns the escaped key of the file name of an entry.
pub(super) fn escaped_key(name: &str) -> Option<&str> {
    parse_name(name).map(|(key, _)| key)
}

/// Returns the key of the file name of an entry.
pub(super) fn key_of_name(name: &str) -> Option<Key> {
    escaped_key(name).and_then(unescape)
}

/// Returns true if the file name is that of a persistent entry.
pub(super) fn is_persistent(name: &str) -> bool {
    name.ends_with(PERSISTENT_SUFFIX)
}

/// Returns the escaped key and the serial of the file name of an entry.
fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (key, tail) = name.rsplit_once('~')?;
    if tail == &PERSISTENT_SUFFIX[1..] {
        return Some((key, 0));
    }
    let (serial, rest) = tail.split_once('.')?;
    let (process, now) = rest.split_once('.')?;
    u32::from_str_radix(process, 16).ok()?;
    Some((key, hexadecimal(serial)?)).filter(|_| hexadecimal(now).is_some())
}

fn temp_name() -> String {
    format!(
        "{TEMP_PREFIX}{:x}.{:016x}",
        std::process::id(),
        now_micros()
    )
}

fn is_temp_name(name: &str) -> bool {
    let rest = name
        .strip_prefix(TEMP_PREFIX)
        .and_then(|rest| rest.split_once('.'));
    rest.is_some_and(|(process, now)| {
        u32::from_str_radix(process, 16).is_ok() && hexadecimal(now).is_some()
    })
}

/// Parses sixteen hexadecimal digits.
fn hexadecimal(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}

fn parse(bytes: &[u8], serial: u64) -> Option<EntryRecord> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end])
        .ok()?
        .strip_prefix(MAGIC)?
        .strip_prefix(' ')?;
    let (created, key) = line.split_once(' ')?;
    Some(EntryRecord {
        key: Key::new(key).ok()?,
        value: bytes[end + 1..].to_vec(),
        created: created.parse().ok()?,
        serial,
    })
}
