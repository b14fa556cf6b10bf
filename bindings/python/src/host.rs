//! A service and its hosts, as Scalingo's etcd-discovery knows them.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use discover_core::embed;

use crate::errors::raising;
use crate::instance::Instance;

/// What an instance says as a host: where the public finds it and where the others in its network do,
/// with which ports and credentials. What it does not say is empty, or false. Immutable.
///
///     libdiscover.Host.of(instance).private_url("http", "/status")
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
#[derive(PartialEq, Hash)]
pub(crate) struct Host(embed::Host);

#[pymethods]
impl Host {
    /// What an instance says as a host, whichever the layout.
    #[staticmethod]
    fn of(instance: &Bound<'_, Instance>) -> Host {
        Host(embed::Host::of(instance.get().inner()))
    }

    /// The service.
    #[getter]
    fn service_name(&self) -> &str {
        &self.0.service_name
    }

    /// Unique within the service: the id of the instance.
    #[getter]
    fn uuid(&self) -> &str {
        &self.0.uuid
    }

    /// Where the public finds it; without a public address the private one.
    #[getter]
    fn hostname(&self) -> &str {
        &self.0.hostname
    }

    /// Where the others in its network find it.
    #[getter]
    fn private_hostname(&self) -> &str {
        &self.0.private_hostname
    }

    /// The public ports, by scheme.
    #[getter]
    fn ports(&self) -> BTreeMap<String, u16> {
        self.0.ports.clone()
    }

    /// The private ports, by scheme.
    #[getter]
    fn private_ports(&self) -> BTreeMap<String, u16> {
        self.0.private_ports.clone()
    }

    /// Of the credentials, which all public hosts of a service share.
    #[getter]
    fn user(&self) -> &str {
        &self.0.user
    }

    /// Of the credentials, as `user`.
    #[getter]
    fn password(&self) -> &str {
        &self.0.password
    }

    /// The shard that it serves.
    #[getter]
    fn shard(&self) -> &str {
        &self.0.shard
    }

    /// Whether the public finds it.
    #[getter]
    fn is_public(&self) -> bool {
        self.0.is_public
    }

    /// Whether it must not be missing.
    #[getter]
    fn is_critical(&self) -> bool {
        self.0.is_critical
    }

    /// Where the public finds it: `scheme://user:password@host:port` and the path. Without a scheme
    /// `http`, else `https`, whichever there is.
    ///
    /// Raises InvalidArgument.
    #[pyo3(signature = (scheme="", path=""))]
    fn url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.url(scheme, path).map_err(raising(py))
    }

    /// The same within its network.
    ///
    /// Raises InvalidArgument.
    #[pyo3(signature = (scheme="", path=""))]
    fn private_url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.private_url(scheme, path).map_err(raising(py))
    }

    fn __repr__(&self) -> String {
        format!("<Host {} {}>", self.0.service_name, self.0.uuid)
    }
}

/// The instances of a set as the hosts of a service: those online when it was asked for. Immutable.
///
///     client.services("api").hosts().url("https", "/status")
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
#[derive(PartialEq, Hash)]
pub(crate) struct Service(pub(crate) embed::Service);

#[pymethods]
impl Service {
    /// What it is called.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether the public finds it: any host is public.
    #[getter]
    fn is_public(&self) -> bool {
        self.0.is_public()
    }

    /// Whether it must not be missing: any host is critical.
    #[getter]
    fn is_critical(&self) -> bool {
        self.0.is_critical()
    }

    /// All its hosts, oldest first, as a tuple.
    fn all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let all: Vec<Host> = self.0.all().iter().cloned().map(Host).collect();
        PyTuple::new(py, all)
    }

    /// The oldest host, which is the leader, or None.
    fn first(&self) -> Option<Host> {
        self.0.first().cloned().map(Host)
    }

    /// Any host at random, of those that are fit for calls, or None.
    fn one(&self) -> Option<Host> {
        self.0.one().cloned().map(Host)
    }

    /// The same with the hosts of one shard alone.
    fn shard(&self, shard: &str) -> Service {
        Service(self.0.shard(shard))
    }

    /// Where it is found: at the public address that the last of its public hosts brought; where there
    /// is none, or it is that of one shard, at that of any one host.
    ///
    /// Raises NotFound, InvalidArgument.
    #[pyo3(signature = (scheme="", path=""))]
    fn url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.url(scheme, path).map_err(raising(py))
    }

    fn __repr__(&self) -> String {
        format!("<Service {}: {} hosts>", self.0.name(), self.0.all().len())
    }
}
