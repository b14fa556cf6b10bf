//! Who is reported that a set changed: those who wait, and those who have something posted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// WakeFns something to another thread. The writer of the set calls it, so it must not wait.
pub(crate) type WakeFn = Box<dyn Fn() + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct ChangeNotifier {
    closed: AtomicBool,
    waiting: Notify,
    wake_fns: Mutex<WakeFns>,
}

#[derive(Default)]
struct WakeFns {
    last: u64,
    all: Vec<(u64, WakeFn)>,
}

impl ChangeNotifier {
    /// Tells all, once what is new can be read.
    pub(super) fn notify(&self) {
        self.waiting.notify_waiters();
        self.wake_fns().all.iter().for_each(|(_, wake)| wake());
    }

    /// Nothing will change any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The next changed from this call on, or the end. To be had before the look at what there is, so that
    /// what comes in between is not missed.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.waiting.notified()
    }

    /// WakeFns at each changed from now on, until the wake of this number is ended.
    pub(super) fn add_wake_fn(&self, wake: WakeFn) -> u64 {
        let mut wake_fns = self.wake_fns();
        wake_fns.last += 1;
        let number = wake_fns.last;
        wake_fns.all.push((number, wake));
        number
    }

    pub(super) fn remove_wake_fn(&self, number: u64) {
        self.wake_fns().all.retain(|(other, _)| *other != number);
    }

    fn wake_fns(&self) -> MutexGuard<'_, WakeFns> {
        self.wake_fns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
