//! News of a set, pushed into a sink or pulled after a bell; and how something fares, each time anew.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{BoxStream, StreamExt};
use tokio::runtime::Handle;

use crate::embed::dispatch::{Bell, Sink};
use crate::embed::dispatch_loop::{Flags, Listener, Message};
use crate::embed::engine_state::{EngineState, closed};
use crate::embed::fork_guard::ForkGuard;
use crate::error::{Error, ErrorKind, Result};
use crate::set::{Cursor, Event, ServiceSet, Snapshot};

/// Events pushed. Cancelled when dropped.
pub struct Subscription(ForkGuard<CallbackRegistration>);

impl Subscription {
    pub(super) fn new(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        mut sink: Box<dyn Sink>,
    ) -> Result<Subscription> {
        let mut cursor = set.cursor();
        let listener = move |flags: &Flags| {
            flags.answer();
            sink.events(&cursor.drain(), &|| !flags.is_cancelled());
        };
        let line = CallbackRegistration::open(shared, Box::new(listener), |ringer, runtime| {
            rings(set, move || ringer.ring(), runtime)
        })?;
        Ok(Subscription(ForkGuard::new(line)))
    }

    /// Has `tell` called with what `states` gives: latest wins. It is dropped when that ends, too.
    pub(super) fn to_states<T: Send + 'static>(
        shared: Arc<EngineState>,
        mut states: BoxStream<'static, T>,
        mut tell: impl FnMut(T) + Send + 'static,
    ) -> Result<Subscription> {
        let latest = Arc::new(Mutex::new(None));
        let told = latest.clone();
        let take = move || told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = move |flags: &Flags| {
            flags.answer();
            if let Some(state) = take().filter(|_| !flags.is_cancelled()) {
                tell(state);
            }
        };
        let pump = |ringer: Notifier| async move {
            while let Some(state) = states.next().await {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                ringer.ring();
            }
            ringer.end();
        };
        let line = CallbackRegistration::open(shared, Box::new(listener), |ringer, runtime| {
            let pump = runtime.spawn(pump(ringer)).abort_handle();
            Box::new(move || pump.abort())
        })?;
        Ok(Subscription(ForkGuard::new(line)))
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
pub struct Feed(ForkGuard<(Cursor, CallbackRegistration)>);

impl Feed {
    pub(super) fn new(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        mut bell: Box<dyn Bell>,
    ) -> Result<Feed> {
        let cursor = set.cursor();
        // The drain answers the ring, whenever it comes.
        let listener = move |flags: &Flags| {
            if !flags.is_cancelled() {
                bell.ring();
            }
        };
        let line = CallbackRegistration::open(shared, Box::new(listener), |ringer, runtime| {
            rings(set, move || ringer.ring(), runtime)
        })?;
        Ok(Feed(ForkGuard::new((cursor, line))))
    }

    /// Has `post` called by the writer of the set, for whom another thread would only be a detour.
    pub(super) fn posting(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        post: impl Fn() + Send + Sync + 'static,
    ) -> Feed {
        let flags = Arc::new(Flags::new());
        let rung = flags.clone();
        let ring = move || {
            if !rung.is_cancelled() && rung.ring() {
                post();
            }
        };
        let quiet = rings(set, ring, &shared.handle);
        let line = CallbackRegistration {
            shared,
            flags,
            quiet,
        };
        Feed(ForkGuard::new((set.cursor(), line)))
    }

    /// The events since the last call; may be empty. Never waits. None once cancelled, or in a forked
    /// child.
    pub fn drain(&mut self) -> Vec<Event> {
        if !self.0.is_ours() {
            return Vec::new();
        }
        let (cursor, line) = self.0.peek_mut();
        if line.flags.is_cancelled() {
            return Vec::new();
        }
        // First answer the ring, then look: what comes in between rings again.
        line.flags.answer();
        cursor.drain()
    }

    /// Fails once nothing can come any more: in a forked child, when cancelled, or when the client is
    /// closed.
    pub fn check(&self) -> Result<()> {
        let (_, line) = self.0.get()?;
        if line.flags.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the feed was cancelled"));
        }
        line.shared.runtime().map(drop)
    }

    /// The snapshot to which the events drained so far lead.
    pub fn seen(&self) -> &Arc<Snapshot> {
        self.0.peek().0.seen()
    }

    /// Ends it: the bell rings no more, except that, from another thread, it may be about to.
    pub fn cancel(&self) {
        if let Ok((_, line)) = self.0.get() {
            line.cancel();
        }
    }
}

/// A listener, and what posts to it.
struct CallbackRegistration {
    shared: Arc<EngineState>,
    flags: Arc<Flags>,
    quiet: Unsubscribe,
}

/// Ends the posting.
type Unsubscribe = Box<dyn Fn() + Send + Sync>;

impl CallbackRegistration {
    /// To a listener on the dispatch thread. When it fails, the listener is dropped before it returns; else
    /// there, later.
    fn open(
        shared: Arc<EngineState>,
        listener: Listener,
        start: impl FnOnce(Notifier, &Handle) -> Unsubscribe,
    ) -> Result<CallbackRegistration> {
        let flags = Arc::new(Flags::new());
        let id = shared.dispatch.new_id();
        let runtime = shared.runtime()?;
        let added = Message::Add(id, listener, flags.clone());
        if !shared.dispatch.post(added) {
            return Err(closed());
        }
        let ringer = Notifier {
            messages: shared.dispatch.messages(),
            id,
            flags: flags.clone(),
        };
        let (still, posts) = (ringer.clone(), start(ringer, runtime));
        let quiet = Box::new(move || {
            posts();
            still.end();
        });
        Ok(CallbackRegistration {
            shared,
            flags,
            quiet,
        })
    }

    fn cancel(&self) {
        if self.flags.cancel() {
            (self.quiet)();
        }
    }
}

impl Drop for CallbackRegistration {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What those who have news do to a listener. They post and never call; once its thread is over, that
/// comes to nothing.
#[derive(Clone)]
struct Notifier {
    messages: Sender<Message>,
    id: u64,
    flags: Arc<Flags>,
}

impl Notifier {
    /// Rings, unless a ring is on its way.
    fn ring(&self) {
        if self.flags.ring() {
            let _ = self.messages.send(Message::Ring(self.id));
        }
    }

    /// Has the listener dropped, after the rings that are on their way.
    fn end(&self) {
        let _ = self.messages.send(Message::Remove(self.id));
    }
}

/// Rings once, and then at each change of the set.
fn rings(
    set: &ServiceSet,
    ring: impl Fn() + Send + Sync + 'static,
    runtime: &Handle,
) -> Unsubscribe {
    let ring = Arc::new(ring);
    let (set, first) = (set.clone(), ring.clone());
    let number = set.post(Box::new(move || ring()));
    // Behind what the runtime has at hand: who has registered and listens then hears of that at first.
    runtime.spawn(async move { first() });
    Box::new(move || set.end_post(number))
}
