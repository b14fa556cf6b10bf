//! Registration of a callback on the callback thread, and the notifications that schedule its calls.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::runtime::Handle;

use crate::embed::callback_loop::{Callback, Flags, Message};
use crate::embed::engine_state::{EngineState, closed};
use crate::error::Result;
use crate::set::ServiceSet;

/// A registered callback and the function that ends its wake-ups.
pub(super) struct CallbackRegistration {
    pub(super) shared: Arc<EngineState>,
    pub(super) flags: Arc<Flags>,
    pub(super) unsubscribe: Unsubscribe,
}

/// Ends the wake-ups of a callback.
pub(super) type Unsubscribe = Box<dyn Fn() + Send + Sync>;

impl CallbackRegistration {
    /// Registers a callback on the callback thread. If this fails, the callback is dropped before this
    /// returns; otherwise it is dropped on the callback thread.
    pub(super) fn open(
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

    pub(super) fn cancel(&self) {
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

/// Sends wake-ups to a callback on the callback thread. Only posts messages and never calls the callback;
/// after the thread has exited, messages have no effect.
#[derive(Clone)]
pub(super) struct CallbackNotifier {
    messages: Sender<Message>,
    id: u64,
    pub(super) flags: Arc<Flags>,
}

impl CallbackNotifier {
    /// Sends a wake-up unless one is pending.
    pub(super) fn wake(&self) {
        if self.flags.request_wake() {
            let _ = self.messages.send(Message::Wake(self.id));
        }
    }

    /// Removes the callback after all pending wake-ups.
    pub(super) fn remove(&self) {
        let _ = self.messages.send(Message::Remove(self.id));
    }
}

/// Wakes once at the start and then at each change of the set.
pub(super) fn notify_on_change(
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
