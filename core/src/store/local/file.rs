//! One entry as a file: its name, its form, and the lock that says that its owner lives.
//!
//! Name: the key, escaped, then `~` and a number that is unique to the owner and grows with time.
//! Form: `libdiscover 1 CREATED KEY\n`, then the value. A file is written under a hidden name, locked,
//! and then renamed, so that whoever sees it sees it whole and locked.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::time::{ClockId, clock_gettime};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, Kind, Result};
use crate::sys::NotInherited;
use crate::tree::{Entry, Key, Lifetime, MAX_VALUE};

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

/// An entry that this process wrote; its owner lives as long as the file is open.
pub(super) struct Written {
    /// Before the file, so that it goes before it.
    _not_inherited: NotInherited,
    file: Flock<File>,
    path: PathBuf,
    name: String,
    lifetime: Lifetime,
}

impl Written {
    /// Writes the entry so that other processes see it whole.
    pub(super) fn new(
        directory: &Path,
        entry: &Entry,
        created: u64,
        grant: u64,
    ) -> Result<Written> {
        let name = file_name(entry, grant)?;
        let path = directory.join(&name);
        let hidden = directory.join(format!(".{:016x}.{}", now_micros(), std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options
            .open(&hidden)
            .map_err(|e| failed("cannot write", &hidden, e))?;
        let publish = || -> std::io::Result<Flock<File>> {
            let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map_err(|(_, errno)| std::io::Error::from(errno))?;
            file.write_all(format!("{MAGIC} {created} {}\n", entry.key).as_bytes())?;
            file.write_all(&entry.value)?;
            fs::rename(&hidden, &path)?;
            Ok(file)
        };
        let file = publish().map_err(|e| {
            let _ = fs::remove_file(&hidden);
            failed("cannot write", &path, e)
        })?;
        Ok(Written {
            _not_inherited: NotInherited::new(&file),
            file,
            path,
            name,
            lifetime: entry.lifetime,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Whether the file that others see is still this one.
    pub(super) fn is_in_place(&self) -> bool {
        match (fs::symlink_metadata(&self.path), self.file.metadata()) {
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
pub(super) enum Look {
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

/// Reads a file if its owner lives, and removes it if not.
pub(super) fn look(directory: &Path, name: &str) -> Result<Look> {
    let Some(serial) = serial(name) else {
        return Ok(Look::Nothing);
    };
    let path = directory.join(name);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(&path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Look::Nothing),
        Err(e) => return Err(failed("cannot read", &path, e)),
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(Look::Nothing);
    }
    let mut file = if name.ends_with(KEPT) {
        file
    } else {
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed("cannot lock", &path, errno.into())),
            Ok(_) => {
                let _ = fs::remove_file(&path);
                return Ok(Look::Dead);
            }
        }
    };
    let mut bytes = Vec::new();
    let limit = (MAX_VALUE + 4096) as u64;
    (&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| failed("cannot read", &path, e))?;
    match parse(&bytes, serial) {
        Some(record) => Ok(Look::Alive(record)),
        None => {
            log::warn!("skipping {}: not written by libdiscover", path.display());
            Ok(Look::Nothing)
        }
    }
}

/// Whether a name is that of a file half-written by a process that died over it.
pub(super) fn is_leftover(directory: &Path, name: &str) -> bool {
    let age = fs::symlink_metadata(directory.join(name))
        .ok()
        .and_then(|m| m.modified().ok());
    let old = age
        .and_then(|at| at.elapsed().ok())
        .is_some_and(|age| age.as_secs() > 60);
    name.starts_with('.') && old
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
        ErrorKind::PermissionDenied => Kind::PermissionDenied,
        ErrorKind::NotFound => Kind::Unavailable,
        _ => Kind::Resource,
    };
    Error::caused_by(kind, format!("{what} {}", path.display()), error)
}

fn file_name(entry: &Entry, grant: u64) -> Result<String> {
    let key = entry
        .key
        .as_str()
        .split('/')
        .map(|part| utf8_percent_encode(part, ESCAPED).to_string());
    let key = key.collect::<Vec<_>>().join("+");
    let name = match entry.lifetime {
        // Every writing has a name of its own, an update too, so that no file is ever replaced.
        Lifetime::Leased => {
            format!(
                "{key}~{:016x}.{:x}.{:x}",
                grant,
                std::process::id(),
                now_micros()
            )
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

fn serial(name: &str) -> Option<u64> {
    let (_, tail) = name.rsplit_once('~')?;
    if tail == "kept" {
        return Some(0);
    }
    u64::from_str_radix(tail.split('.').next()?, 16).ok()
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
