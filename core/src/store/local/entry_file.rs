//! One entry as a file: its name, its form, and the lock that says that its owner lives.
//!
//! Name: the key, escaped, then `~` and numbers that are unique to the owner and grow with time.
//! Form: `libdiscover 1 CREATED KEY\n`, then the value. A file is written under a hidden name, locked,
//! and then renamed, so that whoever sees it sees it whole and locked.

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
use crate::kv::{Entry, Key, Lifetime, MAX_VALUE};

const MAGIC: &str = "libdiscover 1";
/// The longest file name that Linux file systems take.
const MAX_FILE_NAME: usize = 255;
/// Readable in a listing: slashes become `+`, addresses stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b':');
/// The end of the name of an entry that outlives its writer.
const KEPT: &str = "~kept";
/// The beginning of the name of a file that is being written.
const HIDDEN: &str = ".libdiscover-";

/// An entry that this process wrote; its owner lives as long as the file is open.
pub(super) struct OwnedFile {
    file: NotInherited<OwnFd>,
    path: PathBuf,
    name: String,
}

impl OwnedFile {
    /// Writes the entry so that other processes see it whole.
    pub(super) fn new(
        directory: &Path,
        entry: &Entry,
        created: u64,
        grant: u64,
    ) -> Result<OwnedFile> {
        let name = file_name(entry, grant)?;
        let path = directory.join(&name);
        let hidden = directory.join(hidden_name());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut text = format!("{MAGIC} {created} {}\n", entry.key).into_bytes();
        text.extend_from_slice(&entry.value);
        let publish = || -> std::io::Result<NotInherited<OwnFd>> {
            let file = NotInherited::open(|| Ok(OwnFd(lock(options.open(&hidden)?)?)))?;
            let mut writer: &File = &file.0;
            writer.write_all(&text)?;
            fs::rename(&hidden, &path)?;
            Ok(file)
        };
        let file = publish().map_err(|e| {
            let _ = fs::remove_file(&hidden);
            failed("cannot write", &path, e)
        })?;
        Ok(OwnedFile { file, path, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file that others see is still this one.
    pub(super) fn is_in_place(&self) -> bool {
        match (fs::symlink_metadata(&self.path), self.file.0.metadata()) {
            (Ok(seen), Ok(own)) => seen.ino() == own.ino() && seen.dev() == own.dev(),
            _ => false,
        }
    }

    /// Takes the file away from the eyes of others. The name is ours alone, so it is no one else's.
    pub(super) fn remove(&self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a look at a file found.
pub(super) enum ProbeResult {
    /// A live entry.
    Alive(Record),
    /// The owner is dead; the file has been removed.
    Dead,
    /// There is no such file, or it is none of ours.
    Nothing,
}

/// A live entry as read.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    /// Which of several files for one key counts: the highest.
    pub(super) serial: u64,
}

impl Record {
    /// What is read in a file that was written so.
    pub(super) fn of(entry: &Entry, created: u64, grant: u64) -> Record {
        Record {
            key: entry.key.clone(),
            value: entry.value.to_vec(),
            created,
            serial: grant,
        }
    }
}

/// Reads a file if its owner lives, and removes it if not. What we did not write is left alone.
pub(super) fn look(directory: &Path, name: &str) -> Result<ProbeResult> {
    let Some((key, serial)) = parse_name(name) else {
        return Ok(ProbeResult::Nothing);
    };
    let path = directory.join(name);
    let unreadable = |e| failed("cannot read", &path, e);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let mut file = match options.read(true).custom_flags(flags.bits()).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(ProbeResult::Nothing),
        // A symbolic link is none of ours.
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Ok(ProbeResult::Nothing),
        Err(e) => return Err(unreadable(e)),
    };
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Ok(ProbeResult::Nothing);
    }
    let limit = (MAX_VALUE + 4096) as u64;
    // Room for all of it and some more, so that the first read takes it and the second finds the end.
    let mut bytes = Vec::with_capacity(about.len().min(limit) as usize + 64);
    (&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let Some(record) = parse(&bytes, serial).filter(|record| escape(&record.key) == key) else {
        tracing::warn!(backend = "local", file = %path.display(), "ignoring file not written by libdiscover");
        return Ok(ProbeResult::Nothing);
    };
    if is_kept(name) {
        return Ok(ProbeResult::Alive(record));
    }
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Ok(ProbeResult::Alive(record)),
        Err((_, errno)) => Err(failed("cannot lock", &path, errno.into())),
        Ok(_) => {
            let _ = fs::remove_file(&path);
            Ok(ProbeResult::Dead)
        }
    }
}

/// Removes a file half-written by a process that died over it.
pub(super) fn sweep(directory: &Path, name: &str) {
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
    if is_hidden_name(name)
        && old(&path).is_some()
        && File::open(&path).is_ok_and(|file| lock(file).is_ok())
    {
        let _ = fs::remove_file(&path);
    }
}

/// Microseconds since the machine started, the same clock for all its processes, never twice the same
/// in one. Half the microseconds of 570 years fit into the integers of JavaScript.
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

/// An error about a file, of the kind that a program can act on.
pub(super) fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        std::io::ErrorKind::NotFound => ErrorKind::Unavailable,
        _ => ErrorKind::Resource,
    };
    Error::caused_by(kind, format!("{what} {}", path.display()), error)
}

/// What says that the owner lives.
pub(super) struct OwnFd(pub(super) Flock<File>);

impl AsRawFd for OwnFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

pub(super) fn lock(file: File) -> std::io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// A key as it is written in names.
pub(super) fn escape(key: &Key) -> String {
    let part = |part| utf8_percent_encode(part, ESCAPED).to_string();
    key.as_str()
        .split('/')
        .map(part)
        .collect::<Vec<_>>()
        .join("+")
}

/// The key that is escaped so.
fn unescape(escaped: &str) -> Option<Key> {
    let path = escaped.replace('+', "/");
    let path = percent_decode_str(&path).decode_utf8().ok()?;
    Key::new(&path).ok()
}

/// The name of the file of an entry.
pub(super) fn file_name(entry: &Entry, grant: u64) -> Result<String> {
    let key = escape(&entry.key);
    let name = match entry.lifetime {
        // Every writing has a name of its own, an update too, so that none replaces another.
        Lifetime::Leased | Lifetime::LeasedFolder => {
            let (process, now) = (std::process::id(), now_micros());
            format!("{key}~{grant:016x}.{process:x}.{now:016x}")
        }
        Lifetime::Kept => format!("{key}{KEPT}"),
    };
    if name.len() > MAX_FILE_NAME {
        return Err(Error::invalid(format!(
            "service name and address need a file name of {} bytes; local:// takes {MAX_FILE_NAME}",
            name.len()
        )));
    }
    Ok(name)
}

/// The escaped key of a name that is of our form.
pub(super) fn key_of(name: &str) -> Option<&str> {
    parse_name(name).map(|(key, _)| key)
}

/// The key of a file of ours by its name alone.
pub(super) fn full_key_of(name: &str) -> Option<Key> {
    key_of(name).and_then(unescape)
}

/// Whether a file of that name outlives its writer.
pub(super) fn is_kept(name: &str) -> bool {
    name.ends_with(KEPT)
}

/// The escaped key and the serial of a name that is of our form.
fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (key, tail) = name.rsplit_once('~')?;
    if tail == &KEPT[1..] {
        return Some((key, 0));
    }
    let (serial, rest) = tail.split_once('.')?;
    let (process, now) = rest.split_once('.')?;
    u32::from_str_radix(process, 16).ok()?;
    Some((key, hexadecimal(serial)?)).filter(|_| hexadecimal(now).is_some())
}

fn hidden_name() -> String {
    format!("{HIDDEN}{:x}.{:016x}", std::process::id(), now_micros())
}

fn is_hidden_name(name: &str) -> bool {
    let rest = name
        .strip_prefix(HIDDEN)
        .and_then(|rest| rest.split_once('.'));
    rest.is_some_and(|(process, now)| {
        u32::from_str_radix(process, 16).is_ok() && hexadecimal(now).is_some()
    })
}

/// Sixteen hexadecimal digits.
fn hexadecimal(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}

fn parse(bytes: &[u8], serial: u64) -> Option<Record> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end])
        .ok()?
        .strip_prefix(MAGIC)?
        .strip_prefix(' ')?;
    let (created, key) = line.split_once(' ')?;
    Some(Record {
        key: Key::new(key).ok()?,
        value: bytes[end + 1..].to_vec(),
        created: created.parse().ok()?,
        serial,
    })
}
