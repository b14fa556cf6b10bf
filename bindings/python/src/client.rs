//! The native halves of `Client` and `Lease`, and `connect`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use discover_core::embed::{Attributes, ConnectionState, Engine, LeaseHandle, Standing};

use crate::arguments::{
    attributes, duration, heartbeat, optional_duration, optional_text, port, registration, tags,
    text,
};
use crate::call::Call;
use crate::errors::{into_py_err, to_exception};
use crate::owner::Owner;
use crate::set::ServiceSet;
use crate::status::{ConnectionStatus, LeaseStatus};
use crate::subscription::Subscription;
use crate::{interpreter_exit, log};

/// Returns the call that opens a client: at `url`, else at `DISCOVER_URL`, else at `local://`.
#[pyfunction]
#[pyo3(signature = (url=None))]
pub(crate) fn connect(py: Python<'_>, url: Option<String>) -> PyResult<Call> {
    interpreter_exit::check_running().map_err(into_py_err(py))?;
    log::install(py)?;
    let pending = Engine::open(url.as_deref()).map_err(into_py_err(py))?;
    Ok(Call::abortable(pending, |py, engine| {
        // The exit handler does not close a client that opens after it has started.
        interpreter_exit::check_running().map_err(into_py_err(py))?;
        let owner = Arc::new(Owner::new(engine).map_err(into_py_err(py))?);
        interpreter_exit::close_at_exit(&owner);
        Client(owner).into_py_any(py)
    }))
}

/// The native half of `libdiscover.Client` and `libdiscover.aio.Client`.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Client(Arc<Owner>);

#[pymethods]
impl Client {
    /// The URL of the registry, with secrets redacted.
    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    /// Returns the call that registers an instance and returns its lease.
    #[pyo3(signature = (service, port, host, address, id, attributes, tags, ttl, heartbeat, timeout))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn register(
        &self,
        py: Python<'_>,
        service: Bound<'_, PyAny>,
        port: Option<Bound<'_, PyAny>>,
        host: Option<Bound<'_, PyAny>>,
        address: Option<Bound<'_, PyAny>>,
        id: Option<Bound<'_, PyAny>>,
        attributes: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
        heartbeat: String,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Call> {
        let (service, port) = (text("service", &service)?, self::port(port.as_ref())?);
        let host = optional_text("host", host.as_ref())?;
        let address = optional_text("address", address.as_ref())?;
        let id = optional_text("id", id.as_ref())?;
        let attributes = self::attributes(attributes.as_ref(), None)?;
        let tags = self::tags(tags.as_ref())?;
        let ttl = optional_duration("ttl", ttl.as_ref())?;
        let timeout = optional_duration("timeout", timeout.as_ref())?;
        let register = || {
            let mut registration = registration(&service, port, host, address)?
                .attributes(attributes)?
                .tags(tags)?
                .heartbeat(self::heartbeat(&heartbeat)?);
            if let Some(id) = id {
                registration = registration.id(&id)?;
            }
            if let Some(ttl) = ttl {
                registration = registration.ttl(ttl)?;
            }
            self.0.engine().register(registration, timeout)
        };
        let owner = self.0.clone();
        Ok(Call::new(
            register().map_err(into_py_err(py))?,
            move |py, lease| Lease { lease, owner }.into_py_any(py),
        ))
    }

    /// Returns the live set of a service, without waiting.
    fn services(&self, py: Python<'_>, service: Bound<'_, PyAny>) -> PyResult<ServiceSet> {
        let service = text("service", &service)?;
        let set = self
            .0
            .engine()
            .services(&service)
            .map_err(into_py_err(py))?;
        Ok(ServiceSet::new(set, self.0.clone()))
    }

    /// Returns the client's counters, by name.
    fn metrics(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let metrics = self.0.engine().metrics().map_err(into_py_err(py))?;
        Ok(metrics.fields().into_iter().collect())
    }

    /// Returns the current status of the connection to the registry.
    fn connection(&self, py: Python<'_>) -> PyResult<ConnectionStatus> {
        let state = self.0.engine().connection().map_err(into_py_err(py))?;
        Ok(ConnectionStatus::new(&state))
    }

    /// Calls `callback` with the connection's status now and on each change, on the client's callback thread.
    ///
    /// Args:
    ///     callback: Receives a ConnectionStatus.
    ///     end: If true, `callback` also receives None once, when the subscription ends.
    #[pyo3(signature = (callback, end=false))]
    fn on_connection(&self, callback: Bound<'_, PyAny>, end: bool) -> PyResult<Subscription> {
        Subscription::to_statuses(self.0.clone(), callback, end, |sink| {
            let on_change = move |state: ConnectionState| sink.call(ConnectionStatus::new(&state));
            self.0.engine().on_connection(on_change)
        })
    }

    /// Returns the call that closes the client and everything that came from it.
    fn close(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Call> {
        Ok(Call::close(self.0.clone(), duration("timeout", timeout)?))
    }
}

/// The native half of `libdiscover.Lease` and `libdiscover.aio.Lease`. Dropping it unregisters the instance.
#[pyclass(frozen, module = "libdiscover._native")]
pub(crate) struct Lease {
    lease: LeaseHandle,
    owner: Arc<Owner>,
}

#[pymethods]
impl Lease {
    /// The id of the instance, unique within the service.
    #[getter]
    fn id(&self) -> String {
        self.lease.id()
    }

    /// The address of the instance as `host:port`, IPv6 in brackets.
    #[getter]
    fn address(&self) -> String {
        self.lease.address()
    }

    /// The name of the service.
    #[getter]
    fn service(&self) -> &str {
        self.lease.service().as_str()
    }

    /// The attributes that other clients see.
    #[getter]
    fn attributes(&self, py: Python<'_>) -> PyResult<Attributes> {
        let instance = self.lease.instance().map_err(into_py_err(py))?;
        Ok(instance.attributes().clone())
    }

    /// The standing of the registration: `live`, `lapsed`, `replaced` or `released`.
    #[getter]
    fn standing(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.lease.standing().map_err(into_py_err(py))?.name())
    }

    /// The reason why the registration is `lapsed` or `replaced`, else None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let standing = self.lease.standing().map_err(into_py_err(py))?;
        standing
            .error()
            .map(|error| to_exception(py, error))
            .transpose()
    }

    /// Calls `callback` with the registration's status now and on each change, on the client's callback thread.
    ///
    /// Args:
    ///     callback: Receives a LeaseStatus.
    ///     end: If true, `callback` also receives None once, when the subscription ends.
    #[pyo3(signature = (callback, end=false))]
    fn on_standing(&self, callback: Bound<'_, PyAny>, end: bool) -> PyResult<Subscription> {
        Subscription::to_statuses(self.owner.clone(), callback, end, |sink| {
            let on_change = move |standing: Standing| sink.call(LeaseStatus::new(&standing));
            self.lease.on_standing(on_change)
        })
    }

    /// Returns the call that sends a heartbeat.
    fn heartbeat(&self, py: Python<'_>) -> PyResult<Call> {
        let pending = self.lease.heartbeat().map_err(into_py_err(py))?;
        Ok(Call::returning_none(pending))
    }

    /// Returns the call that replaces all attributes.
    fn update(&self, py: Python<'_>, attributes: &Bound<'_, PyAny>) -> PyResult<Call> {
        let attributes = self::attributes(Some(attributes), None)?;
        let pending = self.lease.update(attributes).map_err(into_py_err(py))?;
        Ok(Call::returning_none(pending))
    }

    /// Returns the call that unregisters the instance.
    fn unregister(&self, py: Python<'_>) -> PyResult<Call> {
        let pending = self.lease.unregister().map_err(into_py_err(py))?;
        Ok(Call::returning_none(pending))
    }
}
