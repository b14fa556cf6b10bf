//! The live set. Reads are of memory, and keep the GIL.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use discover_core::embed::{Policy, SetHandle};

use crate::arguments::{attributes, duration};
use crate::call::Call;
use crate::client::Owner;
use crate::errors::raising;
use crate::feed::{Feed, Subscription};
use crate::host::Service;
use crate::instance::{Instance, tuple_of};
use crate::values::{Snapshot, Status};

/// The live set of the instances of one service, or of those that match a filter. The package adds to it
/// what is written in Python, so that reading is a call of this module and nothing else.
#[pyclass(frozen, subclass, weakref, module = "libdiscover")]
pub(crate) struct ServiceSet(Arc<Inner>);

struct Inner {
    set: SetHandle,
    owner: Arc<Owner>,
    /// The newest snapshot asked for, so that it is made into Python objects once. The lock is never
    /// held while Python objects are made or dropped, which may run anything.
    newest: Mutex<Option<Py<Snapshot>>>,
}

impl ServiceSet {
    pub(crate) fn new(set: SetHandle, owner: Arc<Owner>) -> ServiceSet {
        ServiceSet(Arc::new(Inner {
            set,
            owner,
            newest: Mutex::default(),
        }))
    }

    /// What `look` finds in the snapshot that was asked for last, unless the set has changed since. It
    /// neither makes nor drops a Python object.
    fn known<T>(&self, look: impl FnOnce(&Py<Snapshot>) -> Option<T>) -> Option<T> {
        let newest = self.newest();
        let newest = newest.as_ref()?;
        let is_newest = self.0.set.is_newest(newest.get().inner());
        is_newest.then(|| look(newest)).flatten()
    }

    fn newest(&self) -> MutexGuard<'_, Option<Py<Snapshot>>> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ServiceSet {
    /// Of one that was made by a client or by a filter.
    #[new]
    fn of(made: &Bound<'_, ServiceSet>) -> ServiceSet {
        ServiceSet(made.get().0.clone())
    }

    /// The service.
    #[getter]
    fn service(&self) -> &str {
        self.0.set.service().as_str()
    }

    /// What the set is now, for as long as it is held; the same object until the set changes.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Py<Snapshot>> {
        if let Some(known) = self.known(|newest| Some(newest.clone_ref(py))) {
            return Ok(known);
        }
        let now = self.0.set.snapshot();
        // Another thread may have been faster; or the newer one is only about to be there.
        let newest = self.newest().as_ref().map(|newest| newest.clone_ref(py));
        if let Some(newest) = newest.filter(|newest| newest.get().is_of(&now)) {
            return Ok(newest);
        }
        let made = Py::new(py, Snapshot::new(now))?;
        let old = self.newest().replace(made.clone_ref(py));
        drop(old);
        Ok(made)
    }

    /// Those online, oldest first; the same tuple until the set changes.
    fn online(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let look = |newest: &Py<Snapshot>| Some(newest.get().known_online(py)?.clone_ref(py));
        match self.known(look) {
            Some(online) => Ok(online),
            None => self.snapshot(py)?.get().online(py),
        }
    }

    /// How many are online.
    fn __len__(&self) -> usize {
        self.0.set.snapshot().online().len()
    }

    /// The oldest instance online, or None.
    fn leader(&self) -> Option<Instance> {
        self.0.set.snapshot().leader().cloned().map(Instance::new)
    }

    /// Those online as the hosts of a service: with URLs, ports by scheme, and shards.
    fn hosts(&self) -> Service {
        Service(self.0.set.hosts())
    }

    /// How fresh the set is.
    fn status(&self) -> Status {
        Status::new(self.0.set.status())
    }

    /// One of those online, or None if there is none.
    ///
    /// `round_robin`: one after the other. `random`. `weighted`: by the attribute `weight`. `p2c`: the
    /// less busy of two at random; say `done` when the call is over. `hash`: the same one for the same
    /// `key`, in every process and language.
    ///
    /// Raises InvalidArgument.
    #[pyo3(
        signature = (policy=None, key=None),
        text_signature = "($self, policy='round_robin', key=None)"
    )]
    fn pick<'py>(
        &self,
        py: Python<'py>,
        policy: Option<&Bound<'py, PyString>>,
        key: Option<&Bound<'py, PyString>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if policy.is_none() && key.is_none() {
            return self.choose(py, Policy::RoundRobin);
        }
        let name = policy.map_or(Ok(Policy::NAMES[0].into()), |policy| policy.to_cow())?;
        let key = key.map(|key| key.to_cow()).transpose()?;
        let policy = Policy::parse(&name, key.as_deref()).map_err(raising(py))?;
        self.choose(py, policy)
    }

    /// Says that a call to an instance picked by `p2c` is over.
    fn done(&self, instance: &Bound<'_, Instance>) {
        self.0.set.done(instance.get().inner());
    }

    /// The set of those that match, for a class of the package to be made of.
    #[pyo3(name = "_filter")]
    fn filter(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
        tags: Vec<String>,
    ) -> PyResult<ServiceSet> {
        let attributes = self::attributes(attributes)?;
        let set = self.0.set.filter(attributes, tags).map_err(raising(py))?;
        Ok(ServiceSet::new(set, self.0.owner.clone()))
    }

    /// Waits until at least `count` are online. Gives them, as a tuple.
    #[pyo3(name = "_wait")]
    fn wait(&self, py: Python<'_>, count: usize, timeout: &Bound<'_, PyAny>) -> PyResult<Call> {
        let timeout = duration("timeout", timeout)?;
        let pending = self.0.set.wait(count, timeout).map_err(raising(py))?;
        Ok(Call::abortable(pending, |py, snapshot| {
            tuple_of(py, snapshot.online())?.into_py_any(py)
        }))
    }

    /// Has `callback` called with each event, on the client's callback thread.
    #[pyo3(name = "_subscribe")]
    fn subscribe(&self, callback: Bound<'_, PyAny>) -> PyResult<Subscription> {
        Subscription::new(&self.0.set, self.0.owner.clone(), callback)
    }

    /// Events to be drained. `ring`, if given, is called on the client's callback thread whenever there
    /// is something to drain, and once after the end.
    #[pyo3(name = "_feed", signature = (ring=None))]
    fn feed(&self, py: Python<'_>, ring: Option<Bound<'_, PyAny>>) -> PyResult<Feed> {
        Feed::new(py, &self.0.set, self.0.owner.clone(), ring)
    }
}

impl ServiceSet {
    fn choose<'py>(
        &self,
        py: Python<'py>,
        policy: Policy<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let made = |newest: &Py<Snapshot>| {
            let online = newest.get().known_online(py)?.bind(py);
            let at = self.0.set.choose(newest.get().inner(), policy);
            Some(at.map(|at| online.get_item(at)).transpose())
        };
        if let Some(picked) = self.known(made) {
            return picked;
        }
        let snapshot = self.snapshot(py)?;
        let snapshot = snapshot.bind(py).get();
        let at = self.0.set.choose(snapshot.inner(), policy);
        at.map(|at| snapshot.instance(py, at)).transpose()
    }
}
