//! Subscriptions and feeds: events of a set or states of a connection or lease, pushed to a callback or
//! pulled after a wake-up.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{BoxStream, StreamExt};
use tokio::runtime::Handle;

use crate::embed::dispatch::{Sink, Waker};
use crate::embed::dispatch_loop::{Callback, Flags, Message};
use crate::embed::engine_state::{EngineState, closed};
use crate::embed::fork_guard::ForkGuard;
use crate::error::{Error, ErrorKind, Result};
use crate::set::{Cursor, Event, ServiceSet, Snapshot};

/// Subscription that pushes events to a sink. Dropping it cancels it.
pub struct Subscription(ForkGuard<CallbackRegistration>);

impl Subscription {
    pub(super) fn new(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        mut sink: Box<dyn Sink>,
    ) -> Result<Subscription> {
        let mut cursor = set.cursor();
        let callback = move |flags: &Flags| {
            flags.acknowledge();
            sink.events(&cursor.drain(), &|| !flags.is_cancelled());
        };
        let registration =
            CallbackRegistration::open(shared, Box::new(callback), |notifier, runtime| {
                notify_on_change(set, move || notifier.wake(), runtime)
            })?;
        Ok(Subscription(ForkGuard::new(registration)))
    }

    /// Calls `callback` with the latest item of `states`. The callback is also dropped when the stream ends.
    pub(super) fn to_states<T: Send + 'static>(
        shared: Arc<EngineState>,
        mut states: BoxStream<'static, T>,
        mut callback: impl FnMut(T) + Send + 'static,
    ) -> Result<Subscription> {
        let latest = Arc::new(Mutex::new(None));
        let told = latest.clone();
        let take = move || told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let callback = move |flags: &Flags| {
            flags.acknowledge();
            if let Some(state) = take().filter(|_| !flags.is_cancelled()) {
                callback(state);
            }
        };
        let pump = |notifier: CallbackNotifier| async move {
            while let Some(state) = states.next().await {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                notifier.wake();
            }
            notifier.remove();
        };
        let registration =
            CallbackRegistration::open(shared, Box::new(callback), |notifier, runtime| {
                let pump = runtime.spawn(pump(notifier)).abort_handle();
                Box::new(move || pump.abort())
            })?;
        Ok(Subscription(ForkGuard::new(registration)))
    }

    /// Cancels the subscription. Returns at once, also inside the callback. No callback starts afterwards,
    /// except one that another thread is about to start. The sink is dropped after the last call.
    pub fn cancel(&self) {
        if let Ok(registration) = self.0.get() {
            registration.cancel();
        }
    }
}

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
    /// the dispatch thread.
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

/// A registered callback and the function that ends its wake-ups.
struct CallbackRegistration {
    shared: Arc<EngineState>,
    flags: Arc<Flags>,
    unsubscribe: Unsubscribe,
}

/// Ends the wake-ups of a callback.
type Unsubscribe = Box<dyn Fn() + Send + Sync>;

impl CallbackRegistration {
    /// Registers a callback on the dispatch thread. If this fails, the callback is dropped before this
    /// returns; otherwise it is dropped on the dispatch thread.
    fn open(
        shared: Arc<EngineState>,
        callback: Callback,
        start: impl FnOnce(CallbackNotifier, &Handle) -> Unsubscribe,
    ) -> Result<CallbackRegistration> {
        let flags = Arc::new(Flags::new());
        let id = shared.dispatch.new_id();
        let runtime = shared.runtime()?;
        let added = Message::Add(id, callback, flags.clone());
        if !shared.dispatch.send(added) {
            return Err(closed());
        }
        let notifier = CallbackNotifier {
            messages: shared.dispatch.messages(),
            id,
            flags: flags.clone(),
        };
        let (remover, posts) = (notifier.clone(), start(notifier, runtime));
        let unsubscribe = Box::new(move || {
            posts();
            remover.remove();
        });
        Ok(CallbackRegistration {
            shared,
            flags,
            unsubscribe,
        })
    }

    fn cancel(&self) {
        if self.flags.cancel() {
            (self.unsubscribe)();
        }
    }
}

impl Drop for CallbackRegistration {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Sends wake-ups to a callback of the dispatch thread. Only posts messages and never calls the callback;
/// after the thread has exited, messages have no effect.
#[derive(Clone)]
struct CallbackNotifier {
    messages: Sender<Message>,
    id: u64,
    flags: Arc<Flags>,
}

impl CallbackNotifier {
    /// Sends a wake-up unless one is pending.
    fn wake(&self) {
        if self.flags.request_wake() {
            let _ = self.messages.send(Message::Wake(self.id));
        }
    }

    /// Removes the callback after all pending wake-ups.
    fn remove(&self) {
        let _ = self.messages.send(Message::Remove(self.id));
    }
}

/// Wakes once at the start and then at each change of the set.
fn notify_on_change(
    set: &ServiceSet,
    wake: impl Fn() + Send + Sync + 'static,
    runtime: &Handle,
) -> Unsubscribe {
    let wake = Arc::new(wake);
    let (set, first) = (set.clone(), wake.clone());
    let number = set.add_wake_fn(Box::new(move || wake()));
    // The first wake-up queues behind the tasks that are ready, so a program that registers and then
    // subscribes sees its own instance in the first events.
    runtime.spawn(async move { first() });
    Box::new(move || set.remove_wake_fn(number))
}
