//! The live set. Reads are of memory, and keep the GIL.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use discover_core::embed::{Policy, SetHandle};

use crate::arguments::{attributes, duration};
use crate::call::Call;
use crate::client::Owner;
use crate::errors::raising;
use crate::feed::{Feed, Subscription};
use crate::host::Service;
use crate::values::{Instance, Snapshot, Status, tuple_of};

/// The live set of the instances of one service, or of those that match a filter.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct ServiceSet {
    set: SetHandle,
    owner: Arc<Owner>,
    /// The newest snapshot asked for, so that it is made into Python objects once. The lock is never
    /// held while Python objects are made or dropped, which may run anything.
    newest: Mutex<Option<Py<Snapshot>>>,
}

impl ServiceSet {
    pub(crate) fn new(set: SetHandle, owner: Arc<Owner>) -> ServiceSet {
        ServiceSet {
            set,
            owner,
            newest: Mutex::default(),
        }
    }

    fn newest(&self, py: Python<'_>) -> Option<Py<Snapshot>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().map(|snapshot| snapshot.clone_ref(py))
    }
}

#[pymethods]
impl ServiceSet {
    /// The service.
    #[getter]
    fn service(&self) -> &str {
        self.set.service().as_str()
    }

    /// What the set is now; the same object until it changes.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Py<Snapshot>> {
        let now = self.set.snapshot();
        if let Some(newest) = self.newest(py).filter(|newest| newest.get().is_of(&now)) {
            return Ok(newest);
        }
        let made = Py::new(py, Snapshot::new(now))?;
        let kept = Some(made.clone_ref(py));
        let old = mem::replace(
            &mut *self.newest.lock().unwrap_or_else(PoisonError::into_inner),
            kept,
        );
        drop(old);
        Ok(made)
    }

    /// Those online, oldest first; the same tuple until the set changes.
    fn online(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        self.snapshot(py)?.get().online(py)
    }

    /// How many are online.
    fn __len__(&self) -> usize {
        self.set.snapshot().online().len()
    }

    /// The oldest instance online.
    fn leader(&self) -> Option<Instance> {
        self.set.snapshot().leader().cloned().map(Instance::new)
    }

    /// Those online as the hosts of a service.
    fn hosts(&self) -> Service {
        Service(self.set.hosts())
    }

    /// How fresh it is.
    fn status(&self) -> Status {
        Status::new(self.set.status())
    }

    /// One of those online, or none.
    #[pyo3(signature = (policy=None, key=None))]
    fn pick<'py>(
        &self,
        py: Python<'py>,
        policy: Option<String>,
        key: Option<String>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let name = policy.as_deref().unwrap_or(Policy::NAMES[0]);
        let policy = Policy::parse(name, key.as_deref()).map_err(raising(py))?;
        let snapshot = self.snapshot(py)?;
        let snapshot = snapshot.bind(py).get();
        let at = self.set.choose(snapshot.inner(), policy);
        at.map(|at| snapshot.instance(py, at)).transpose()
    }

    /// Says that a call to an instance picked by `p2c` is over.
    fn done(&self, instance: &Bound<'_, Instance>) {
        self.set.done(instance.get().inner());
    }

    /// The set of those that match.
    fn filter(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
        tags: Vec<String>,
    ) -> PyResult<ServiceSet> {
        let attributes = self::attributes(attributes)?;
        let set = self.set.filter(attributes, tags).map_err(raising(py))?;
        Ok(ServiceSet::new(set, self.owner.clone()))
    }

    /// Waits until at least `count` are online. Gives them, as a tuple.
    fn wait(&self, py: Python<'_>, count: usize, timeout: &Bound<'_, PyAny>) -> PyResult<Call> {
        let pending = self
            .set
            .wait(count, duration("timeout", timeout)?)
            .map_err(raising(py))?;
        Ok(Call::abortable(pending, |py, snapshot| {
            tuple_of(py, snapshot.online())?.into_py_any(py)
        }))
    }

    /// Has `callback` called with each event, on the client's callback thread.
    fn subscribe(&self, callback: Bound<'_, PyAny>) -> PyResult<Subscription> {
        Subscription::new(&self.set, self.owner.clone(), callback)
    }

    /// Events to be drained. `ring`, if given, is called on the client's callback thread whenever there
    /// is something to drain, and once after the end.
    #[pyo3(signature = (ring=None))]
    fn feed(&self, py: Python<'_>, ring: Option<Bound<'_, PyAny>>) -> PyResult<Feed> {
        Feed::new(py, &self.set, self.owner.clone(), ring)
    }
}
