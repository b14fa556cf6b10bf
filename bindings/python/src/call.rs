//! A call that may take time: waited for with the GIL released, or answered to a callback.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use discover_core::embed::{Abort, Error, ErrorKind, Pending, Result};

use crate::callback::Callback;
use crate::client::Owner;
use crate::errors::{exception, raise, raising};
use crate::gate;

/// How long Ctrl-C may go unnoticed.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// A call that has not begun. It is waited for once, one way or the other.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Call {
    work: Mutex<Option<Box<dyn Work>>>,
    /// Empty for what is not ended early.
    abort: OnceLock<Abort>,
}

/// The two ways to have a result.
trait Work: Send {
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>>;
    fn then(self: Box<Self>, settle: Settle);
}

impl Call {
    /// A call of the core, and how to make its result a Python object. When nobody takes the result, it
    /// is dropped, and so undone.
    pub(crate) fn new<T, F>(pending: Pending<T>, convert: F) -> Call
    where
        T: Send + 'static,
        F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        Call::of(Pended { pending, convert })
    }

    /// One of which no half can stay, so that it may be ended early.
    pub(crate) fn abortable<T, F>(pending: Pending<T>, convert: F) -> Call
    where
        T: Send + 'static,
        F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        let (pending, abort) = pending.abortable();
        let call = Call::new(pending, convert);
        let _ = call.abort.set(abort);
        call
    }

    /// One that gives nothing.
    pub(crate) fn plain(pending: Pending<()>) -> Call {
        Call::new(pending, nothing)
    }

    pub(crate) fn closing(owner: Arc<Owner>, timeout: Duration) -> Call {
        Call::of(Closing { owner, timeout })
    }

    fn of(work: impl Work + 'static) -> Call {
        Call {
            work: Mutex::new(Some(Box::new(work))),
            abort: OnceLock::new(),
        }
    }

    fn take(&self, py: Python<'_>) -> PyResult<Box<dyn Work>> {
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        work.ok_or_else(|| {
            raise(
                py,
                &Error::new(ErrorKind::Internal, "a call was made twice"),
            )
        })
    }
}

#[pymethods]
impl Call {
    /// Makes the call and waits for its result, with the GIL released and Ctrl-C heeded.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _away = gate::enter().map_err(raising(py))?;
        // Does nothing to a call that is over; ends one that Ctrl-C has left alone.
        self.take(py)?.wait(py).inspect_err(|_| self.abort())
    }

    /// Makes the call and has `done(value, error)` called once, as a rule on the client's callback
    /// thread; one of the two is None. Never waits.
    fn then(&self, py: Python<'_>, done: Bound<'_, PyAny>) -> PyResult<()> {
        let _away = gate::enter().map_err(raising(py))?;
        self.take(py)?.then(Settle(Some(Callback::new(done))));
        Ok(())
    }

    /// Ends the call early, if it is still under way and may be ended.
    fn abort(&self) {
        if let Some(abort) = self.abort.get() {
            abort.abort();
        }
    }
}

struct Pended<T, F> {
    pending: Pending<T>,
    convert: F,
}

impl<T, F> Work for Pended<T, F>
where
    T: Send + 'static,
    F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut waiting = self.pending.start().map_err(raising(py))?;
        loop {
            let slice = move || (waiting.wait_for(SLICE), waiting);
            let result;
            (result, waiting) = py.detach(slice);
            if let Some(result) = result {
                return (self.convert)(py, result.map_err(raising(py))?);
            }
            gate::check().map_err(raising(py))?;
            py.check_signals()?;
        }
    }

    fn then(self: Box<Self>, settle: Settle) {
        let Pended { pending, convert } = *self;
        // One that cannot begin drops its closure, and that settles it as closed.
        let _ = pending.then(move |result| settle.with(result, convert));
    }
}

/// The core closes on the thread that asks; here that thread is made for it, so that Python's is
/// free to be interrupted or to go on.
struct Closing {
    owner: Arc<Owner>,
    timeout: Duration,
}

impl Closing {
    fn begin(self, done: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        let Closing { owner, timeout } = self;
        owner.engine().check_may_wait()?;
        let close = move || {
            let result = owner.engine().close(timeout);
            // Whoever is told finds this thread holding nothing that could be the last to go.
            drop(owner);
            done(result);
        };
        let started = thread::Builder::new()
            .name("discover-close".to_owned())
            .spawn(close);
        let failed = |e| {
            Error::caused_by(
                ErrorKind::Resource,
                "cannot start the thread discover-close",
                e,
            )
        };
        started.map(drop).map_err(failed)
    }
}

impl Work for Closing {
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (sender, mut receiver) = sync_channel(1);
        self.begin(move |result| drop(sender.send(result)))
            .map_err(raising(py))?;
        loop {
            let slice = move || (receiver.recv_timeout(SLICE), receiver);
            let result;
            (result, receiver) = py.detach(slice);
            match result {
                Ok(result) => return result.map(|()| py.None()).map_err(raising(py)),
                Err(RecvTimeoutError::Timeout) => {
                    gate::check().map_err(raising(py))?;
                    py.check_signals()?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(py.None()),
            }
        }
    }

    fn then(self: Box<Self>, settle: Settle) {
        match self.owner.engine().check_may_wait() {
            Ok(()) => drop(self.begin(move |result| settle.with(result, nothing))),
            Err(error) => settle.with(Err(error), nothing),
        }
    }
}

/// Tells a callback the result, exactly once: when it is dropped untold, that the client was closed.
struct Settle(Option<Callback>);

impl Settle {
    fn with<T>(
        mut self,
        result: Result<T>,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>>,
    ) {
        if let Some(done) = self.0.take() {
            tell(&done, result, convert);
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            let closed = Err(Error::new(ErrorKind::Closed, "the client was closed"));
            tell(&done, closed, nothing);
        }
    }
}

fn nothing(py: Python<'_>, (): ()) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

fn tell<T>(
    done: &Callback,
    result: Result<T>,
    convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>>,
) {
    done.call(|py| {
        let value = match result {
            Ok(value) => convert(py, value),
            Err(error) => return Ok((py.None(), exception(py, &error)?.unbind())),
        };
        match value {
            Ok(value) => Ok((value, py.None())),
            Err(error) => Ok((py.None(), error.into_py_any(py)?)),
        }
    });
}
