//! Events that the program fetches: `Watch` blocks for the next event, `EventFeed` is drained after a wake-up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use discover_core::embed::{self, ErrorKind, SetHandle};

use crate::call::SIGNAL_CHECK_INTERVAL;
use crate::callback::Callback;
use crate::errors::into_py_err;
use crate::event::Event;
use crate::interpreter_exit;
use crate::owner::Owner;

/// An iterator of a set's events. Ends when it is cancelled, dropped, or its client is closed.
///
/// The first events describe the current state: `up` for each instance, `leader`, then `current`. In a `with` block,
/// the watch is cancelled at the end of the block.
///
/// Threads: one thread at a time iterates; any thread may cancel.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Watch {
    feed: EventFeed,
    /// Events that are drained and not yet returned.
    events: Mutex<VecDeque<embed::Event>>,
}

impl Watch {
    pub(crate) fn new(py: Python<'_>, set: &SetHandle, owner: Arc<Owner>) -> PyResult<Watch> {
        Ok(Watch {
            feed: EventFeed::new(py, set, owner, None)?,
            events: Mutex::default(),
        })
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<embed::Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Watch {
    /// Cancels the watch, which also ends the wait of a thread for the next event. Never waits.
    fn cancel(&self) {
        self.feed.cancel();
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Waits for the next event, with the GIL released.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Event>>> {
        self.feed.check_not_forked(py)?;
        let detached = interpreter_exit::begin_call();
        while !self.feed.ended() {
            let next = self.events().pop_front();
            if let Some(event) = next {
                return Py::new(py, Event::new(event)).map(Some);
            }
            if detached.is_err() {
                self.feed.wake_flag.end();
                break;
            }
            self.feed.wait(py)?;
            let drained = self.feed.feed().drain();
            self.events().extend(drained);
        }
        Ok(None)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyAny>) {
        self.cancel();
    }
}

/// A queue of a set's events for an event loop. Cancelled when dropped.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct EventFeed {
    feed: Mutex<embed::Feed>,
    wake_flag: Arc<WakeFlag>,
    owner: Arc<Owner>,
}

impl EventFeed {
    /// Opens a feed. `wake`, if given, is called on the callback thread when there are events to drain, and once after
    /// the end.
    pub(crate) fn new(
        py: Python<'_>,
        set: &SetHandle,
        owner: Arc<Owner>,
        wake: Option<Bound<'_, PyAny>>,
    ) -> PyResult<EventFeed> {
        let wake_flag = Arc::new(WakeFlag::default());
        let waker = FeedWaker {
            wake_flag: wake_flag.clone(),
            wake: wake.map(Callback::new),
        };
        let feed = Mutex::new(set.feed(Box::new(waker)).map_err(into_py_err(py))?);
        Ok(EventFeed {
            feed,
            wake_flag,
            owner,
        })
    }

    fn feed(&self) -> MutexGuard<'_, embed::Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises `Forked` in a forked child.
    fn check_not_forked(&self, py: Python<'_>) -> PyResult<()> {
        match self.owner.engine().check_may_wait() {
            Err(error) if error.kind() == ErrorKind::Forked => Err(into_py_err(py)(error)),
            _ => Ok(()),
        }
    }

    /// Waits until there may be events to drain, or the feed has ended. The caller holds a `Detached`.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.owner
            .engine()
            .check_may_wait()
            .map_err(into_py_err(py))?;
        while !py.detach(|| self.wake_flag.wait()) {
            // The exit closes the client, which ends the feed; this ends it earlier.
            if interpreter_exit::check_running().is_err() {
                self.wake_flag.end();
            }
            py.check_signals()?;
        }
        Ok(())
    }
}

#[pymethods]
impl EventFeed {
    /// Returns the events since the last call, possibly none. Never waits.
    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Event>> {
        self.check_not_forked(py)?;
        // The lock is released before any Python object is made.
        let events = self.feed().drain();
        Ok(events.into_iter().map(Event::new).collect())
    }

    /// True if the feed was cancelled or its client is closed.
    #[getter]
    fn ended(&self) -> bool {
        self.wake_flag.lock().ended
    }

    /// Ends the feed.
    fn cancel(&self) {
        self.feed().cancel();
        self.wake_flag.end();
    }
}

/// The state that a waiting thread observes.
#[derive(Default)]
struct WakeFlag {
    state: Mutex<WakeState>,
    changed: Condvar,
}

#[derive(Default)]
struct WakeState {
    woken: bool,
    ended: bool,
}

impl WakeFlag {
    fn lock(&self) -> MutexGuard<'_, WakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits for at most `SIGNAL_CHECK_INTERVAL`. Returns true if the flag was set since the last wait, or has ended.
    fn wait(&self) -> bool {
        let is_idle = |state: &mut WakeState| !state.woken && !state.ended;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), SIGNAL_CHECK_INTERVAL, is_idle);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        !timeout.timed_out()
    }
}

/// The waker that the core calls on the callback thread. Its drop ends the feed.
struct FeedWaker {
    wake_flag: Arc<WakeFlag>,
    wake: Option<Callback>,
}

impl FeedWaker {
    fn call(&self) {
        if let Some(wake) = &self.wake {
            wake.call(|_| Ok(()));
        }
    }
}

impl embed::Waker for FeedWaker {
    fn wake(&mut self) {
        self.wake_flag.wake();
        self.call();
    }
}

impl Drop for FeedWaker {
    fn drop(&mut self) {
        self.wake_flag.end();
        self.call();
    }
}
