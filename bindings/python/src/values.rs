//! What is handed out: immutable, of any thread, and true for as long as it is held.

use std::sync::Arc;
use std::time::SystemTime;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use discover_core::embed::{self, Fault};

use crate::errors::exception;
use crate::instance::{Instance, tuple_of};

/// One piece of news about a set.
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
    /// `up`, `update`, `down`, `leader`, `current`, `stale` or `fresh`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The instance it is about; None for `current`, `stale`, `fresh`, and for `leader` when there is
    /// none.
    #[getter]
    fn instance(&self) -> Option<Instance> {
        self.0.instance().cloned().map(Instance::new)
    }

    /// Why the set is stale: a DiscoverError for `stale`, else None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.error().map(|error| exception(py, error)).transpose()
    }

    fn __repr__(&self) -> String {
        match (self.0.instance(), self.0.error()) {
            (Some(instance), _) => format!("<Event {} {}>", self.0.kind(), instance.address()),
            (None, Some(error)) => format!("<Event {}: {error:#}>", self.0.kind()),
            (None, None) => format!("<Event {}>", self.0.kind()),
        }
    }
}

/// Of a set that is no larger, the objects of all are made with the first that is picked.
const FEW: usize = 32;

/// What a set is at one moment: one revision's whole truth, for as long as it is held.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Snapshot {
    snapshot: Arc<embed::Snapshot>,
    online: PyOnceLock<Py<PyTuple>>,
}

impl Snapshot {
    pub(crate) fn new(snapshot: Arc<embed::Snapshot>) -> Snapshot {
        Snapshot {
            snapshot,
            online: PyOnceLock::new(),
        }
    }

    pub(crate) fn is_of(&self, snapshot: &Arc<embed::Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    pub(crate) fn inner(&self) -> &embed::Snapshot {
        &self.snapshot
    }

    /// Those online, if they were asked for before.
    pub(crate) fn known_online(&self, py: Python<'_>) -> Option<&Py<PyTuple>> {
        self.online.get(py)
    }

    /// The one at this place online; the very object of the tuple, if that was made.
    pub(crate) fn instance<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyAny>> {
        if let Some(made) = self.online.get(py) {
            return made.bind(py).get_item(at);
        }
        let all = self.snapshot.online();
        if all.len() <= FEW {
            return self.online(py)?.bind(py).get_item(at);
        }
        let one = all.get(at).cloned();
        one.map(Instance::new).into_bound_py_any(py)
    }

    fn fault(&self) -> Option<&Fault> {
        self.snapshot.fault()
    }
}

#[pymethods]
impl Snapshot {
    /// Those online, oldest first, as a tuple.
    #[getter]
    pub(crate) fn online(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let made = self
            .online
            .get_or_try_init(py, || tuple_of(py, self.snapshot.online()))?;
        Ok(made.clone_ref(py))
    }

    /// Those recently gone, in the order in which they went, as a tuple; at most 64.
    #[getter]
    fn offline<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(
            py,
            self.snapshot.offline().iter().cloned().map(OfflineInstance),
        )
    }

    /// The oldest instance online, or None.
    #[getter]
    fn leader(&self) -> Option<Instance> {
        self.snapshot.leader().cloned().map(Instance::new)
    }

    /// Grows with each change of the set.
    #[getter]
    fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The store's revision; 0 before the first, and where the store has none.
    #[getter]
    fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    /// Which history of the store the revision belongs to: grows when the store turns out to be another
    /// than before, restored from a backup for instance.
    #[getter]
    fn epoch(&self) -> u64 {
        self.snapshot.epoch()
    }

    /// How many records of the service could not be read.
    #[getter]
    fn invalid(&self) -> usize {
        self.snapshot.invalid()
    }

    /// Whether a whole view was ever received.
    #[getter]
    fn is_ready(&self) -> bool {
        self.snapshot.is_ready()
    }

    /// Whether this is what the store has, as far as anybody can know.
    #[getter]
    fn is_current(&self) -> bool {
        self.snapshot.is_current()
    }

    /// Why it is not current: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.fault()
            .map(|fault| exception(py, &fault.error))
            .transpose()
    }

    /// Since when it is not current: a datetime in UTC, or None.
    #[getter]
    fn since(&self) -> Option<SystemTime> {
        self.fault().map(|fault| fault.since)
    }

    fn __repr__(&self) -> String {
        let online = self.snapshot.online().len();
        format!("<Snapshot {}: {online} online>", self.snapshot.version())
    }
}

/// How fresh a set is.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Status(embed::Status);

impl Status {
    pub(crate) fn new(status: embed::Status) -> Status {
        Status(status)
    }
}

#[pymethods]
impl Status {
    /// `pending` before the first view, then `current` or `stale`.
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state.name()
    }

    /// Why it is not current: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .fault
            .as_ref()
            .map(|fault| exception(py, &fault.error))
            .transpose()
    }

    /// Since when it is not current: a datetime in UTC, or None.
    #[getter]
    fn since(&self) -> Option<SystemTime> {
        self.0.fault.as_ref().map(|fault| fault.since)
    }

    /// Grows with each change of the set.
    #[getter]
    fn version(&self) -> u64 {
        self.0.version
    }

    /// The store's revision; 0 before the first, and where the store has none.
    #[getter]
    fn revision(&self) -> u64 {
        self.0.revision
    }

    /// Which history of the store the revision belongs to: grows when the store turns out to be another
    /// than before, restored from a backup for instance.
    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// How many records of the service cannot be read.
    #[getter]
    fn invalid(&self) -> usize {
        self.0.invalid
    }

    fn __repr__(&self) -> String {
        format!("<Status {} {}>", self.state(), self.0.version)
    }
}

/// An instance that went.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct OfflineInstance(embed::OfflineInstance);

#[pymethods]
impl OfflineInstance {
    /// As it was last seen.
    #[getter]
    fn instance(&self) -> Instance {
        Instance::new(self.0.instance.clone())
    }

    /// When its going was noticed: a datetime in UTC.
    #[getter]
    fn at(&self) -> SystemTime {
        self.0.at
    }

    /// `removed`: the store told so as it happened. `missing`: it was not there any more when the store
    /// could be read again.
    #[getter]
    fn reason(&self) -> &'static str {
        self.0.reason.name()
    }

    fn __repr__(&self) -> String {
        format!(
            "<OfflineInstance {} {}>",
            self.0.instance.address(),
            self.reason()
        )
    }
}

/// How a connection or a registration fares.
///
/// Threads: any number at once.
#[pyclass(frozen, generic, module = "libdiscover")]
pub(crate) struct Condition {
    state: &'static str,
    why: Option<embed::Error>,
}

impl Condition {
    pub(crate) fn new(state: &'static str, why: Option<embed::Error>) -> Condition {
        Condition { state, why }
    }
}

#[pymethods]
impl Condition {
    /// Of a connection: `connected`, `suspended` or `lost`. Of a registration: its standing.
    #[getter]
    fn state(&self) -> &'static str {
        self.state
    }

    /// Why, if it is a bad state: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let why = self.why.as_ref();
        why.map(|error| exception(py, error)).transpose()
    }

    fn __repr__(&self) -> String {
        match &self.why {
            Some(error) => format!("<Condition {}: {error:#}>", self.state),
            None => format!("<Condition {}>", self.state),
        }
    }
}
