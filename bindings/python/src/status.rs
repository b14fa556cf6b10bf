//! The status of a set, of a connection and of a registration.

use std::time::SystemTime;

use pyo3::prelude::*;

use discover_core::embed::{self, ConnectionState, Error, Standing};

use crate::errors::to_exception;

/// The freshness of a set. Immutable.
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
    /// The state of the set: `pending`, `current` or `stale`.
    ///
    /// `pending`: no view has been received yet. `current`: the set equals the store. `stale`: the store does not
    /// respond, and the set keeps its last contents.
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state.name()
    }

    /// The reason why the set is not current: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .fault
            .as_ref()
            .map(|fault| to_exception(py, &fault.error))
            .transpose()
    }

    /// The time since which the set is not current, in UTC, or None.
    #[getter]
    fn since(&self) -> Option<SystemTime> {
        self.0.fault.as_ref().map(|fault| fault.since)
    }

    /// A number that grows with each change of the set.
    #[getter]
    fn version(&self) -> u64 {
        self.0.version
    }

    /// The revision of the store; 0 before the first view, and if the store has no revisions.
    #[getter]
    fn revision(&self) -> u64 {
        self.0.revision
    }

    /// The epoch of the store, to which the revision belongs.
    ///
    /// It grows when the history of the store changes: the store was wiped, or restored from a backup.
    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// The number of the service's records that cannot be decoded.
    #[getter]
    fn invalid(&self) -> usize {
        self.0.invalid
    }

    fn __repr__(&self) -> String {
        format!("<Status {} {}>", self.state(), self.0.version)
    }
}

/// The status of the connection to the registry. Immutable.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct ConnectionStatus(StateWithReason);

impl ConnectionStatus {
    pub(crate) fn new(state: &ConnectionState) -> ConnectionStatus {
        ConnectionStatus(StateWithReason::new(state.name(), state.error()))
    }
}

#[pymethods]
impl ConnectionStatus {
    /// The state of the connection: `connected`, `suspended` or `lost`.
    ///
    /// `connected`: the registry responds, or no request has been sent yet. `suspended`: it does not respond; sets keep
    /// their last contents, and registrations remain in the registry until their TTL expires. `lost`: it has not
    /// responded for the TTL of the URL, so registrations may have expired; they are restored when it responds again.
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state
    }

    /// The reason why the connection is `suspended` or `lost`: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.error(py)
    }

    fn __repr__(&self) -> String {
        self.0.repr("ConnectionStatus")
    }
}

/// The status of a registration. Immutable.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct LeaseStatus(StateWithReason);

impl LeaseStatus {
    pub(crate) fn new(standing: &Standing) -> LeaseStatus {
        LeaseStatus(StateWithReason::new(standing.name(), standing.error()))
    }
}

#[pymethods]
impl LeaseStatus {
    /// The standing of the registration: `live`, `lapsed`, `replaced` or `released`.
    ///
    /// `live`: other clients see it. `lapsed`: it is gone, or not confirmed for a TTL; the library is restoring it.
    /// `replaced`: another owner has registered the same id. `released`: it is unregistered.
    #[getter]
    fn standing(&self) -> &'static str {
        self.0.state
    }

    /// The reason why the registration is `lapsed` or `replaced`: a DiscoverError, or None.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.error(py)
    }

    fn __repr__(&self) -> String {
        self.0.repr("LeaseStatus")
    }
}

/// The name of a state, and the error that caused it.
struct StateWithReason {
    state: &'static str,
    reason: Option<Error>,
}

impl StateWithReason {
    fn new(state: &'static str, reason: Option<&Error>) -> StateWithReason {
        let reason = reason.cloned();
        StateWithReason { state, reason }
    }

    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let reason = self.reason.as_ref();
        reason.map(|error| to_exception(py, error)).transpose()
    }

    fn repr(&self, class: &str) -> String {
        match &self.reason {
            Some(error) => format!("<{class} {}: {error:#}>", self.state),
            None => format!("<{class} {}>", self.state),
        }
    }
}
