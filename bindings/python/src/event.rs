//! Events of a set.

use pyo3::prelude::*;

use discover_core::embed;

use crate::errors::to_exception;
use crate::instance::Instance;

/// One change of a set. Immutable.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Event(embed::Event);

impl Event {
    pub(crate) fn new(event: embed::Event) -> Event {
        Event(event)
    }
}

#[pymethods]
impl Event {
    /// The kind of the event: `up`, `update`, `down`, `leader`, `current`, `stale` or `fresh`.
    ///
    /// `up`: an instance came online. `update`: its attributes or tags changed. `down`: it went offline. `leader`: the
    /// oldest instance is another one. `current`: the full state has been delivered. `stale`: the store does not
    /// respond. `fresh`: it responds again.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The instance of the event.
    ///
    /// None for `current`, `stale` and `fresh`, and for `leader` if no instance is online.
    #[getter]
    fn instance(&self) -> Option<Instance> {
        self.0.instance().cloned().map(Instance::new)
    }

    /// The reason why the set is stale: a DiscoverError for `stale`, else None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .error()
            .map(|error| to_exception(py, error))
            .transpose()
    }

    fn __repr__(&self) -> String {
        match (self.0.instance(), self.0.error()) {
            (Some(instance), _) => format!("<Event {} {}>", self.0.kind(), instance.address()),
            (None, Some(error)) => format!("<Event {}: {error:#}>", self.0.kind()),
            (None, None) => format!("<Event {}>", self.0.kind()),
        }
    }
}
