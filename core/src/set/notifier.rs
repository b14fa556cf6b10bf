//! Change notification of a set: wakes waiting tasks and calls wake functions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Function that wakes another thread. The writer of the set calls it, so it must not block.
pub(crate) type WakeFn = Box<dyn Fn() + Send>;

/// Notifies waiting tasks and wake functions of each change of a set.
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
    /// Notifies all, after the new snapshot is readable.
    pub(super) fn notify(&self) {
        self.waiting.notify_waiters();
        self.wake_fns().all.iter().for_each(|(_, wake)| wake());
    }

    /// Ends the notifications and wakes all waiting tasks.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns a future of the next notification after this call. Create it before reading the snapshot, so
    /// that a change in between is not missed.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.waiting.notified()
    }

    /// Calls `wake` at each change until `remove_wake_fn` is called with the returned number.
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
