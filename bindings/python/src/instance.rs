//! One running copy of a service, as Python sees it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyString, PyTuple};

use discover_core::embed;

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
    fn at(place: &embed::BindingCache) -> PyResult<&T> {
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
        embed::hold_forks(|| drop(self.0.take()));
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
        Made::at(self.0.binding_cache())
    }

    fn words(&self) -> PyResult<&Words> {
        Made::at(self.0.metadata().binding_cache())
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
