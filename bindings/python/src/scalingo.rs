//! The view of a service that Scalingo's etcd-discovery has: hosts with URLs, ports by scheme, and credentials.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use discover_core::embed::scalingo;

use crate::errors::into_py_err;
use crate::instance::Instance;
use crate::set::ServiceSet;

/// An instance as a host of etcd-discovery: public and private addresses, ports by scheme, and credentials. Immutable.
///
/// Fields without a value are empty or false.
///
///     scalingo.Host.from_instance(instance).private_url("http", "/status")
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover.scalingo")]
#[derive(PartialEq, Hash)]
pub(crate) struct Host(scalingo::Host);

#[pymethods]
impl Host {
    /// Returns an instance as a host, in whichever layout it is stored.
    ///
    /// Args:
    ///     instance: The instance.
    #[staticmethod]
    fn from_instance(instance: &Bound<'_, Instance>) -> Host {
        Host(scalingo::Host::from_instance(instance.get().inner()))
    }

    /// The name of the service.
    #[getter]
    fn service_name(&self) -> &str {
        &self.0.service_name
    }

    /// The id of the instance, unique within the service.
    #[getter]
    fn uuid(&self) -> &str {
        &self.0.uuid
    }

    /// The public host name, or the private one if there is no public address.
    #[getter]
    fn hostname(&self) -> &str {
        &self.0.hostname
    }

    /// The host name within the private network.
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

    /// The user of the credentials that all public hosts of a service share.
    #[getter]
    fn user(&self) -> &str {
        &self.0.user
    }

    /// The password of the credentials that all public hosts of a service share.
    #[getter]
    fn password(&self) -> &str {
        &self.0.password
    }

    /// The shard that the host serves, or an empty string.
    #[getter]
    fn shard(&self) -> &str {
        &self.0.shard
    }

    /// True if the host has a public address.
    #[getter]
    fn is_public(&self) -> bool {
        self.0.is_public
    }

    /// True if the host is marked as critical.
    #[getter]
    fn is_critical(&self) -> bool {
        self.0.is_critical
    }

    /// Returns the public URL: `scheme://user:password@host:port` and the path.
    ///
    /// Args:
    ///     scheme: A scheme of `ports`. By default `http`, or `https` if there is no `http`.
    ///     path: The path, appended as it is.
    ///
    /// Raises:
    ///     InvalidArgument: The host has no port for the scheme.
    #[pyo3(signature = (scheme="", path=""))]
    fn url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.url(scheme, path).map_err(into_py_err(py))
    }

    /// Returns the URL within the private network, in the form that `url` has.
    ///
    /// Args:
    ///     scheme: A scheme of `private_ports`. By default `http`, or `https` if there is no `http`.
    ///     path: The path, appended as it is.
    ///
    /// Raises:
    ///     InvalidArgument: The host has no port for the scheme.
    #[pyo3(signature = (scheme="", path=""))]
    fn private_url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.private_url(scheme, path).map_err(into_py_err(py))
    }

    fn __repr__(&self) -> String {
        format!("<Host {} {}>", self.0.service_name, self.0.uuid)
    }
}

/// The hosts of a service of etcd-discovery, taken from a set at one moment. Immutable.
///
///     scalingo.Service.from_set(client.services("api")).url("https", "/status")
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover.scalingo")]
#[derive(PartialEq, Hash)]
pub(crate) struct Service(scalingo::Service);

#[pymethods]
impl Service {
    /// Returns the instances online in a set as the hosts of a service.
    ///
    /// Args:
    ///     set: A ServiceSet, also one of `libdiscover.aio`.
    ///
    /// Raises:
    ///     Forked: The set belongs to the parent process.
    #[staticmethod]
    fn from_set(set: &Bound<'_, ServiceSet>) -> PyResult<Service> {
        let py = set.py();
        let set = set.get().inner();
        let snapshot = set.snapshot().map_err(into_py_err(py))?;
        Ok(Service(scalingo::Service::from_snapshot(
            set.service(),
            &snapshot,
        )))
    }

    /// The name of the service.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// True if any host is public.
    #[getter]
    fn is_public(&self) -> bool {
        self.0.is_public()
    }

    /// True if any host is critical.
    #[getter]
    fn is_critical(&self) -> bool {
        self.0.is_critical()
    }

    /// Returns all hosts, oldest first.
    fn all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let all: Vec<Host> = self.0.all().iter().cloned().map(Host).collect();
        PyTuple::new(py, all)
    }

    /// Returns the oldest host, which is the leader, or None.
    fn first(&self) -> Option<Host> {
        self.0.first().cloned().map(Host)
    }

    /// Returns a random host among the healthy ones, or None.
    fn one(&self) -> Option<Host> {
        self.0.one().cloned().map(Host)
    }

    /// Returns the service with only the hosts of one shard.
    ///
    /// Args:
    ///     shard: The name of the shard.
    fn shard(&self, shard: &str) -> Service {
        Service(self.0.shard(shard))
    }

    /// Returns the URL of the service.
    ///
    /// The address is the public one that the last public host registered. If there is none, or the service is limited
    /// to a shard, it is the address of a random host.
    ///
    /// Args:
    ///     scheme: The scheme. By default `http`, or `https` if there is no `http`.
    ///     path: The path, appended as it is.
    ///
    /// Raises:
    ///     NotFound: No host is online.
    ///     InvalidArgument: There is no port for the scheme.
    #[pyo3(signature = (scheme="", path=""))]
    fn url(&self, py: Python<'_>, scheme: &str, path: &str) -> PyResult<String> {
        self.0.url(scheme, path).map_err(into_py_err(py))
    }

    fn __repr__(&self) -> String {
        format!("<Service {}: {} hosts>", self.0.name(), self.0.all().len())
    }
}
