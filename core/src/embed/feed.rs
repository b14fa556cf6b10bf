//! Feeds: events of a set, pulled after a wake-up.

use std::sync::Arc;

use crate::embed::callback_loop::Flags;
use crate::embed::callback_registration::{CallbackRegistration, notify_on_change};
use crate::embed::callback_thread::Waker;
use crate::embed::engine_state::EngineState;
use crate::embed::fork_guard::ForkGuard;
use crate::error::{Error, ErrorKind, Result};
use crate::set::{Cursor, Event, ServiceSet, Snapshot};

/// Feed from which a program pulls events. Dropping it cancels it.
pub struct Feed(ForkGuard<(Cursor, CallbackRegistration)>);

impl Feed {
    pub(super) fn new(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        mut waker: Box<dyn Waker>,
    ) -> Result<Feed> {
        let cursor = set.cursor();
        // `drain` acknowledges the wake-up.
        let callback = move |flags: &Flags| {
            if !flags.is_cancelled() {
                waker.wake();
            }
        };
        let registration =
            CallbackRegistration::open(shared, Box::new(callback), |notifier, runtime| {
                notify_on_change(set, move || notifier.wake(), runtime)
            })?;
        Ok(Feed(ForkGuard::new((cursor, registration))))
    }

    /// Creates a feed whose wake-ups are sent by the thread that changes the set, without a detour through
    /// the callback thread.
    pub(super) fn with_wake_fn(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Feed {
        let flags = Arc::new(Flags::new());
        let wake_flags = flags.clone();
        let send_wake = move || {
            if !wake_flags.is_cancelled() && wake_flags.request_wake() {
                wake();
            }
        };
        let unsubscribe = notify_on_change(set, send_wake, &shared.handle);
        let registration = CallbackRegistration {
            shared,
            flags,
            unsubscribe,
        };
        Feed(ForkGuard::new((set.cursor(), registration)))
    }

    /// Returns the events since the last call, without waiting; may be empty. Returns none once cancelled and
    /// in a forked child.
    pub fn drain(&mut self) -> Vec<Event> {
        if !self.0.belongs_to_this_process() {
            return Vec::new();
        }
        let (cursor, registration) = self.0.peek_mut();
        if registration.flags.is_cancelled() {
            return Vec::new();
        }
        // Acknowledge first, then read: an event in between requests another wake-up.
        registration.flags.acknowledge();
        cursor.drain()
    }

    /// Fails once no event can follow: `Forked` in a forked child, `Closed` if the feed is cancelled or the
    /// client is closed.
    pub fn check(&self) -> Result<()> {
        let (_, registration) = self.0.get()?;
        if registration.flags.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the feed was cancelled"));
        }
        registration.shared.runtime().map(drop)
    }

    /// Returns the snapshot that results from the events drained so far.
    pub fn seen(&self) -> &Arc<Snapshot> {
        self.0.peek().0.seen()
    }

    /// Cancels the feed. No wake-up follows, except one that another thread is about to send.
    pub fn cancel(&self) {
        if let Ok((_, registration)) = self.0.get() {
            registration.cancel();
        }
    }
}
