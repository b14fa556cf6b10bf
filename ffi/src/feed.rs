//! Events to be fetched, and a descriptor that says when.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use discover_core::embed::{Bell, Error, ErrorKind, Feed, Result, SetHandle};

use crate::error::discover_error;
use crate::event::{discover_event_fn, tell};
use crate::given::given;
use crate::guard::{call, read, release};
use crate::status::discover_status;

/// The events of a set, for a program that has a loop of its own (poll, epoll, libuv, GLib...): wait
/// until the descriptor is readable, then drain.
///
/// Release: discover_feed_cancel(). Threads: one at a time.
pub struct discover_feed {
    feed: Feed,
    light: Arc<Light>,
}

impl discover_feed {
    pub(crate) fn give(set: &SetHandle) -> Result<*mut discover_feed> {
        let light = Arc::new(Light::new()?);
        let feed = set.feed(Box::new(Switch(light.clone())))?;
        Ok(Box::into_raw(Box::new(discover_feed { feed, light })))
    }
}

/// A descriptor that is readable while the light is on.
struct Light(File);

impl Light {
    fn new() -> Result<Light> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            let cause = std::io::Error::last_os_error();
            let text = "cannot make a descriptor for the feed";
            return Err(Error::caused_by(ErrorKind::Resource, text, cause));
        }
        // SAFETY: it is open, and nobody else's.
        Ok(Light(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
    }

    fn on(&self) {
        // Fails only after 2^64 - 2 times, and then it is on.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    fn off(&self) {
        // Fails only if it is off already.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

/// What turns the light on: news, and the end of all news.
struct Switch(Arc<Light>);

impl Bell for Switch {
    fn ring(&mut self) {
        self.0.on();
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.0.on();
    }
}

/// A descriptor that is readable when there may be something to drain, and when the client has been
/// closed. Only wait for it; do not read, write or close it. It is closed by discover_feed_cancel(), so
/// take it out of your loop before. -1 for NULL.
///
/// feed  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_fd(feed: Option<&discover_feed>) -> c_int {
    read(-1, || Some(feed?.light.0.as_raw_fd()))
}

/// Hands the events since the last drain to on_event, in this call and on this thread: the same events
/// and the same function as with discover_set_subscribe(), so that one handler serves both. It never
/// waits; there may be none. It turns the descriptor off, until there is more.
///
/// DISCOVER_ERR_CLOSED says that the client was closed, and nothing will ever follow.
///
/// feed       [in, borrowed]            not to be used by on_event
/// on_event                             called with each event; must not throw or longjmp
/// user_data  [in, borrowed, optional]  handed to on_event
/// error      [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_drain(
    feed: Option<&mut discover_feed>,
    on_event: discover_event_fn,
    user_data: *mut c_void,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let feed = given(feed, "feed")?;
        let on_event = given(on_event, "on_event")?;
        // A forked child shares the descriptor, and must not take its parent's light away; and once
        // closed, the light stays on.
        feed.feed.check()?;
        // First off, then look: what comes in between turns it on again.
        feed.light.off();
        for event in feed.feed.drain() {
            tell(on_event, user_data, &event);
        }
        Ok(())
    })
}

/// Ends a feed, closes its descriptor and releases it.
///
/// feed  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_feed_cancel(feed: Option<Box<discover_feed>>) {
    release(feed);
}
