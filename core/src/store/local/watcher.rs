//! Watcher of the directory, based on inotify.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::error::Result;
use crate::store::local::directory_index::{DirectoryIndex, FileState};
use crate::store::local::entry_file::file_error;
use crate::store::local::prepare_directory;

/// Bound of the time between the kernel's report of a close and the release of the lock.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of checks that the directory is still the watched one, and the longest interval of retries.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of full scans, in case an event was lost.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);

/// Reads the directory and watches it until aborted.
pub(super) fn start(index: Arc<DirectoryIndex>) -> Result<AbortHandle> {
    let watcher = Watcher::open(index)?;
    Ok(tokio::spawn(watcher.run()).abort_handle())
}

struct Watcher {
    index: Arc<DirectoryIndex>,
    inotify: AsyncFd<Descriptor>,
    /// Device and inode of the watched directory.
    watched: (u64, u64),
    next_tick: Instant,
    next_scan: Instant,
    retries: Vec<Retry>,
}

/// A file to read again.
struct Retry {
    name: String,
    next: Instant,
    wait: Duration,
    /// Until this time the file may still be locked although its owner has closed it.
    unlocked_by: Instant,
}

/// What to do after a batch of events.
#[derive(PartialEq)]
enum NextStep {
    Continue,
    /// The directory was replaced or removed.
    Reopen,
}

impl Watcher {
    /// Adds the watch before listing, so that no change is missed.
    fn open(index: Arc<DirectoryIndex>) -> Result<Watcher> {
        let directory = index.directory();
        let open = || -> io::Result<AsyncFd<Descriptor>> {
            let inotify =
                Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(limit)?;
            let wanted = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            inotify.add_watch(directory, wanted).map_err(limit)?;
            // The replacement of this function is unsafe; the descriptor of `Descriptor` never changes.
            #[allow(deprecated, reason = "the descriptor of `Descriptor` never changes")]
            AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)
        };
        // The first tick detects a directory that is replaced in between.
        let unwatchable = |e| file_error("cannot watch", directory, e);
        let watched = identity(directory).map_err(unwatchable)?;
        let inotify = open().map_err(unwatchable)?;
        let now = Instant::now();
        let mut watcher = Watcher {
            index: index.clone(),
            inotify,
            watched,
            next_tick: now + TICK_INTERVAL,
            // Scan again soon: a file whose owner died during the scan may have seemed live.
            next_scan: now + UNLOCK_TIMEOUT,
            retries: Vec::new(),
        };
        watcher.schedule_retry(index.rescan()?);
        Ok(watcher)
    }

    async fn run(mut self) {
        loop {
            if self.step().await == NextStep::Reopen {
                self = self.reopen().await;
            }
        }
    }

    async fn step(&mut self) -> NextStep {
        let due = self.retries.iter().map(|retry| retry.next).min();
        let due = due.unwrap_or(self.next_tick).min(self.next_tick);
        tokio::select! {
            events = read(&self.inotify) => match events {
                Ok(events) => self.handle_events(&events),
                Err(_) => NextStep::Reopen,
            },
            () = sleep_until(due) => self.tick(),
        }
    }

    fn handle_events<'a>(&mut self, events: &'a [InotifyEvent]) -> NextStep {
        let lost =
            AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
        if events.iter().any(|event| event.mask.intersects(lost)) {
            return NextStep::Reopen;
        }
        if events
            .iter()
            .any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW))
        {
            // The kernel dropped events: scan now.
            (self.next_tick, self.next_scan) = (Instant::now(), Instant::now());
        }
        let named = |event: &'a InotifyEvent| {
            let name = event.name.as_ref()?.to_str()?;
            let came = event.mask == AddWatchFlags::IN_MOVED_TO;
            (!came || !self.index.is_own_write(name)).then_some((name, event.mask))
        };
        let (names, masks): (Vec<_>, Vec<_>) = events.iter().filter_map(named).unzip();
        let seen = self.index.refresh_all(&names);
        for ((name, mask), seen) in names.iter().zip(masks).zip(seen) {
            match seen {
                FileState::Absent => {}
                // The kernel reports the close just before it releases the lock.
                FileState::Live if !mask.contains(AddWatchFlags::IN_CLOSE_WRITE) => {}
                FileState::Live | FileState::Unreadable => {
                    self.schedule_retry([(*name).to_owned()])
                }
            }
        }
        NextStep::Continue
    }

    fn schedule_retry(&mut self, names: impl IntoIterator<Item = String>) {
        let (now, wait) = (Instant::now(), Duration::from_millis(1));
        self.retries.extend(names.into_iter().map(|name| Retry {
            name,
            next: now + wait,
            wait,
            unlocked_by: now + UNLOCK_TIMEOUT,
        }));
    }

    fn tick(&mut self) -> NextStep {
        let now = Instant::now();
        let index = &self.index;
        self.retries.retain_mut(|retry| {
            if retry.next > now {
                return true;
            }
            retry.wait = (retry.wait * 2).min(TICK_INTERVAL);
            retry.next = now + retry.wait;
            match index.refresh(&retry.name) {
                FileState::Absent => false,
                FileState::Live => now < retry.unlocked_by,
                FileState::Unreadable => true,
            }
        });
        if self.next_tick > now {
            return NextStep::Continue;
        }
        self.next_tick = now + TICK_INTERVAL;
        if prepare_directory(self.index.directory()).is_err() {
            return NextStep::Reopen;
        }
        // A removed directory that another process still has open reports no event.
        if identity(self.index.directory()).ok() != Some(self.watched) {
            return NextStep::Reopen;
        }
        if self.next_scan <= now {
            match self.index.rescan() {
                Ok(unreadable) => {
                    self.index.set_fault(None);
                    self.next_scan = now + SCAN_INTERVAL;
                    self.schedule_retry(unreadable);
                }
                // The next tick retries.
                Err(error) => {
                    tracing::warn!(backend = "local", error = %error.report(), "cannot scan the directory, retrying");
                    self.index.set_fault(Some(error));
                }
            }
        }
        NextStep::Continue
    }

    /// Creates the directory again, if it is gone, and watches it; the owners restore their entries. As long as the
    /// directory cannot be read or is not safe, the sets are stale.
    async fn reopen(self) -> Watcher {
        let mut backoff = Backoff::new(Duration::from_millis(10), TICK_INTERVAL);
        let index = self.index;
        loop {
            let watcher =
                prepare_directory(index.directory()).and_then(|()| Watcher::open(index.clone()));
            match watcher {
                Ok(watcher) => {
                    index.set_fault(None);
                    return watcher;
                }
                Err(error) => {
                    tracing::warn!(backend = "local", error = %error.report(), "cannot open the directory, retrying");
                    index.set_fault(Some(error));
                }
            }
            sleep(backoff.next_wait()).await;
        }
    }
}

/// Names the setting of the kernel whose limit an inotify call has reached.
fn limit(errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    let setting = match errno {
        Errno::EMFILE => {
            "raise the sysctl fs.inotify.max_user_instances, or the limit of open files"
        }
        Errno::ENOSPC => "raise the sysctl fs.inotify.max_user_watches",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {setting}"))
}

fn identity(directory: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::metadata(directory)?;
    Ok((found.dev(), found.ino()))
}

/// inotify as a file descriptor for tokio.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Maximum number of events that leave room for the longest one in a read buffer: after so few, none is
/// left.
const MAX_EVENTS_WITH_ROOM: usize = 8;

async fn read(inotify: &AsyncFd<Descriptor>) -> io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = inotify.readable().await?;
        match inotify.get_ref().0.read_events() {
            Ok(events) => {
                if events.len() <= MAX_EVENTS_WITH_ROOM {
                    ready.clear_ready();
                }
                return Ok(events);
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_inotify_is_named_with_its_setting() {
        let text = |errno| limit(errno).to_string();
        assert!(text(Errno::EMFILE).contains("fs.inotify.max_user_instances"));
        assert!(text(Errno::ENOSPC).contains("fs.inotify.max_user_watches"));
        assert!(!text(Errno::EACCES).contains("sysctl"));
    }
}
