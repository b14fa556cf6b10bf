//! Instances as Python objects.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyString, PyTuple};

use discover_core::embed;

use crate::errors::into_py_err;

/// One running copy of a service. Immutable: after a change, the set holds a new object.
///
/// Instances are equal if all their fields are equal.
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
pub(crate) struct Instance(Arc<embed::Instance>);

/// Python objects in the core's binding cache: each is made on first use and shared by all `Instance` objects of the
/// same instance of the core.
struct CachedObjects<T>(Option<T>);

/// Cached objects of one instance.
struct InstanceObjects {
    address: PyOnceLock<Py<PyString>>,
    layouts: PyOnceLock<Py<PyTuple>>,
}

/// Cached objects of one metadata value, shared by all instances with equal metadata.
struct MetadataObjects {
    attributes: PyOnceLock<Py<PyMappingProxy>>,
    tags: PyOnceLock<Py<PyTuple>>,
}

impl Default for InstanceObjects {
    fn default() -> InstanceObjects {
        let (address, layouts) = (PyOnceLock::new(), PyOnceLock::new());
        InstanceObjects { address, layouts }
    }
}

impl Default for MetadataObjects {
    fn default() -> MetadataObjects {
        let (attributes, tags) = (PyOnceLock::new(), PyOnceLock::new());
        MetadataObjects { attributes, tags }
    }
}

impl<T: Default + Send + Sync + 'static> CachedObjects<T> {
    fn get_or_create(cache: &embed::BindingCache) -> PyResult<&T> {
        let cached = cache.get_or_init(|| Box::new(CachedObjects(Some(T::default()))));
        let objects = cached
            .downcast_ref::<CachedObjects<T>>()
            .and_then(|cached| cached.0.as_ref());
        objects.ok_or_else(|| {
            pyo3::exceptions::PyRuntimeError::new_err("the cache belongs to another language")
        })
    }
}

impl<T> Drop for CachedObjects<T> {
    /// Usually runs on a thread of the core, which is not attached to the interpreter. PyO3 then takes a lock that every
    /// attaching thread takes too; a child process forked in that moment would block on it without end. Forks are
    /// therefore held off.
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

    fn objects(&self) -> PyResult<&InstanceObjects> {
        CachedObjects::get_or_create(self.0.binding_cache())
    }

    fn metadata_objects(&self) -> PyResult<&MetadataObjects> {
        CachedObjects::get_or_create(self.0.metadata().binding_cache())
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
    /// The name of the service.
    #[getter]
    fn service(&self) -> &str {
        self.0.service().as_str()
    }

    /// The id, unique within the service. By default the address.
    #[getter]
    fn id(&self) -> &str {
        self.0.id()
    }

    /// The host name or IP address, without brackets.
    #[getter]
    fn host(&self) -> &str {
        self.0.host()
    }

    /// The port, 1 to 65535.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// The address as `host:port`, IPv6 in brackets.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        let make = || PyString::new(py, self.0.address()).unbind();
        Ok(self.objects()?.address.get_or_init(py, make).clone_ref(py))
    }

    /// The attributes, a read-only mapping of strings to strings.
    #[getter]
    fn attributes(&self, py: Python<'_>) -> PyResult<Py<PyMappingProxy>> {
        let make = || -> PyResult<_> {
            let attributes = PyDict::new(py);
            for (name, value) in self.0.attributes() {
                // Most instances have the same attribute names.
                attributes.set_item(PyString::intern(py, name), value)?;
            }
            Ok(PyMappingProxy::new(py, attributes.as_mapping()).unbind())
        };
        let object = self
            .metadata_objects()?
            .attributes
            .get_or_try_init(py, make)?;
        Ok(object.clone_ref(py))
    }

    /// The tags, in the order in which they were registered.
    #[getter]
    fn tags(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || Ok::<_, PyErr>(PyTuple::new(py, self.0.tags())?.unbind());
        let object = self.metadata_objects()?.tags.get_or_try_init(py, make)?;
        Ok(object.clone_ref(py))
    }

    /// The names of the layouts in which the instance is stored, in the order of the URL.
    #[getter]
    fn layouts(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || Ok::<_, PyErr>(PyTuple::new(py, self.0.layouts())?.unbind());
        let object = self.objects()?.layouts.get_or_try_init(py, make)?;
        Ok(object.clone_ref(py))
    }

    /// The revision of the store at which the instance came online. The lowest one in a set is the leader's.
    #[getter]
    fn created(&self) -> u64 {
        self.0.created()
    }

    /// The weight from the attribute `weight`, by default 1.
    #[getter]
    fn weight(&self) -> u32 {
        self.0.weight()
    }

    /// The zone from the attribute `zone`, or None.
    #[getter]
    fn zone(&self) -> Option<&str> {
        self.0.zone()
    }

    /// True if the instance disappeared from the store together with many others.
    ///
    /// The store may have lost it by mistake. A suspect instance is picked last and does not lead while another one
    /// can. It goes offline if it does not return in time.
    #[getter]
    fn is_suspect(&self) -> bool {
        self.0.is_suspect()
    }

    fn __copy__(slf: Py<Instance>) -> Py<Instance> {
        slf
    }

    /// An instance is immutable, with all that it contains.
    fn __deepcopy__(slf: Py<Instance>, _memo: Bound<'_, PyAny>) -> Py<Instance> {
        slf
    }

    /// For `pickle`.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (StoredInstance,))> {
        let restore = py
            .import("libdiscover._native")?
            .getattr("restore_instance")?;
        let instance = &self.0;
        let stored = (
            instance.service().to_string(),
            instance.id().to_owned(),
            instance.host().to_owned(),
            instance.port(),
            instance.attributes().clone(),
            instance.tags().to_vec(),
            instance.created(),
            instance.layouts().to_vec(),
            instance.is_suspect(),
        );
        Ok((restore, (stored,)))
    }

    /// Redacts secrets.
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let attributes = embed::redact(self.0.attributes()).into_pyobject(py)?;
        let attributes = attributes.repr()?;
        let suspect = if self.0.is_suspect() { " suspect" } else { "" };
        Ok(format!(
            "<Instance {} {} {attributes}{suspect}>",
            self.0.service(),
            self.0.address()
        ))
    }
}

/// The fields of an instance, in the order of its constructor, then its layouts and whether it is suspect.
type StoredInstance = (
    String,
    String,
    String,
    u16,
    embed::Attributes,
    Vec<String>,
    u64,
    Vec<String>,
    bool,
);

/// Restores an instance. For `pickle`.
#[pyfunction]
pub(crate) fn restore_instance(py: Python<'_>, stored: StoredInstance) -> PyResult<Instance> {
    let (service, id, host, port, attributes, tags, created, layouts, is_suspect) = stored;
    let service = embed::ServiceName::new(&service).map_err(into_py_err(py))?;
    let instance = embed::Instance::new(service, &id, &host, port, attributes, tags, created);
    Ok(Instance(instance.restored(layouts, is_suspect).into()))
}

/// Makes a tuple of instances.
pub(crate) fn instance_tuple(
    py: Python<'_>,
    instances: &[Arc<embed::Instance>],
) -> PyResult<Py<PyTuple>> {
    Ok(PyTuple::new(py, instances.iter().cloned().map(Instance))?.unbind())
}
