//! Opening, registering, closing.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use discover_core::embed::{Attributes, ConnectionState, Engine, LeaseHandle, Standing};

use crate::arguments::{attributes, duration, heartbeat, optional_duration, placed};
use crate::call::Call;
use crate::errors::{exception, raising};
use crate::feed::Subscription;
use crate::set::ServiceSet;
use crate::values::Condition;
use crate::{gate, log};

/// What everything that came out of a client keeps alive.
pub(crate) struct Owner {
    engine: Engine,
    url: String,
}

impl Owner {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Opens the registry at `url`, else at `DISCOVER_URL`, else `local://`. Gives a Client.
#[pyfunction]
#[pyo3(signature = (url=None))]
pub(crate) fn connect(py: Python<'_>, url: Option<String>) -> PyResult<Call> {
    gate::check().map_err(raising(py))?;
    log::install(py)?;
    let pending = Engine::open(url.as_deref()).map_err(raising(py))?;
    Ok(Call::abortable(pending, |py, engine| {
        // One that is opened while the process leaves would not be closed with the others.
        gate::check().map_err(raising(py))?;
        let url = engine.url().map_err(raising(py))?;
        let owner = Arc::new(Owner { engine, url });
        gate::remember(&owner);
        Client(owner).into_py_any(py)
    }))
}

/// An open client.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Client(Arc<Owner>);

#[pymethods]
impl Client {
    /// Where the registry is, secrets hidden.
    #[getter]
    fn url(&self) -> &str {
        &self.0.url
    }

    /// Registers an instance. Gives a Lease.
    #[pyo3(signature = (service, port, host, address, id, attributes, tags, ttl, heartbeat, timeout))]
    #[expect(clippy::too_many_arguments, reason = "Python has names for them")]
    fn register(
        &self,
        py: Python<'_>,
        service: String,
        port: Option<i64>,
        host: Option<String>,
        address: Option<String>,
        id: Option<String>,
        attributes: &Bound<'_, PyDict>,
        tags: Vec<String>,
        ttl: Option<Bound<'_, PyAny>>,
        heartbeat: String,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Call> {
        let attributes = self::attributes(attributes)?;
        let ttl = optional_duration("ttl", ttl.as_ref())?;
        let timeout = optional_duration("timeout", timeout.as_ref())?;
        let register = || {
            let mut wanted = placed(&service, port, host, address)?
                .attributes(attributes)?
                .tags(tags)?
                .heartbeat(self::heartbeat(&heartbeat)?);
            if let Some(id) = id {
                wanted = wanted.id(&id)?;
            }
            if let Some(ttl) = ttl {
                wanted = wanted.ttl(ttl)?;
            }
            self.0.engine.register(wanted, timeout)
        };
        let owner = self.0.clone();
        Ok(Call::new(
            register().map_err(raising(py))?,
            move |py, lease| Lease { lease, owner }.into_py_any(py),
        ))
    }

    /// The live set of a service. Does not wait.
    fn services(&self, py: Python<'_>, service: String) -> PyResult<ServiceSet> {
        let set = self.0.engine.services(&service).map_err(raising(py))?;
        Ok(ServiceSet::new(set, self.0.clone()))
    }

    /// The counters, by name.
    fn metrics(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let metrics = self.0.engine.metrics().map_err(raising(py))?;
        Ok(metrics.fields().into_iter().collect())
    }

    /// How the connection fares.
    fn connection(&self, py: Python<'_>) -> PyResult<Condition> {
        let now = self.0.engine.connection().map_err(raising(py))?;
        Ok(Condition::new(now.name(), now.error().cloned()))
    }

    /// Has `callback` called with each condition, on the client's callback thread.
    #[pyo3(signature = (callback, end=false))]
    fn on_connection(&self, callback: Bound<'_, PyAny>, end: bool) -> PyResult<Subscription> {
        Subscription::to_states(self.0.clone(), callback, end, |mut tell| {
            let told = move |now: ConnectionState| tell(now.name(), now.error());
            self.0.engine.on_connection(told)
        })
    }

    /// Ends everything that came out of it.
    fn close(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Call> {
        Ok(Call::closing(self.0.clone(), duration("timeout", timeout)?))
    }
}

/// A registration. Dropping it unregisters.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Lease {
    lease: LeaseHandle,
    owner: Arc<Owner>,
}

#[pymethods]
impl Lease {
    /// The id under which others see it.
    #[getter]
    fn id(&self) -> String {
        self.lease.id()
    }

    /// `host:port`, IPv6 in brackets.
    #[getter]
    fn address(&self) -> String {
        self.lease.address()
    }

    /// The service.
    #[getter]
    fn service(&self) -> &str {
        self.lease.service().as_str()
    }

    /// The attributes that others see.
    #[getter]
    fn attributes(&self, py: Python<'_>) -> PyResult<Attributes> {
        let now = self.lease.instance().map_err(raising(py))?;
        Ok(now.attributes().clone())
    }

    /// `live`, `lapsed`, `replaced` or `released`.
    #[getter]
    fn standing(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.lease.standing().map_err(raising(py))?.name())
    }

    /// Why it is lapsed or replaced.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let standing = self.lease.standing().map_err(raising(py))?;
        standing
            .error()
            .map(|error| exception(py, error))
            .transpose()
    }

    /// Has `callback` called with each standing, on the client's callback thread.
    #[pyo3(signature = (callback, end=false))]
    fn on_standing(&self, callback: Bound<'_, PyAny>, end: bool) -> PyResult<Subscription> {
        Subscription::to_states(self.owner.clone(), callback, end, |mut tell| {
            let told = move |now: Standing| tell(now.name(), now.error());
            self.lease.on_standing(told)
        })
    }

    /// Says "I am alive" now.
    fn heartbeat(&self, py: Python<'_>) -> PyResult<Call> {
        Ok(Call::plain(self.lease.heartbeat().map_err(raising(py))?))
    }

    /// Replaces all attributes.
    fn update(&self, py: Python<'_>, attributes: &Bound<'_, PyDict>) -> PyResult<Call> {
        let attributes = self::attributes(attributes)?;
        Ok(Call::plain(
            self.lease.update(attributes).map_err(raising(py))?,
        ))
    }

    /// Takes the instance away.
    fn unregister(&self, py: Python<'_>) -> PyResult<Call> {
        Ok(Call::plain(self.lease.unregister().map_err(raising(py))?))
    }
}
