//! News pushed into a sink, or pulled after a bell.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::AbortHandle;

use crate::embed::dispatch::{Bell, Flags, Listener, Message, Sink};
use crate::embed::own::Own;
use crate::embed::shared::{Shared, closed};
use crate::error::{Error, Kind, Result};
use crate::set::{Cursor, Event, ServiceSet, Snapshot};

/// Events pushed. Cancelled when dropped.
pub struct Subscription(Own<Line>);

impl Subscription {
    pub(super) fn new(
        shared: Arc<Shared>,
        set: &ServiceSet,
        sink: Box<dyn Sink>,
    ) -> Result<Subscription> {
        let listener = Listener::Sink(Box::new(set.cursor()), sink);
        Ok(Subscription(Own::new(Line::open(shared, set, listener)?)))
    }

    /// Ends it. Returns at once, also from inside the callback. No callback starts after that, except
    /// that, from another thread, one may be about to; the sink is dropped when the last is over.
    pub fn cancel(&self) {
        if let Ok(line) = self.0.get() {
            line.cancel();
        }
    }
}

/// Events to be pulled. Cancelled when dropped.
pub struct Feed(Own<(Cursor, Line)>);

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, set: &ServiceSet, bell: Box<dyn Bell>) -> Result<Feed> {
        let cursor = set.cursor();
        let line = Line::open(shared, set, Listener::Bell(bell))?;
        Ok(Feed(Own::new((cursor, line))))
    }

    /// The events since the last call; may be empty. Never waits. None once cancelled, or in a forked
    /// child.
    pub fn drain(&mut self) -> Vec<Event> {
        if !self.0.is_ours() {
            return Vec::new();
        }
        let (cursor, line) = self.0.peek_mut();
        if line.flags.cancelled.load(Ordering::Acquire) {
            return Vec::new();
        }
        // First answer the ring, then look: what comes in between rings again.
        line.flags.posted.store(false, Ordering::Release);
        cursor.drain()
    }

    /// Fails once nothing can come any more: in a forked child, when cancelled, or when the client is
    /// closed.
    pub fn check(&self) -> Result<()> {
        let (_, line) = self.0.get()?;
        if line.flags.cancelled.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Closed, "the feed was cancelled"));
        }
        line.shared.runtime().map(drop)
    }

    /// The snapshot to which the events drained so far lead.
    pub fn seen(&self) -> &Arc<Snapshot> {
        self.0.peek().0.seen()
    }

    /// Ends it: the bell rings no more.
    pub fn cancel(&self) {
        if let Ok((_, line)) = self.0.get() {
            line.cancel();
        }
    }
}

/// A listener on the dispatch thread, and the pump that posts to it.
struct Line {
    shared: Arc<Shared>,
    id: u64,
    flags: Arc<Flags>,
    pump: AbortHandle,
}

impl Line {
    /// When it fails, the listener is dropped before it returns; else on the dispatch thread, later.
    fn open(shared: Arc<Shared>, set: &ServiceSet, listener: Listener) -> Result<Line> {
        let flags = Arc::new(Flags::default());
        let id = shared.dispatch.new_id();
        let runtime = shared.runtime()?;
        let added = Message::Add(id, listener, flags.clone());
        if !shared.dispatch.post(added) {
            return Err(closed());
        }
        let mut pulse = set.pulse();
        pulse.mark_changed();
        let (owner, told) = (Arc::downgrade(&shared), flags.clone());
        let pump = async move {
            while pulse.changed().await.is_ok() && !pulse.borrow_and_update().closed {
                let Some(shared) = owner.upgrade() else {
                    return;
                };
                if !told.posted.swap(true, Ordering::AcqRel) {
                    shared.dispatch.post(Message::Ring(id));
                }
            }
        };
        let pump = runtime.spawn(pump).abort_handle();
        Ok(Line {
            shared,
            id,
            flags,
            pump,
        })
    }

    fn cancel(&self) {
        if !self.flags.cancelled.swap(true, Ordering::AcqRel) {
            self.pump.abort();
            self.shared.dispatch.post(Message::Remove(self.id));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cancel();
    }
}
