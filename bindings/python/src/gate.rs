//! How a process leaves. After `atexit` CPython ends, without ceremony, every thread that comes back
//! for the GIL, which inside our frames is a crash. So whoever leaves the interpreter is counted, and
//! whoever would leave it after the gate is shut is refused.

use std::mem;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use discover_core::embed::{Error, Kind, Level, Result, set_log};

use crate::client::Owner;

/// How long whoever is away may take to come home once all is closed: a slice of waiting, and his turn.
const HOMEWARD: Duration = Duration::from_secs(1);

static SHUT: AtomicBool = AtomicBool::new(false);
static AWAY: AtomicUsize = AtomicUsize::new(0);
/// Only ever locked with the GIL held, so that a fork never finds it locked.
static LIVE: Mutex<Vec<Weak<Owner>>> = Mutex::new(Vec::new());

/// Somebody who is away from the interpreter, or about to be, until dropped. Results are made into
/// Python objects before that.
pub(crate) struct Away(u32);

/// Lets somebody out, unless the process is leaving.
pub(crate) fn enter() -> Result<Away> {
    AWAY.fetch_add(1, Ordering::SeqCst);
    let away = Away(process::id());
    check().map(|()| away)
}

/// For whoever is out already: comes home when the process is leaving.
pub(crate) fn check() -> Result<()> {
    if SHUT.load(Ordering::SeqCst) {
        return Err(Error::new(Kind::Closed, "the interpreter is exiting"));
    }
    Ok(())
}

impl Drop for Away {
    fn drop(&mut self) {
        // A forked child has forgotten those who were away when it was made.
        if self.0 == process::id() {
            AWAY.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Runs `body` in the interpreter, from a thread that is not Python's; none while it is leaving.
pub(crate) fn attach<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _away = enter().ok()?;
    Python::try_attach(body)
}

/// Has `owner` closed at exit, if it is still there then.
pub(crate) fn remember(owner: &Arc<Owner>) {
    let mut live = live();
    live.retain(|owner| owner.strong_count() > 0);
    live.push(Arc::downgrade(owner));
}

/// For `atexit`: shuts the gate, closes every client within `timeout` seconds and waits until nobody is
/// away. Calls made later raise `Closed`.
#[pyfunction]
pub(crate) fn leave(py: Python<'_>, timeout: f64) {
    SHUT.store(true, Ordering::SeqCst);
    let bound = Duration::try_from_secs_f64(timeout).unwrap_or_default();
    let owners: Vec<Arc<Owner>> = live().iter().filter_map(Weak::upgrade).collect();
    py.detach(|| {
        close_all(&owners, bound);
        if !is_anybody_away() {
            // The log's thread has nothing of Python's in hand now, so this does not wait.
            let _ = set_log(Level::Error, None);
        }
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

/// Gives everybody the time to come home first.
fn is_anybody_away() -> bool {
    let is_home = |_| {
        let home = AWAY.load(Ordering::SeqCst) == 0;
        if !home {
            thread::sleep(Duration::from_millis(1));
        }
        home
    };
    !(0..HOMEWARD.as_millis()).any(is_home)
}

fn live() -> MutexGuard<'static, Vec<Weak<Owner>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
