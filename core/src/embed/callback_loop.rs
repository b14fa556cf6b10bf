//! Message loop of the callback thread and the flags that producers of events share with it.
//!
//! No wake-up is lost, no callback runs once it is cancelled, and each callback is dropped once, after its
//! last call.
//!
//! This file is compiled twice: in the library, and in a test that tries every order in which the threads may
//! run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sync::{Arc, AtomicBool, Ordering, Receiver};

/// Function called at each wake-up. It acknowledges the wake-up and checks for cancellation with the flags.
pub(super) type Callback = Box<dyn FnMut(&Flags) + Send>;

/// State of one callback, shared by its producers and the callback thread.
pub(super) struct Flags {
    /// True from the request of a wake-up until its acknowledgement.
    wake_pending: AtomicBool,
    cancelled: AtomicBool,
}

impl Flags {
    pub(super) fn new() -> Flags {
        Flags {
            wake_pending: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Records that there are new events. Returns true if a wake-up message must be sent, and false while one
    /// is pending.
    pub(super) fn request_wake(&self) -> bool {
        !self.wake_pending.swap(true, Ordering::AcqRel)
    }

    /// Acknowledges the wake-up. Call this before reading new events: an event that arrives afterwards
    /// requests another wake-up. This is a swap and not a store, so that a producer that found a pending
    /// wake-up has its events seen by the following read.
    pub(super) fn acknowledge(&self) {
        self.wake_pending.swap(false, Ordering::AcqRel);
    }

    /// Cancels the callback. Returns true for the first call, which ends the wake-ups.
    pub(super) fn cancel(&self) -> bool {
        !self.cancelled.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Request to the callback thread.
pub(super) enum Message {
    Add(u64, Callback, Arc<Flags>),
    Wake(u64),
    Remove(u64),
    Run(Box<dyn FnOnce() + Send>),
    Stop,
}

/// Runs the callback thread until `Stop` or until all senders are dropped. The thread owns the callbacks, so
/// dropping a callback never races with calling it.
pub(super) fn run(inbox: &Receiver<Message>) {
    let mut callbacks: BTreeMap<u64, (Callback, Arc<Flags>)> = BTreeMap::new();
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Add(id, callback, flags) => {
                callbacks.insert(id, (callback, flags));
            }
            Message::Wake(id) => {
                if let Some((callback, flags)) = callbacks.get_mut(&id) {
                    call_foreign(|| callback(flags));
                }
            }
            Message::Remove(id) => {
                let callback = callbacks.remove(&id);
                call_foreign(|| drop(callback));
            }
            Message::Run(done) => call_foreign(done),
            Message::Stop => break,
        }
    }
    for callback in callbacks.into_values() {
        call_foreign(|| drop(callback));
    }
}

/// Runs foreign code and catches its panic, which must not end the thread and with it all other callbacks.
fn call_foreign(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("callback adapter panicked, its subscription stays active");
    }
}
