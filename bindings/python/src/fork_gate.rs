//! Keeps the library's threads from attaching to the interpreter during a fork.
//!
//! A thread that attaches for the first time makes a thread state, for which CPython (3.11 and older) takes a lock
//! without holding the GIL. A child process that is forked at this moment waits for the lock forever, before any code of
//! its own runs.
//!
//! Uses atomics only: a lock would have the same fault.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// Interval in which both sides look for the other one. Attaching and forking take less than a millisecond.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// Number of threads that are attaching.
static ATTACHING: AtomicUsize = AtomicUsize::new(0);
/// Number of forks in progress.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// A thread that is attaching, until dropped.
pub(crate) struct Attaching(());

/// Waits for the end of forks in progress. New ones wait until the result is dropped, with the GIL held.
pub(crate) fn enter() -> Attaching {
    loop {
        ATTACHING.fetch_add(1, Ordering::SeqCst);
        if FORKING.load(Ordering::SeqCst) == 0 {
            return Attaching(());
        }
        ATTACHING.fetch_sub(1, Ordering::SeqCst);
        thread::sleep(POLL_INTERVAL); // tidy: sleep, no lock may be held during a fork
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        ATTACHING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until no thread is attaching. For `os.register_at_fork`, before the fork.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    FORKING.fetch_add(1, Ordering::SeqCst);
    // The threads need the GIL to finish.
    while ATTACHING.load(Ordering::SeqCst) > 0 {
        py.detach(|| thread::sleep(POLL_INTERVAL)); // tidy: sleep, no lock may be held during a fork
    }
}

/// Lets threads attach again. For `os.register_at_fork`, in the parent.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// Forgets the threads of the parent process, in the child.
pub(crate) fn reset() {
    FORKING.store(0, Ordering::SeqCst);
    ATTACHING.store(0, Ordering::SeqCst);
}
