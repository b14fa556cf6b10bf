//! The core's errors as Python exceptions: one class for each kind, all made from its table.

use pyo3::exceptions::{
    PyConnectionError, PyException, PyLookupError, PyNotImplementedError, PyOSError,
    PyPermissionError, PyRuntimeError, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use discover_core::embed::{Error, ErrorKind};

/// In the order of `ErrorKind::ALL`.
static CLASSES: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();

const BASE_DOC: &str = "What every failure of libdiscover is.\n\n\
    `code` is the name of the kind, the same in every language; `retriable` says whether the same \
    call may succeed later, its arguments unchanged.";

/// Adds the classes, and `KINDS`, the table they are made from: (name, code, retriable, meaning).
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
    module.add("KINDS", PyTuple::new(py, rows)?)?;
    let _ = CLASSES.set(py, classes);
    Ok(())
}

/// Runs no Python code, so that it is safe while the interpreter leaves.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
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

/// The same, to be raised.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// For `map_err`.
pub(crate) fn raising(py: Python<'_>) -> impl Fn(Error) -> PyErr {
    move |error| raise(py, &error)
}

/// `lease_lost` is `LeaseLost`.
fn class_name(kind: ErrorKind) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    };
    kind.name().split('_').map(capital).collect()
}

/// The builtin exception that means the same, so that code that knows nothing of us can catch it.
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
