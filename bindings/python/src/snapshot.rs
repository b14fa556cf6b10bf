//! The state of a set at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use discover_core::embed::{self, Fault};

use crate::errors::to_exception;
use crate::instance::{Instance, instance_tuple};

/// Up to this size of a set, the first pick makes the Python objects of all its instances.
const MAX_EAGER_INSTANCES: usize = 32;

/// The state of a set at one moment, consistent with one revision of the store. Immutable.
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

    /// Returns true if this wraps the given snapshot of the core.
    pub(crate) fn wraps(&self, snapshot: &Arc<embed::Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    pub(crate) fn inner(&self) -> &embed::Snapshot {
        &self.snapshot
    }

    /// Returns the tuple of the instances online if it has been made.
    pub(crate) fn cached_online(&self, py: Python<'_>) -> Option<&Py<PyTuple>> {
        self.online.get(py)
    }

    /// Returns the instance at an index of `online`: the object in the tuple if the tuple has been made.
    pub(crate) fn instance<'py>(
        &self,
        py: Python<'py>,
        index: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(online) = self.online.get(py) {
            return online.bind(py).get_item(index);
        }
        let online = self.snapshot.online();
        if online.len() <= MAX_EAGER_INSTANCES {
            return self.online(py)?.bind(py).get_item(index);
        }
        let instance = online.get(index).cloned();
        instance.map(Instance::new).into_bound_py_any(py)
    }

    fn fault(&self) -> Option<&Fault> {
        self.snapshot.fault()
    }
}

#[pymethods]
impl Snapshot {
    /// The instances online, oldest first.
    #[getter]
    pub(crate) fn online(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let online = self
            .online
            .get_or_try_init(py, || instance_tuple(py, self.snapshot.online()))?;
        Ok(online.clone_ref(py))
    }

    /// The last instances that went offline, at most 64, in the order in which they went offline.
    #[getter]
    pub(crate) fn offline<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
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

    /// A number that grows with each change of the set.
    #[getter]
    fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The revision of the store; 0 before the first view, and if the store has no revisions.
    #[getter]
    fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    /// The epoch of the store, to which the revision belongs.
    ///
    /// It grows when the history of the store changes: the store was wiped, or restored from a backup.
    #[getter]
    fn epoch(&self) -> u64 {
        self.snapshot.epoch()
    }

    /// The number of the service's records that cannot be decoded.
    #[getter]
    fn invalid(&self) -> usize {
        self.snapshot.invalid()
    }

    /// True if a complete view has been received from the store.
    #[getter]
    fn is_ready(&self) -> bool {
        self.snapshot.is_ready()
    }

    /// True if the store responded and has reported no later change.
    #[getter]
    fn is_current(&self) -> bool {
        self.snapshot.is_current()
    }

    /// The reason why the snapshot is not current: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.fault()
            .map(|fault| to_exception(py, &fault.error))
            .transpose()
    }

    /// The time since which the snapshot is not current, in UTC, or None.
    #[getter]
    fn since(&self) -> Option<SystemTime> {
        self.fault().map(|fault| fault.since)
    }

    fn __repr__(&self) -> String {
        let online = self.snapshot.online().len();
        format!("<Snapshot {}: {online} online>", self.snapshot.version())
    }
}

/// An instance that went offline. Immutable.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct OfflineInstance(embed::OfflineInstance);

#[pymethods]
impl OfflineInstance {
    /// The instance as last seen.
    #[getter]
    fn instance(&self) -> Instance {
        Instance::new(self.0.instance.clone())
    }

    /// The time at which the client noticed that the instance was offline, in UTC.
    #[getter]
    fn at(&self) -> SystemTime {
        self.0.at
    }

    /// How the client noticed: `removed` or `missing`.
    ///
    /// `removed`: the store reported the removal when it happened. `missing`: the instance was no longer in the store
    /// when the store could be read again.
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
