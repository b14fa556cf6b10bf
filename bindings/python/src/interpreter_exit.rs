//! Orderly exit of the interpreter while threads are inside native calls.
//!
//! After `atexit`, CPython ends every thread that asks for the GIL. Inside a Rust frame that is a crash. Therefore
//! this module counts the threads that have released the GIL in a native call, and the library's own threads that
//! enter the interpreter. The exit handler refuses new calls, closes all clients, refuses new callbacks, and then
//! waits until the count is zero.

use std::mem;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use discover_core::embed::{Error, ErrorKind, Level, Result, set_log};

use crate::fork_gate;
use crate::owner::Owner;

/// Maximum time for the log to flush, and again for detached threads to return.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Set when the exit begins: native calls that wait are refused.
static CALLS_REFUSED: AtomicBool = AtomicBool::new(false);
/// Set when all clients are closed: the library's threads no longer enter the interpreter.
static CALLBACKS_REFUSED: AtomicBool = AtomicBool::new(false);
static DETACHED_COUNT: AtomicUsize = AtomicUsize::new(0);
/// The open clients. Locked only with the GIL held, so that a fork never finds it locked.
static OPEN_CLIENTS: Mutex<Vec<Weak<Owner>>> = Mutex::new(Vec::new());

/// Counts one thread that is detached from the interpreter, or is about to be, until dropped. Results are converted
/// to Python objects before the drop.
pub(crate) struct Detached {
    process: u32,
}

/// Starts a native call that may release the GIL.
///
/// # Errors
///
/// `Closed` if the interpreter is exiting.
pub(crate) fn begin_call() -> Result<Detached> {
    let detached = Detached::new();
    check_running().map(|()| detached)
}

/// Fails with `Closed` if the interpreter is exiting, so that a waiting call returns.
pub(crate) fn check_running() -> Result<()> {
    if CALLS_REFUSED.load(Ordering::SeqCst) {
        return Err(Error::new(ErrorKind::Closed, "the interpreter is exiting"));
    }
    Ok(())
}

/// Returns true if the exit has reached the point from which no Python code may be called.
pub(crate) fn are_callbacks_refused() -> bool {
    CALLBACKS_REFUSED.load(Ordering::SeqCst)
}

/// Runs `body` attached to the interpreter, from one of the library's threads. Returns None without running it if
/// callbacks are refused.
pub(crate) fn attach<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _detached = Detached::new();
    if are_callbacks_refused() {
        return None;
    }
    let attaching = fork_gate::enter();
    Python::try_attach(|py| {
        drop(attaching);
        body(py)
    })
}

impl Detached {
    fn new() -> Detached {
        DETACHED_COUNT.fetch_add(1, Ordering::SeqCst);
        Detached {
            process: process::id(),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // A forked child process resets the count, which included the guards of its parent's threads.
        if self.process == process::id() {
            DETACHED_COUNT.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Registers a client to be closed at exit if it still exists then.
pub(crate) fn close_at_exit(owner: &Arc<Owner>) {
    let mut clients = open_clients();
    clients.retain(|owner| owner.strong_count() > 0);
    clients.push(Arc::downgrade(owner));
}

/// Closes all clients and waits for native calls to return. For `atexit`.
///
/// Calls made from now on raise Closed.
///
/// Args:
///     timeout: Maximum time to close all clients, in seconds.
#[pyfunction]
pub(crate) fn at_exit(py: Python<'_>, timeout: f64) {
    CALLS_REFUSED.store(true, Ordering::SeqCst);
    let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
    let owners: Vec<Arc<Owner>> = open_clients().iter().filter_map(Weak::upgrade).collect();
    py.detach(|| {
        close_all(&owners, timeout);
        flush_log();
        CALLBACKS_REFUSED.store(true, Ordering::SeqCst);
        wait_until_none_is_detached();
    });
}

/// Forgets the clients of the parent process. For `os.register_at_fork`, in the child.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    DETACHED_COUNT.store(0, Ordering::SeqCst);
    fork_gate::reset();
    mem::forget(mem::take(&mut *open_clients()));
}

/// Closes all clients at once, within one common `timeout`. If a store does not confirm an unregistration, the entry
/// expires with its TTL.
fn close_all(owners: &[Arc<Owner>], timeout: Duration) {
    thread::scope(|scope| {
        for owner in owners {
            let close = || {
                let _ = owner.engine().close(timeout);
            };
            if thread::Builder::new().spawn_scoped(scope, close).is_err() {
                close();
            }
        }
    });
}

/// Removes the log sink on a thread of its own, so that a log handler that hangs does not block the exit.
fn flush_log() {
    let (sender, flushed) = sync_channel(1);
    let flush = move || {
        let _ = set_log(Level::ERROR, None);
        let _ = sender.send(());
    };
    if thread::Builder::new().spawn(flush).is_ok() {
        let _ = flushed.recv_timeout(DRAIN_TIMEOUT);
    }
}

fn wait_until_none_is_detached() {
    for _ in 0..DRAIN_TIMEOUT.as_millis() {
        if DETACHED_COUNT.load(Ordering::SeqCst) == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn open_clients() -> MutexGuard<'static, Vec<Weak<Owner>>> {
    OPEN_CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}
