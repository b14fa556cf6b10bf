//! Follows the directory by inotify.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Result;
use crate::store::local::file::failed;
use crate::store::local::prepare;
use crate::store::local::shelf::Shelf;
use crate::watch::Backoff;

/// How long the kernel may take from telling that a file is closed to dropping its lock.
const UNLOCK: Duration = Duration::from_secs(1);

/// Reads the directory and keeps following it until aborted.
pub(super) fn start(shelf: Arc<Shelf>) -> Result<AbortHandle> {
    let watcher = Watcher::open(shelf)?;
    Ok(tokio::spawn(watcher.run()).abort_handle())
}

struct Watcher {
    shelf: Arc<Shelf>,
    inotify: AsyncFd<Descriptor>,
    /// Files that were closed by their owner but still seemed locked: look again then.
    unlocking: Vec<Unlocking>,
}

struct Unlocking {
    name: String,
    next: Instant,
    wait: Duration,
}

/// What to do after some events.
enum Next {
    Continue,
    /// The kernel dropped events.
    Rescan,
    /// The directory itself is gone.
    Reopen,
}

impl Watcher {
    /// First the watch, then the list: nothing falls between them.
    fn open(shelf: Arc<Shelf>) -> Result<Watcher> {
        let open = || -> io::Result<AsyncFd<Descriptor>> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let wanted = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            inotify.add_watch(shelf.directory(), wanted)?;
            // What replaces this is unsafe to call; that our descriptor stays the same is plain here.
            #[allow(deprecated, reason = "the descriptor of `Descriptor` never changes")]
            AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)
        };
        let inotify = open().map_err(|e| failed("cannot watch", shelf.directory(), e))?;
        shelf.rescan()?;
        Ok(Watcher {
            shelf,
            inotify,
            unlocking: Vec::new(),
        })
    }

    async fn run(mut self) {
        loop {
            match self.step().await {
                Next::Continue => {}
                Next::Rescan => {
                    if let Err(error) = self.shelf.rescan() {
                        log::warn!("{error}");
                    }
                }
                Next::Reopen => self = self.reopen().await,
            }
        }
    }

    async fn step(&mut self) -> Next {
        let due = self.unlocking.iter().map(|u| u.next).min();
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            events = read(&self.inotify) => match events {
                Ok(events) => self.take(&events),
                Err(_) => Next::Reopen,
            },
            () = sleep_until(due), if !self.unlocking.is_empty() => {
                self.look_again();
                Next::Continue
            }
        }
    }

    fn take(&mut self, events: &[InotifyEvent]) -> Next {
        let mut next = Next::Continue;
        let lost =
            AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
        for event in events {
            if event.mask.intersects(lost) {
                return Next::Reopen;
            }
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                next = Next::Rescan;
            }
            let Some(name) = event.name.as_ref().and_then(|name| name.to_str()) else {
                continue;
            };
            // The kernel tells of the close just before it drops the lock.
            if self.shelf.refresh(name) && event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
                let wait = Duration::from_millis(1);
                let next = Instant::now() + wait;
                self.unlocking.push(Unlocking {
                    name: name.to_owned(),
                    next,
                    wait,
                });
            }
        }
        next
    }

    fn look_again(&mut self) {
        let now = Instant::now();
        let shelf = &self.shelf;
        self.unlocking.retain_mut(|file| {
            if file.next > now {
                return true;
            }
            file.wait *= 2;
            file.next = now + file.wait;
            shelf.refresh(&file.name) && file.wait < UNLOCK
        });
    }

    /// Makes the directory again and starts over; the owners of what was in it put it back.
    async fn reopen(self) -> Watcher {
        let mut backoff = Backoff::default();
        let shelf = self.shelf;
        loop {
            let again = prepare(shelf.directory()).and_then(|()| Watcher::open(shelf.clone()));
            match again {
                Ok(watcher) => return watcher,
                Err(error) => log::warn!("{error}"),
            }
            sleep(backoff.next_wait()).await;
        }
    }
}

/// What tokio needs to know of inotify.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

async fn read(inotify: &AsyncFd<Descriptor>) -> io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = inotify.readable().await?;
        match inotify.get_ref().0.read_events() {
            Ok(events) => return Ok(events),
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}
