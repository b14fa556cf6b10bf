//! News: events pushed into a callback, or drained after a bell.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use discover_core::embed::{self, Error, SetHandle};

use crate::call::SLICE;
use crate::callback::Callback;
use crate::client::Owner;
use crate::errors::raising;
use crate::gate;
use crate::values::{Condition, Event};

/// Told on the dispatch thread.
pub(crate) type Tell = Box<dyn FnMut(&'static str, Option<&Error>) + Send>;

/// A callback that hears of each change, until cancelled or its client is closed; not only while
/// somebody holds this.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Subscription(Arc<OnceLock<embed::Subscription>>);

impl Subscription {
    pub(crate) fn new(
        set: &SetHandle,
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
    ) -> PyResult<Subscription> {
        Subscription::open(owner, callback, false, |sink| set.subscribe(Box::new(sink)))
    }

    /// One that `begin` has told how something fares: a word, and why. If it is to be told the `end`
    /// too, that is None.
    pub(crate) fn to_states(
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
        end: bool,
        begin: impl FnOnce(Tell) -> embed::Result<embed::Subscription>,
    ) -> PyResult<Subscription> {
        Subscription::open(owner, callback, end, |sink| {
            begin(Box::new(move |state, error| sink.state(state, error)))
        })
    }

    fn open(
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
        end: bool,
        begin: impl FnOnce(PySink) -> embed::Result<embed::Subscription>,
    ) -> PyResult<Subscription> {
        let py = callback.py();
        if !callback.is_callable() {
            let text = format!("callback is {}, which cannot be called", callback.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        let itself = Arc::new(OnceLock::new());
        let sink = PySink {
            callback: Callback::new(callback),
            end,
            _kept: (itself.clone(), owner),
        };
        let subscription = begin(sink).map_err(raising(py))?;
        let _ = itself.set(subscription);
        Ok(Subscription(itself))
    }
}

#[pymethods]
impl Subscription {
    /// Ends it, at once and for good. May be called from any thread and from inside the callback;
    /// from another thread, one last call may be under way.
    fn cancel(&self) {
        if let Some(subscription) = self.0.get() {
            subscription.cancel();
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyAny>) {
        self.cancel();
    }
}

/// Lives on the dispatch thread. It keeps its own subscription, and the client, so that what was
/// subscribed to goes on being told.
struct PySink {
    callback: Callback,
    /// Whether the callback is told the end.
    end: bool,
    _kept: (Arc<OnceLock<embed::Subscription>>, Arc<Owner>),
}

impl PySink {
    fn state(&self, state: &'static str, error: Option<&Error>) {
        let condition = Condition::new(state, error.cloned());
        self.callback.call(|py| Ok((Py::new(py, condition)?,)));
    }
}

impl Drop for PySink {
    fn drop(&mut self) {
        if self.end {
            self.callback.call(|py| Ok((py.None(),)));
        }
    }
}

impl embed::Sink for PySink {
    fn event(&mut self, event: &embed::Event) {
        self.events(std::slice::from_ref(event), &|| true);
    }

    /// Entering the interpreter from a thread that is not its own costs more than a call.
    fn events(&mut self, events: &[embed::Event], goes_on: &dyn Fn() -> bool) {
        gate::attach(|py| {
            for event in events {
                if !goes_on() || gate::is_closed() {
                    return;
                }
                let made = Py::new(py, Event::new(event.clone()));
                self.callback.call_attached(py, |_| Ok((made?,)));
            }
        });
    }
}

/// Events to be drained. Cancelled when dropped.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Feed {
    feed: Mutex<embed::Feed>,
    bell: Arc<Bell>,
    owner: Arc<Owner>,
}

impl Feed {
    pub(crate) fn new(
        py: Python<'_>,
        set: &SetHandle,
        owner: Arc<Owner>,
        ring: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Feed> {
        let bell = Arc::new(Bell::default());
        let ringer = Ringer {
            bell: bell.clone(),
            ring: ring.map(Callback::new),
        };
        let feed = Mutex::new(set.feed(Box::new(ringer)).map_err(raising(py))?);
        Ok(Feed { feed, bell, owner })
    }

    fn feed(&self) -> MutexGuard<'_, embed::Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Feed {
    /// The events since the last call; may be empty. Never waits.
    fn drain(&self) -> Vec<Event> {
        // The lock is let go of before anything of Python's is made.
        let events = self.feed().drain();
        events.into_iter().map(Event::new).collect()
    }

    /// Whether it was cancelled or its client closed.
    #[getter]
    fn ended(&self) -> bool {
        self.bell.lock().ended
    }

    /// Waits until there may be something to drain, or it has ended.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        // A process that leaves closes its clients, and that ends this. Here it may be known sooner.
        let Ok(_away) = gate::enter() else {
            self.bell.end();
            return Ok(());
        };
        self.owner.engine().check_may_wait().map_err(raising(py))?;
        while !py.detach(|| self.bell.wait()) {
            if gate::check().is_err() {
                self.bell.end();
            }
            py.check_signals()?;
        }
        Ok(())
    }

    /// Ends it.
    fn cancel(&self) {
        self.feed().cancel();
        self.bell.end();
    }
}

/// What a waiting thread looks at.
#[derive(Default)]
struct Bell {
    state: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Default)]
struct Rung {
    rung: bool,
    ended: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rung = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits a slice; true if it was rung since the last time, or has ended.
    fn wait(&self) -> bool {
        let quiet = |state: &mut Rung| !state.rung && !state.ended;
        let waited = self.changed.wait_timeout_while(self.lock(), SLICE, quiet);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.rung = false;
        !timeout.timed_out()
    }
}

/// The end of a bell that lives on the dispatch thread.
struct Ringer {
    bell: Arc<Bell>,
    ring: Option<Callback>,
}

impl Ringer {
    fn call(&self) {
        if let Some(ring) = &self.ring {
            ring.call(|_| Ok(()));
        }
    }
}

impl embed::Bell for Ringer {
    fn ring(&mut self) {
        self.bell.ring();
        self.call();
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        self.bell.end();
        self.call();
    }
}
