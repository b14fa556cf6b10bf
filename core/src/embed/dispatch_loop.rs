//! What passes between those who have news for a listener, those who end it, and the one thread that
//! calls it: two flags and a mailbox. No ring is lost, nothing is called once it is cancelled, and each
//! listener is dropped once, after its last call.
//!
//! Compiled twice: here, and in a test that tries every order in which the threads may run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sync::{Arc, AtomicBool, Ordering, Receiver};

/// Somebody to be called at each ring. Answers it, and heeds being cancelled, by the flags.
pub(super) type Listener = Box<dyn FnMut(&Flags) + Send>;

/// What all of them look at.
pub(super) struct Flags {
    /// A ring is on its way that nobody has answered yet.
    posted: AtomicBool,
    cancelled: AtomicBool,
}

impl Flags {
    pub(super) fn new() -> Flags {
        Flags {
            posted: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// There is news. Whether a ring has to be posted: not while one is on its way.
    pub(super) fn ring(&self) -> bool {
        !self.posted.swap(true, Ordering::AcqRel)
    }

    /// Answers the ring, before looking for what is new: what comes from now on rings again. A swap and
    /// no store, because one that found a ring on its way must have its news seen by that look.
    pub(super) fn answer(&self) {
        self.posted.swap(false, Ordering::AcqRel);
    }

    /// Whether this was the first to cancel; it ends the posting.
    pub(super) fn cancel(&self) -> bool {
        !self.cancelled.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// What the dispatch thread is asked to do.
pub(super) enum Message {
    Add(u64, Listener, Arc<Flags>),
    Ring(u64),
    Remove(u64),
    Run(Box<dyn FnOnce() + Send>),
    Stop,
}

/// The life of the dispatch thread. It owns the listeners, so that dropping one is never in the way of
/// calling it.
pub(super) fn run(inbox: &Receiver<Message>) {
    let mut listeners: BTreeMap<u64, (Listener, Arc<Flags>)> = BTreeMap::new();
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Add(id, listener, flags) => {
                listeners.insert(id, (listener, flags));
            }
            Message::Ring(id) => {
                if let Some((listener, flags)) = listeners.get_mut(&id) {
                    foreign(|| listener(flags));
                }
            }
            Message::Remove(id) => {
                let listener = listeners.remove(&id);
                foreign(|| drop(listener));
            }
            Message::Run(done) => foreign(done),
            Message::Stop => break,
        }
    }
    for listener in listeners.into_values() {
        foreign(|| drop(listener));
    }
}

/// A bug in an adapter must not take the thread, and with it everybody else's news.
fn foreign(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("callback adapter panicked, its subscription stays active");
    }
}
