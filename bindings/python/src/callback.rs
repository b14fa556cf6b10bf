//! A Python function that the library's threads call.

use std::mem;

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use crate::interpreter_exit;

/// A Python function that is called and dropped attached to the interpreter. Once the exit refuses callbacks, it is
/// neither called nor released.
pub(crate) struct Callback(Option<Py<PyAny>>);

impl Callback {
    pub(crate) fn new(function: Bound<'_, PyAny>) -> Callback {
        Callback(Some(function.unbind()))
    }

    /// Calls the function with the arguments that `arguments` makes. Reports an exception to `sys.unraisablehook`,
    /// because no caller could catch it.
    pub(crate) fn call<A>(&self, arguments: impl FnOnce(Python<'_>) -> PyResult<A>)
    where
        A: for<'py> PyCallArgs<'py>,
    {
        interpreter_exit::attach(|py| self.call_attached(py, arguments));
    }

    /// Calls the function from a thread that is attached already.
    pub(crate) fn call_attached<A>(
        &self,
        py: Python<'_>,
        arguments: impl FnOnce(Python<'_>) -> PyResult<A>,
    ) where
        A: for<'py> PyCallArgs<'py>,
    {
        let Some(function) = &self.0 else { return };
        let called = arguments(py).and_then(|arguments| function.call1(py, arguments));
        if let Err(error) = called {
            error.write_unraisable(py, Some(function.bind(py)));
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        let mut function = self.0.take();
        interpreter_exit::attach(|_| drop(function.take()));
        mem::forget(function);
    }
}
