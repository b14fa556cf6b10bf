//! Follows the directory by inotify.

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
use crate::store::local::directory_index::{DirectoryIndex, Seen};
use crate::store::local::entry_file::failed;
use crate::store::local::prepare;

/// How long the kernel may take from telling that a file is closed to dropping its lock.
const UNLOCK: Duration = Duration::from_secs(1);
/// How often to see that the directory is still the one that is watched, and the slowest pace of
/// looking again at what could not be looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often to look at everything, in case that something was not told.
const SCAN: Duration = Duration::from_secs(60);

/// Reads the directory and keeps following it until aborted.
pub(super) fn start(shelf: Arc<DirectoryIndex>) -> Result<AbortHandle> {
    let watcher = Watcher::open(shelf)?;
    Ok(tokio::spawn(watcher.run()).abort_handle())
}

struct Watcher {
    shelf: Arc<DirectoryIndex>,
    inotify: AsyncFd<Descriptor>,
    /// Device and inode of the directory that is watched.
    watched: (u64, u64),
    next_tick: Instant,
    next_scan: Instant,
    again: Vec<Again>,
}

/// A file to look at again.
struct Again {
    name: String,
    next: Instant,
    wait: Duration,
    /// Until when it may still be locked although its owner has closed it.
    unlocked_by: Instant,
}

/// What to do after some events.
#[derive(PartialEq)]
enum Next {
    Continue,
    /// The directory is another one, or none.
    Reopen,
}

impl Watcher {
    /// First the watch, then the list: nothing falls between them.
    fn open(shelf: Arc<DirectoryIndex>) -> Result<Watcher> {
        let directory = shelf.directory();
        let open = || -> io::Result<AsyncFd<Descriptor>> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let wanted = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            inotify.add_watch(directory, wanted)?;
            // What replaces this is unsafe to call; that our descriptor stays the same is plain here.
            #[allow(deprecated, reason = "the descriptor of `Descriptor` never changes")]
            AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)
        };
        // A directory that is exchanged in between is found out by the first tick.
        let unwatchable = |e| failed("cannot watch", directory, e);
        let watched = identity(directory).map_err(unwatchable)?;
        let inotify = open().map_err(unwatchable)?;
        let now = Instant::now();
        let mut watcher = Watcher {
            shelf: shelf.clone(),
            inotify,
            watched,
            next_tick: now + TICK,
            // Once more soon: a file whose owner died as we looked may have seemed alive.
            next_scan: now + UNLOCK,
            again: Vec::new(),
        };
        watcher.look_again_at(shelf.rescan()?);
        Ok(watcher)
    }

    async fn run(mut self) {
        loop {
            if self.step().await == Next::Reopen {
                self = self.reopen().await;
            }
        }
    }

    async fn step(&mut self) -> Next {
        let due = self.again.iter().map(|again| again.next).min();
        let due = due.unwrap_or(self.next_tick).min(self.next_tick);
        tokio::select! {
            events = read(&self.inotify) => match events {
                Ok(events) => self.take(&events),
                Err(_) => Next::Reopen,
            },
            () = sleep_until(due) => self.tick(),
        }
    }

    fn take<'a>(&mut self, events: &'a [InotifyEvent]) -> Next {
        let lost =
            AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
        if events.iter().any(|event| event.mask.intersects(lost)) {
            return Next::Reopen;
        }
        if events
            .iter()
            .any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW))
        {
            // The kernel dropped events: look at everything, now.
            (self.next_tick, self.next_scan) = (Instant::now(), Instant::now());
        }
        let named = |event: &'a InotifyEvent| {
            let name = event.name.as_ref()?.to_str()?;
            let came = event.mask == AddWatchFlags::IN_MOVED_TO;
            (!came || !self.shelf.is_own_news(name)).then_some((name, event.mask))
        };
        let (names, masks): (Vec<_>, Vec<_>) = events.iter().filter_map(named).unzip();
        let seen = self.shelf.refresh_all(&names);
        for ((name, mask), seen) in names.iter().zip(masks).zip(seen) {
            match seen {
                Seen::Gone => {}
                // The kernel tells of the close just before it drops the lock.
                Seen::Alive if !mask.contains(AddWatchFlags::IN_CLOSE_WRITE) => {}
                Seen::Alive | Seen::Unreadable => self.look_again_at([(*name).to_owned()]),
            }
        }
        Next::Continue
    }

    fn look_again_at(&mut self, names: impl IntoIterator<Item = String>) {
        let (now, wait) = (Instant::now(), Duration::from_millis(1));
        self.again.extend(names.into_iter().map(|name| Again {
            name,
            next: now + wait,
            wait,
            unlocked_by: now + UNLOCK,
        }));
    }

    fn tick(&mut self) -> Next {
        let now = Instant::now();
        let shelf = &self.shelf;
        self.again.retain_mut(|again| {
            if again.next > now {
                return true;
            }
            again.wait = (again.wait * 2).min(TICK);
            again.next = now + again.wait;
            match shelf.refresh(&again.name) {
                Seen::Gone => false,
                Seen::Alive => now < again.unlocked_by,
                Seen::Unreadable => true,
            }
        });
        if self.next_tick > now {
            return Next::Continue;
        }
        self.next_tick = now + TICK;
        // A removed directory that somebody still has open tells nothing of its removal.
        if identity(self.shelf.directory()).ok() != Some(self.watched) {
            return Next::Reopen;
        }
        if self.next_scan <= now {
            match self.shelf.rescan() {
                Ok(unreadable) => {
                    self.next_scan = now + SCAN;
                    self.look_again_at(unreadable);
                }
                // Again at the next tick.
                Err(error) => {
                    tracing::warn!(backend = "local", error = %error.report(), "cannot scan the directory, retrying");
                }
            }
        }
        Next::Continue
    }

    /// Makes the directory again and starts over; the owners of what was in it put it back.
    async fn reopen(self) -> Watcher {
        let mut backoff = Backoff::new(Duration::from_millis(10), TICK);
        let shelf = self.shelf;
        loop {
            let again = prepare(shelf.directory()).and_then(|()| Watcher::open(shelf.clone()));
            match again {
                Ok(watcher) => return watcher,
                Err(error) => {
                    tracing::warn!(backend = "local", error = %error.report(), "cannot open the directory, retrying");
                }
            }
            sleep(backoff.next_wait()).await;
        }
    }
}

fn identity(directory: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::metadata(directory)?;
    Ok((found.dev(), found.ino()))
}

/// What tokio needs to know of inotify.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// So many events leave room for the longest one in what is read at once: there are no more then.
const FEW: usize = 8;

async fn read(inotify: &AsyncFd<Descriptor>) -> io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = inotify.readable().await?;
        match inotify.get_ref().0.read_events() {
            Ok(events) => {
                if events.len() <= FEW {
                    ready.clear_ready();
                }
                return Ok(events);
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}
