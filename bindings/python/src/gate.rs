//! How a process leaves. After `atexit` CPython ends, without ceremony, every thread that comes back
//! for the GIL, which inside our frames is a crash. So whoever is away from the interpreter, or comes
//! to it from a thread of ours, is counted. Leaving first lets nobody out any more, then closes what is
//! open, then lets nobody in, and waits until the count is none.

use std::mem;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use discover_core::embed::{Error, ErrorKind, Level, Result, set_log};

use crate::client::Owner;

/// How long the log may take to tell the rest, and then whoever is away to come home.
const HOMEWARD: Duration = Duration::from_secs(1);

/// Whether calls are refused.
static CLOSED_OUT: AtomicBool = AtomicBool::new(false);
/// Whether threads of ours are refused.
static CLOSED_IN: AtomicBool = AtomicBool::new(false);
static AWAY: AtomicUsize = AtomicUsize::new(0);
/// Only ever locked with the GIL held, so that a fork never finds it locked.
static LIVE: Mutex<Vec<Weak<Owner>>> = Mutex::new(Vec::new());

/// Somebody who is away from the interpreter, or about to be, until dropped. Results are made into
/// Python objects before that.
pub(crate) struct Away(u32);

/// Lets a call out, unless the process is leaving.
pub(crate) fn enter() -> Result<Away> {
    let away = Away::new();
    check().map(|()| away)
}

/// For a call that is out already: it comes home when the process is leaving.
pub(crate) fn check() -> Result<()> {
    if CLOSED_OUT.load(Ordering::SeqCst) {
        return Err(Error::new(ErrorKind::Closed, "the interpreter is exiting"));
    }
    Ok(())
}

/// Whether the process has left, so that nothing of Python's is called any more.
pub(crate) fn is_closed() -> bool {
    CLOSED_IN.load(Ordering::SeqCst)
}

/// Runs `body` in the interpreter, from a thread of ours; none when the process has left.
pub(crate) fn attach<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _away = Away::new();
    if is_closed() {
        return None;
    }
    Python::try_attach(body)
}

impl Away {
    fn new() -> Away {
        AWAY.fetch_add(1, Ordering::SeqCst);
        Away(process::id())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        // A forked child has forgotten those who were away when it was made.
        if self.0 == process::id() {
            AWAY.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Has `owner` closed at exit, if it is still there then.
pub(crate) fn remember(owner: &Arc<Owner>) {
    let mut live = live();
    live.retain(|owner| owner.strong_count() > 0);
    live.push(Arc::downgrade(owner));
}

/// For `atexit`: closes every client within `timeout` seconds, lets the log tell the rest, and waits
/// until nobody is away. Calls made from now on raise `Closed`.
#[pyfunction]
pub(crate) fn leave(py: Python<'_>, timeout: f64) {
    CLOSED_OUT.store(true, Ordering::SeqCst);
    let bound = Duration::try_from_secs_f64(timeout).unwrap_or_default();
    let owners: Vec<Arc<Owner>> = live().iter().filter_map(Weak::upgrade).collect();
    py.detach(|| {
        close_all(&owners, bound);
        end_log();
        CLOSED_IN.store(true, Ordering::SeqCst);
        wait_until_home();
    });
}

/// For `os.register_at_fork`, in the child: its clients and threads are the parent's.
#[pyfunction]
pub(crate) fn forked() {
    AWAY.store(0, Ordering::SeqCst);
    mem::forget(mem::take(&mut *live()));
}

/// All at once: the time is for all together. What a store does not confirm goes with its TTL.
fn close_all(owners: &[Arc<Owner>], bound: Duration) {
    thread::scope(|scope| {
        for owner in owners {
            let close = || {
                let _ = owner.engine().close(bound);
            };
            if thread::Builder::new().spawn_scoped(scope, close).is_err() {
                close();
            }
        }
    });
}

/// A handler of the program's that hangs must not hang the exit.
fn end_log() {
    let (sender, ended) = sync_channel(1);
    let end = move || {
        let _ = set_log(Level::ERROR, None);
        let _ = sender.send(());
    };
    if thread::Builder::new().spawn(end).is_ok() {
        let _ = ended.recv_timeout(HOMEWARD);
    }
}

fn wait_until_home() {
    for _ in 0..HOMEWARD.as_millis() {
        if AWAY.load(Ordering::SeqCst) == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn live() -> MutexGuard<'static, Vec<Weak<Owner>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
