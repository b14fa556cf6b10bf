//! What is handed out: immutable, of any thread, and true for as long as it is held.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyString, PyTuple};

use discover_core::embed::{self, Fault};

use crate::errors::exception;

/// One running copy of a service. Immutable: a change makes a new one.
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
pub(crate) struct Instance(Arc<embed::Instance>);

/// What costs something to make, made once for all Python objects that show it, each when somebody asks.
struct Made<T>(Option<T>);

/// What is of one instance.
struct Own {
    address: PyOnceLock<Py<PyString>>,
    layouts: PyOnceLock<Py<PyTuple>>,
}

/// What all instances share that say it.
struct Words {
    attributes: PyOnceLock<Py<PyMappingProxy>>,
    tags: PyOnceLock<Py<PyTuple>>,
}

impl Default for Own {
    fn default() -> Own {
        let (address, layouts) = (PyOnceLock::new(), PyOnceLock::new());
        Own { address, layouts }
    }
}

impl Default for Words {
    fn default() -> Words {
        let (attributes, tags) = (PyOnceLock::new(), PyOnceLock::new());
        Words { attributes, tags }
    }
}

impl<T: Default + Send + Sync + 'static> Made<T> {
    fn at(place: &embed::Foreign) -> PyResult<&T> {
        let made = place.get_or_init(|| Box::new(Made(Some(T::default()))));
        let parts = made
            .downcast_ref::<Made<T>>()
            .and_then(|made| made.0.as_ref());
        parts.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("made by another language"))
    }
}

impl<T> Drop for Made<T> {
    /// Mostly on a thread of the core's, which is not attached: PyO3 then locks what each attached thread
    /// looks at, and a forked child that finds it locked hangs for ever.
    fn drop(&mut self) {
        embed::unforked(|| drop(self.0.take()));
    }
}

impl Instance {
    pub(crate) fn new(instance: Arc<embed::Instance>) -> Instance {
        Instance(instance)
    }

    pub(crate) fn inner(&self) -> &embed::Instance {
        &self.0
    }

    fn own(&self) -> PyResult<&Own> {
        Made::at(self.0.foreign())
    }

    fn words(&self) -> PyResult<&Words> {
        Made::at(self.0.said().foreign())
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Hash for Instance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.id(), self.0.created()).hash(state);
    }
}

#[pymethods]
impl Instance {
    /// The service it is an instance of.
    #[getter]
    fn service(&self) -> &str {
        self.0.service().as_str()
    }

    /// Unique within the service; the address, unless it was registered with another.
    #[getter]
    fn id(&self) -> &str {
        self.0.id()
    }

    /// A host name or an IP address, without brackets.
    #[getter]
    fn host(&self) -> &str {
        self.0.host()
    }

    /// 1 to 65535.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// `host:port`, IPv6 in brackets.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        let make = || PyString::new(py, self.0.address()).unbind();
        Ok(self.own()?.address.get_or_init(py, make).clone_ref(py))
    }

    /// A read-only mapping of strings to strings.
    #[getter]
    fn attributes(&self, py: Python<'_>) -> PyResult<Py<PyMappingProxy>> {
        let make = || -> PyResult<_> {
            let attributes = PyDict::new(py);
            for (name, value) in self.0.attributes() {
                // All instances have much the same names.
                attributes.set_item(PyString::intern(py, name), value)?;
            }
            Ok(PyMappingProxy::new(py, attributes.as_mapping()).unbind())
        };
        let made = self.words()?.attributes.get_or_try_init(py, make)?;
        Ok(made.clone_ref(py))
    }

    /// A tuple of strings, in the order given.
    #[getter]
    fn tags(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || Ok::<_, PyErr>(PyTuple::new(py, self.0.tags())?.unbind());
        let made = self.words()?.tags.get_or_try_init(py, make)?;
        Ok(made.clone_ref(py))
    }

    /// The names of the layouts in whose form it is in the store, in the order of the URL.
    #[getter]
    fn layouts(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || Ok::<_, PyErr>(PyTuple::new(py, self.0.layouts())?.unbind());
        let made = self.own()?.layouts.get_or_try_init(py, make)?;
        Ok(made.clone_ref(py))
    }

    /// The store's revision at which it came online: the lowest in a set is the leader.
    #[getter]
    fn created(&self) -> u64 {
        self.0.created()
    }

    /// From the attribute `weight`, 1 without it.
    #[getter]
    fn weight(&self) -> u32 {
        self.0.weight()
    }

    /// From the attribute `zone`, None without it.
    #[getter]
    fn zone(&self) -> Option<&str> {
        self.0.zone()
    }

    /// Whether the store may have lost it by mistake: it vanished together with many others. It is picked
    /// last, is no leader while another one can be, and goes unless it is back in time.
    #[getter]
    fn is_suspect(&self) -> bool {
        self.0.is_suspect()
    }

    /// Without what is secret.
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let attributes = embed::shown(self.0.attributes()).into_pyobject(py)?;
        let attributes = attributes.repr()?;
        let suspect = if self.0.is_suspect() { " suspect" } else { "" };
        Ok(format!(
            "<Instance {} {} {attributes}{suspect}>",
            self.0.service(),
            self.0.address()
        ))
    }
}

/// A tuple of instances.
pub(crate) fn tuple_of(py: Python<'_>, all: &[Arc<embed::Instance>]) -> PyResult<Py<PyTuple>> {
    Ok(PyTuple::new(py, all.iter().cloned().map(Instance))?.unbind())
}

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
        self.0.instance().cloned().map(Instance)
    }

    /// Why the set is stale: a DiscoverError for `stale`, else None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.error().map(|error| exception(py, error)).transpose()
    }

    fn __repr__(&self) -> String {
        match (self.0.instance(), self.0.error()) {
            (Some(instance), _) => format!("<Event {} {}>", self.0.kind(), instance.address()),
            (None, Some(error)) => format!("<Event {}: {error}>", self.0.kind()),
            (None, None) => format!("<Event {}>", self.0.kind()),
        }
    }
}

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
        let one = self.snapshot.online().get(at).cloned();
        one.map(Instance).into_bound_py_any(py)
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
        PyTuple::new(py, self.snapshot.offline().iter().cloned().map(Departed))
    }

    /// The oldest instance online, or None.
    #[getter]
    fn leader(&self) -> Option<Instance> {
        self.snapshot.leader().cloned().map(Instance)
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
pub(crate) struct Departed(embed::Departed);

#[pymethods]
impl Departed {
    /// As it was last seen.
    #[getter]
    fn instance(&self) -> Instance {
        Instance(self.0.instance.clone())
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
        format!("<Departed {} {}>", self.0.instance.address(), self.reason())
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
            Some(error) => format!("<Condition {}: {error}>", self.state),
            None => format!("<Condition {}>", self.state),
        }
    }
}
