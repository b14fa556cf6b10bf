//! The live set of a service's instances. Reads use memory only and keep the GIL.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

use discover_core::embed::{self, Error, Policy, SetHandle};

use crate::arguments::{attributes, duration, tags};
use crate::call::Call;
use crate::errors::{into_py_err, to_py_err};
use crate::instance::{Instance, instance_tuple};
use crate::owner::Owner;
use crate::snapshot::Snapshot;
use crate::status::Status;
use crate::subscription::Subscription;
use crate::watch::{EventFeed, Watch};

/// The live set of the instances of one service, optionally filtered.
///
/// Reads (`online`, `offline`, `leader`, `pick`, `snapshot`, `status`, iteration, `len`) return what is in memory. They
/// never wait and do not release the GIL. After the client is closed, they return the last contents. In a forked child
/// process they raise `Forked`.
///
/// A set is always true, even if it is empty; compare `len(set)` instead.
///
/// Threads: any number at once.
#[pyclass(frozen, subclass, weakref, module = "libdiscover")]
pub(crate) struct ServiceSet(Arc<SharedSet>);

/// What all Python objects of one set share.
struct SharedSet {
    set: SetHandle,
    owner: Arc<Owner>,
    /// The Python object of the newest snapshot that was read. The lock is never held while Python objects are made or
    /// dropped, because both may run any Python code.
    cached_snapshot: Mutex<Option<Py<Snapshot>>>,
}

impl ServiceSet {
    pub(crate) fn new(set: SetHandle, owner: Arc<Owner>) -> ServiceSet {
        ServiceSet(Arc::new(SharedSet {
            set,
            owner,
            cached_snapshot: Mutex::default(),
        }))
    }

    pub(crate) fn inner(&self) -> &SetHandle {
        &self.0.set
    }

    /// Applies `read` to the cached snapshot. Returns None if there is none or the set has changed since. `read` must
    /// neither make nor drop a Python object.
    fn read_cached<T>(&self, read: impl FnOnce(&Py<Snapshot>) -> Option<T>) -> Option<T> {
        let cached = self.cached_snapshot();
        let snapshot = cached.as_ref()?;
        let is_newest = self.0.set.is_newest(snapshot.get().inner());
        is_newest.then(|| read(snapshot)).flatten()
    }

    fn cached_snapshot(&self) -> MutexGuard<'_, Option<Py<Snapshot>>> {
        self.0
            .cached_snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ServiceSet {
    /// Creates an object of this class for the same set.
    #[new]
    fn from_set(set: &Bound<'_, ServiceSet>) -> ServiceSet {
        ServiceSet(set.get().0.clone())
    }

    /// The name of the service.
    #[getter]
    fn service(&self) -> &str {
        self.0.set.service().as_str()
    }

    /// Returns the current state as an immutable snapshot.
    ///
    /// Returns:
    ///     The same object until the set changes.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Py<Snapshot>> {
        if let Some(snapshot) = self.read_cached(|snapshot| Some(snapshot.clone_ref(py))) {
            return Ok(snapshot);
        }
        let newest = self.core_snapshot(py)?;
        // Another thread may have cached the newest snapshot in the meantime.
        let cached = self
            .cached_snapshot()
            .as_ref()
            .map(|cached| cached.clone_ref(py));
        if let Some(cached) = cached.filter(|cached| cached.get().wraps(&newest)) {
            return Ok(cached);
        }
        let snapshot = Py::new(py, Snapshot::new(newest))?;
        let previous = self.cached_snapshot().replace(snapshot.clone_ref(py));
        drop(previous);
        Ok(snapshot)
    }

    /// Returns the instances online, oldest first.
    ///
    /// Returns:
    ///     The same tuple until the set changes.
    fn online(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let read = |snapshot: &Py<Snapshot>| Some(snapshot.get().cached_online(py)?.clone_ref(py));
        match self.read_cached(read) {
            Some(online) => Ok(online),
            None => self.snapshot(py)?.get().online(py),
        }
    }

    /// Returns the last instances that went offline, at most 64, in the order in which they went offline.
    fn offline<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.snapshot(py)?.get().offline(py)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.core_snapshot(py)?.online().len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.online(py)?.bind(py).try_iter()
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Returns the oldest instance online, or None.
    fn leader(&self, py: Python<'_>) -> PyResult<Option<Instance>> {
        let leader = self.core_snapshot(py)?.leader().cloned();
        Ok(leader.map(Instance::new))
    }

    /// Returns the freshness of the set.
    fn status(&self, py: Python<'_>) -> PyResult<Status> {
        self.0
            .set
            .status()
            .map(Status::new)
            .map_err(into_py_err(py))
    }

    /// Picks one of the instances online, or returns None if there is none.
    ///
    /// Candidates are the healthy instances that are not suspect; if there are none, suspect or `warning` ones.
    /// Instances of weight 0 are candidates only if all have weight 0; apart from that, `round_robin` and `random` do not
    /// regard weights.
    ///
    /// Args:
    ///     policy: `round_robin`: each instance in turn. `random`: any. `weighted`: at random, in proportion to the
    ///         attribute `weight`. `p2c`: the one of two random instances with fewer calls in progress; call `done` at
    ///         the end of the call. `hash`: the same instance for the same `key`, in every process and language.
    ///     key: The key for `hash`.
    ///
    /// Raises:
    ///     InvalidArgument: `policy` is unknown, or `hash` has no `key`.
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
            return self.pick_with(py, Policy::RoundRobin);
        }
        let name = policy.map_or(Ok(Policy::NAMES[0].into()), |policy| policy.to_cow())?;
        let key = key.map(|key| key.to_cow()).transpose()?;
        let policy = Policy::parse(&name, key.as_deref()).map_err(into_py_err(py))?;
        self.pick_with(py, policy)
    }

    /// Reports the end of a call to an instance that was picked with `p2c`.
    ///
    /// Args:
    ///     instance: The instance that `pick` returned.
    fn done(&self, instance: &Bound<'_, Instance>) -> PyResult<()> {
        let done = self.0.set.done(instance.get().inner());
        done.map_err(into_py_err(instance.py()))
    }

    /// Returns the live set of the instances that have all given attributes and tags.
    ///
    ///     web.filter(zone="eu")
    ///     web.filter({"app.kubernetes.io/name": "web"}, tags=["canary"])
    ///
    /// Args:
    ///     attributes: Required attributes, with their values.
    ///     tags: Required tags.
    ///     **named: More required attributes.
    ///
    /// Returns:
    ///     A set of the same class.
    ///
    /// Raises:
    ///     TypeError: A name, a value or a tag is not a string.
    ///     Closed: The client is closed.
    #[pyo3(
        signature = (attributes=None, tags=None, **named),
        text_signature = "($self, attributes=None, tags=(), **named)"
    )]
    fn filter<'py>(
        slf: &Bound<'py, Self>,
        attributes: Option<&Bound<'py, PyAny>>,
        tags: Option<&Bound<'py, PyAny>>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (attributes, tags) = (self::attributes(attributes, named)?, self::tags(tags)?);
        let shared = &slf.get().0;
        let set = shared
            .set
            .filter(attributes, tags)
            .map_err(into_py_err(py))?;
        let set = ServiceSet::new(set, shared.owner.clone()).into_bound_py_any(py)?;
        let class = slf.get_type();
        if class.is(py.get_type::<ServiceSet>()) {
            return Ok(set);
        }
        class.call1((set,))
    }

    /// Waits until at least `count` instances are online.
    ///
    /// Args:
    ///     count: Number of instances to wait for.
    ///     timeout: Maximum time to wait: seconds, or a `timedelta`.
    ///
    /// Returns:
    ///     The instances online, oldest first.
    ///
    /// Raises:
    ///     Timeout: Fewer instances are online after `timeout`.
    ///     Closed: The client is closed.
    #[pyo3(signature = (count=1, *, timeout))]
    fn wait(&self, py: Python<'_>, count: i64, timeout: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.wait_call(py, count, timeout)?.wait(py)
    }

    /// Returns the call that waits for instances, for `libdiscover.aio`.
    #[pyo3(name = "_wait_call")]
    fn wait_call(&self, py: Python<'_>, count: i64, timeout: &Bound<'_, PyAny>) -> PyResult<Call> {
        let timeout = duration("timeout", timeout)?;
        let count = usize::try_from(count).map_err(|_| {
            let text = format!("count is {count}; it must be 0 or more");
            to_py_err(py, &Error::invalid(text))
        })?;
        let pending = self.0.set.wait(count, timeout).map_err(into_py_err(py))?;
        Ok(Call::abortable(pending, |py, snapshot| {
            instance_tuple(py, snapshot.online())?.into_py_any(py)
        }))
    }

    /// Calls `callback` with events: first the full state, then `current`, then every change.
    ///
    /// The callback runs on the client's callback thread, one call at a time, until the subscription is cancelled or
    /// the client is closed, even if the subscription is dropped. A slow callback may miss intermediate states, never
    /// the last one, and delays no heartbeat. Exceptions are reported to `sys.unraisablehook`. The callback may make
    /// every call except two, which would wait for the callback itself and raise Busy: to close the client, and to wait
    /// for a watch of the client.
    ///
    /// Args:
    ///     callback: Receives an Event.
    ///
    /// Raises:
    ///     TypeError: `callback` is not callable.
    ///     Closed: The client is closed.
    fn subscribe(&self, callback: Bound<'_, PyAny>) -> PyResult<Subscription> {
        Subscription::to_events(&self.0.set, self.0.owner.clone(), callback)
    }

    /// Returns an iterator of the events that `subscribe` delivers. It waits for the next event and ends when the client
    /// is closed.
    ///
    /// Raises:
    ///     Closed: The client is closed.
    fn watch(&self, py: Python<'_>) -> PyResult<Watch> {
        Watch::new(py, &self.0.set, self.0.owner.clone())
    }

    /// Returns a queue of events, for `libdiscover.aio`.
    ///
    /// Args:
    ///     wake: Called on the client's callback thread when there are events to drain, and once after the end.
    #[pyo3(name = "_event_feed")]
    fn event_feed(&self, py: Python<'_>, wake: Bound<'_, PyAny>) -> PyResult<EventFeed> {
        EventFeed::new(py, &self.0.set, self.0.owner.clone(), Some(wake))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (class, set) = (slf.get_type().name()?, slf.get());
        let contents = match set.0.set.snapshot() {
            Ok(snapshot) => format!("{} online", snapshot.online().len()),
            Err(error) => error.kind().name().to_owned(),
        };
        Ok(format!("<{class} {}: {contents}>", set.service()))
    }
}

impl ServiceSet {
    fn core_snapshot(&self, py: Python<'_>) -> PyResult<Arc<embed::Snapshot>> {
        self.0.set.snapshot().map_err(into_py_err(py))
    }

    fn choose(
        &self,
        py: Python<'_>,
        snapshot: &Snapshot,
        policy: Policy<'_>,
    ) -> PyResult<Option<usize>> {
        let chosen = self.0.set.choose(snapshot.inner(), policy);
        chosen.map_err(into_py_err(py))
    }

    fn pick_with<'py>(
        &self,
        py: Python<'py>,
        policy: Policy<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read = |snapshot: &Py<Snapshot>| {
            let online = snapshot.get().cached_online(py)?.bind(py);
            let index = self.choose(py, snapshot.get(), policy);
            let item = |index: Option<usize>| index.map(|at| online.get_item(at)).transpose();
            Some(index.and_then(item))
        };
        if let Some(picked) = self.read_cached(read) {
            return picked;
        }
        let snapshot = self.snapshot(py)?;
        let snapshot = snapshot.bind(py).get();
        let index = self.choose(py, snapshot, policy)?;
        index.map(|index| snapshot.instance(py, index)).transpose()
    }
}
