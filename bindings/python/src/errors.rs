//! Python exception classes, one for each error kind of the core, made from the core's table.

use pyo3::exceptions::{
    PyConnectionError, PyException, PyLookupError, PyNotImplementedError, PyOSError,
    PyPermissionError, PyRuntimeError, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use discover_core::embed::{Error, ErrorKind};

/// The classes, in the order of `ErrorKind::ALL`.
static CLASSES: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();

const BASE_DOC: &str = "The base class of all errors of libdiscover.\n\n\
    Attributes:\n\
    \x20   code: The name of the error kind, the same in every language.\n\
    \x20   retriable: True if the same call with the same arguments may succeed later.";

/// Adds the classes to the module, and `ERROR_KINDS`, the table they are made from: (name, code, retriable, meaning).
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let root = PyTuple::new(py, [py.get_type::<PyException>()])?;
    let base = new_class(py, "DiscoverError", BASE_DOC, &root, ErrorKind::Internal)?;
    module.add("DiscoverError", &base)?;
    let mut classes = Vec::with_capacity(ErrorKind::ALL.len());
    for kind in ErrorKind::ALL {
        let name = class_name(*kind);
        let bases = PyTuple::new(py, [base.clone(), builtin(py, *kind).into_any()])?;
        let class = new_class(py, &name, kind.meaning(), &bases, *kind)?;
        module.add(&*name, &class)?;
        classes.push(class.unbind());
    }
    let row = |kind: &ErrorKind| {
        (
            kind.name(),
            kind.code(),
            kind.is_retriable(),
            kind.meaning(),
        )
    };
    let rows: Vec<_> = ErrorKind::ALL.iter().map(row).collect();
    module.add("ERROR_KINDS", PyTuple::new(py, rows)?)?;
    let _ = CLASSES.set(py, classes);
    Ok(())
}

/// Converts an error to an exception object. Runs no Python code, so that it is safe while the interpreter exits.
pub(crate) fn to_exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let at = ErrorKind::ALL.iter().position(|kind| *kind == error.kind());
    let class = CLASSES.get(py).zip(at).and_then(|(all, at)| all.get(at));
    match class {
        Some(class) => class.bind(py).call1((error.report(),)),
        None => Ok(PyRuntimeError::new_err(error.report())
            .into_value(py)
            .into_bound(py)
            .into_any()),
    }
}

/// Converts an error to an exception to return from a Python function.
pub(crate) fn to_py_err(py: Python<'_>, error: &Error) -> PyErr {
    to_exception(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// Returns [`to_py_err`] as an argument of `map_err`.
pub(crate) fn into_py_err(py: Python<'_>) -> impl Fn(Error) -> PyErr {
    move |error| to_py_err(py, &error)
}

/// Returns the name of the class of a kind: `LeaseLost` for `lease_lost`.
fn class_name(kind: ErrorKind) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    };
    kind.name().split('_').map(capital).collect()
}

/// Returns the builtin exception with the same meaning, so that code without knowledge of this library can catch it.
fn builtin(py: Python<'_>, kind: ErrorKind) -> Bound<'_, PyType> {
    match kind {
        ErrorKind::InvalidArgument => py.get_type::<PyValueError>(),
        ErrorKind::Unsupported => py.get_type::<PyNotImplementedError>(),
        ErrorKind::Unavailable => py.get_type::<PyConnectionError>(),
        ErrorKind::Timeout => py.get_type::<PyTimeoutError>(),
        ErrorKind::PermissionDenied => py.get_type::<PyPermissionError>(),
        ErrorKind::NotFound => py.get_type::<PyLookupError>(),
        ErrorKind::Resource => py.get_type::<PyOSError>(),
        _ => py.get_type::<PyRuntimeError>(),
    }
}

fn new_class<'py>(
    py: Python<'py>,
    name: &str,
    doc: &str,
    bases: &Bound<'py, PyTuple>,
    kind: ErrorKind,
) -> PyResult<Bound<'py, PyAny>> {
    let body = PyDict::new(py);
    body.set_item("__module__", "libdiscover")?;
    body.set_item("__doc__", doc)?;
    body.set_item("code", kind.name())?;
    body.set_item("retriable", kind.is_retriable())?;
    py.get_type::<PyType>().call1((name, bases, body))
}
