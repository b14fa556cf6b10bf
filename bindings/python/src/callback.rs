//! A Python function, called from threads that are not Python's.

use std::mem;

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use crate::gate;

/// Called and dropped attached. Once the process has left, neither happens any more.
pub(crate) struct Callback(Option<Py<PyAny>>);

impl Callback {
    pub(crate) fn new(function: Bound<'_, PyAny>) -> Callback {
        Callback(Some(function.unbind()))
    }

    /// Calls it with what `arguments` makes. An exception, there being nobody to catch it, goes to
    /// `sys.unraisablehook`.
    pub(crate) fn call<A>(&self, arguments: impl FnOnce(Python<'_>) -> PyResult<A>)
    where
        A: for<'py> PyCallArgs<'py>,
    {
        gate::attach(|py| self.call_attached(py, arguments));
    }

    /// The same, from within the interpreter.
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
        gate::attach(|_| drop(function.take()));
        mem::forget(function);
    }
}
