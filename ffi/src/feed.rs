//! Feeds: events that the program drains, and a file descriptor that signals them.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use discover_core::embed::{Error, ErrorKind, Feed, Result, SetHandle, Waker};

use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::event::{deliver, discover_event_fn};
use crate::fallible_call::try_call;
use crate::status::discover_status;

/// The events of a set for a program with its own event loop (poll, epoll, libuv, GLib). The program waits
/// until the feed's file descriptor is readable and then drains the feed.
///
/// Release: discover_feed_cancel(). Threads: one at a time.
pub struct discover_feed {
    feed: Feed,
    ready: Arc<EventFd>,
}

impl discover_feed {
    pub(crate) fn owned_ptr(set: &SetHandle) -> Result<*mut discover_feed> {
        let ready = Arc::new(EventFd::new()?);
        let feed = set.feed(Box::new(EventFdWaker(ready.clone())))?;
        Ok(Box::into_raw(Box::new(discover_feed { feed, ready })))
    }
}

/// An eventfd: a file descriptor that is readable once it is set.
struct EventFd(File);

impl EventFd {
    fn new() -> Result<EventFd> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            let cause = std::io::Error::last_os_error();
            let text = "discover_set_feed: cannot create an eventfd";
            return Err(Error::caused_by(ErrorKind::Resource, text, cause));
        }
        // SAFETY: the descriptor is open and has no other owner.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
    }

    fn set(&self) {
        // Fails only when the counter is full, and then the descriptor is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    fn clear(&self) {
        // Fails only if the descriptor is not readable.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

/// Makes the descriptor readable for new events, and for the end of all events when it is dropped.
struct EventFdWaker(Arc<EventFd>);

impl Waker for EventFdWaker {
    fn wake(&mut self) {
        self.0.set();
    }
}

impl Drop for EventFdWaker {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Returns a file descriptor that is readable when events may be pending and when the client has been
/// closed; -1 for NULL.
///
/// Only poll the descriptor; do not read, write or close it. discover_feed_cancel() closes it, so remove
/// it from the event loop first.
///
/// feed  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_fd(feed: Option<&discover_feed>) -> c_int {
    value_or(-1, || Some(feed?.ready.0.as_raw_fd()))
}

/// Passes the events since the last drain to on_event, within this call and on this thread.
///
/// The events are those of discover_set_subscribe(), so one handler can serve both. The call does not
/// block; there may be no events. It makes the file descriptor unreadable until there are more events.
///
/// feed       [in, borrowed]            not to be used by on_event
/// on_event                             called with each event; must not throw or longjmp
/// user_data  [in, borrowed, optional]  passed to on_event
/// error      [out, owned, optional]    the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_CLOSED if the client is closed; no event will follow.
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_drain(
    feed: Option<&mut discover_feed>,
    on_event: discover_event_fn,
    user_data: *mut c_void,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_feed_drain", error, |args| {
        let feed = args.required(feed, "feed")?;
        let on_event = args.required(on_event, "on_event")?;
        // A forked child shares the descriptor with its parent and must not clear it. After closing, the
        // descriptor stays readable.
        feed.feed.check()?;
        // Clear before draining: an event that arrives in between makes it readable again.
        feed.ready.clear();
        for event in feed.feed.drain() {
            deliver(on_event, user_data, &event);
        }
        Ok(())
    })
}

/// Ends a feed, closes its file descriptor and releases the feed.
///
/// feed  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_cancel(feed: Option<Box<discover_feed>>) {
    release(feed);
}
