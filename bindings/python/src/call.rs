//! A native call that takes time: a thread waits for it with the GIL released, or a callback receives its result.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use discover_core::embed::{Abort, Error, ErrorKind, Pending, Result};

use crate::callback::Callback;
use crate::errors::{into_py_err, to_exception, to_py_err};
use crate::interpreter_exit;
use crate::owner::Owner;

/// Maximum time between two checks for signals, and so for Ctrl-C, in a waiting call.
pub(crate) const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A call that has not started. Start it once, with `wait` or with `then`.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Call {
    operation: Mutex<Option<Box<dyn Operation>>>,
    /// Empty if the call cannot be aborted.
    abort: OnceLock<Abort>,
}

/// An operation that can be waited for or completed by a callback.
trait Operation: Send {
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>>;
    fn then(self: Box<Self>, completion: Completion);
}

impl Call {
    /// Creates a call from an operation of the core and the conversion of its result. A result that is not converted,
    /// because its waiter left, is dropped, which undoes it.
    pub(crate) fn new<T, F>(pending: Pending<T>, convert: F) -> Call
    where
        T: Send + 'static,
        F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        Call::from_operation(CoreOperation { pending, convert })
    }

    /// Creates a call that may be aborted at any time, because it leaves nothing half-done.
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

    /// Creates a call that returns None.
    pub(crate) fn returning_none(pending: Pending<()>) -> Call {
        Call::new(pending, none)
    }

    /// Creates a call that closes a client.
    pub(crate) fn close(owner: Arc<Owner>, timeout: Duration) -> Call {
        Call::from_operation(CloseOperation { owner, timeout })
    }

    fn from_operation(operation: impl Operation + 'static) -> Call {
        Call {
            operation: Mutex::new(Some(Box::new(operation))),
            abort: OnceLock::new(),
        }
    }

    fn take_operation(&self, py: Python<'_>) -> PyResult<Box<dyn Operation>> {
        let operation = self
            .operation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        operation.ok_or_else(|| {
            to_py_err(
                py,
                &Error::new(ErrorKind::Internal, "the call was already started"),
            )
        })
    }
}

#[pymethods]
impl Call {
    /// Starts the call and waits for its result, with the GIL released.
    ///
    /// Ctrl-C ends the wait. If a signal handler raises, the call is aborted if it can be.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _detached = interpreter_exit::begin_call().map_err(into_py_err(py))?;
        // Abort has no effect on a call that has completed.
        self.take_operation(py)?
            .wait(py)
            .inspect_err(|_| self.abort())
    }

    /// Starts the call and returns without waiting.
    ///
    /// Args:
    ///     done: Called once as `done(value, error)`, usually on the client's callback thread. One of the two
    ///         arguments is None.
    fn then(&self, py: Python<'_>, done: Bound<'_, PyAny>) -> PyResult<()> {
        let _detached = interpreter_exit::begin_call().map_err(into_py_err(py))?;
        self.take_operation(py)?
            .then(Completion(Some(Callback::new(done))));
        Ok(())
    }

    /// Aborts the call if it is in progress and can be aborted.
    fn abort(&self) {
        if let Some(abort) = self.abort.get() {
            abort.abort();
        }
    }
}

/// An operation of the core, with the conversion of its result.
struct CoreOperation<T, F> {
    pending: Pending<T>,
    convert: F,
}

impl<T, F> Operation for CoreOperation<T, F>
where
    T: Send + 'static,
    F: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut waiting = self.pending.start().map_err(into_py_err(py))?;
        loop {
            let wait_once = move || (waiting.wait_for(SIGNAL_CHECK_INTERVAL), waiting);
            let result;
            (result, waiting) = py.detach(wait_once);
            if let Some(result) = result {
                return (self.convert)(py, result.map_err(into_py_err(py))?);
            }
            interpreter_exit::check_running().map_err(into_py_err(py))?;
            py.check_signals()?;
        }
    }

    fn then(self: Box<Self>, completion: Completion) {
        let CoreOperation { pending, convert } = *self;
        // An operation that cannot start drops its closure, which completes the call as closed.
        let _ = pending.then(move |result| completion.complete(result, convert));
    }
}

/// Closes a client. The core's close blocks its caller; it runs on a thread of its own here, so that the Python thread
/// can be interrupted or continue.
struct CloseOperation {
    owner: Arc<Owner>,
    timeout: Duration,
}

impl CloseOperation {
    fn start(self, done: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        let CloseOperation { owner, timeout } = self;
        owner.engine().check_may_wait()?;
        let close = move || {
            let result = owner.engine().close(timeout);
            // The owner is released before `done` runs, so that this thread never drops the last reference.
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

impl Operation for CloseOperation {
    fn wait(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (sender, mut receiver) = sync_channel(1);
        self.start(move |result| drop(sender.send(result)))
            .map_err(into_py_err(py))?;
        loop {
            let wait_once = move || (receiver.recv_timeout(SIGNAL_CHECK_INTERVAL), receiver);
            let result;
            (result, receiver) = py.detach(wait_once);
            match result {
                Ok(result) => return result.map(|()| py.None()).map_err(into_py_err(py)),
                Err(RecvTimeoutError::Timeout) => {
                    interpreter_exit::check_running().map_err(into_py_err(py))?;
                    py.check_signals()?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(py.None()),
            }
        }
    }

    fn then(self: Box<Self>, completion: Completion) {
        match self.owner.engine().check_may_wait() {
            Ok(()) => drop(self.start(move |result| completion.complete(result, none))),
            Err(error) => completion.complete(Err(error), none),
        }
    }
}

/// Calls a callback with the result exactly once. If it is dropped before, the callback receives `Closed`.
struct Completion(Option<Callback>);

impl Completion {
    fn complete<T>(
        mut self,
        result: Result<T>,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>>,
    ) {
        if let Some(done) = self.0.take() {
            call_done(&done, result, convert);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            let closed = Err(Error::new(ErrorKind::Closed, "the client was closed"));
            call_done(&done, closed, none);
        }
    }
}

fn none(py: Python<'_>, (): ()) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

fn call_done<T>(
    done: &Callback,
    result: Result<T>,
    convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>>,
) {
    done.call(|py| {
        let value = match result {
            Ok(value) => convert(py, value),
            Err(error) => return Ok((py.None(), to_exception(py, &error)?.unbind())),
        };
        match value {
            Ok(value) => Ok((value, py.None())),
            Err(error) => Ok((py.None(), error.into_py_any(py)?)),
        }
    });
}
