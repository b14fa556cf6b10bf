//! Who is told that a set changed: those who wait, and those who have something posted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Posts something to another thread. The writer of the set calls it, so it must not wait.
pub(crate) type WakeFn = Box<dyn Fn() + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct ChangeNotifier {
    closed: AtomicBool,
    waiting: Notify,
    posts: Mutex<Posts>,
}

#[derive(Default)]
struct Posts {
    last: u64,
    all: Vec<(u64, WakeFn)>,
}

impl ChangeNotifier {
    /// Tells all, once what is new can be read.
    pub(super) fn beat(&self) {
        self.waiting.notify_waiters();
        self.posts().all.iter().for_each(|(_, post)| post());
    }

    /// Nothing will change any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The next beat from this call on, or the end. To be had before the look at what there is, so that
    /// what comes in between is not missed.
    pub(super) fn next(&self) -> Notified<'_> {
        self.waiting.notified()
    }

    /// Posts at each beat from now on, until the post of this number is ended.
    pub(super) fn post(&self, post: WakeFn) -> u64 {
        let mut posts = self.posts();
        posts.last += 1;
        let number = posts.last;
        posts.all.push((number, post));
        number
    }

    pub(super) fn end_post(&self, number: u64) {
        self.posts().all.retain(|(other, _)| *other != number);
    }

    fn posts(&self) -> MutexGuard<'_, Posts> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
