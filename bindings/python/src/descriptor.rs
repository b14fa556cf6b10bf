//! Service descriptors: one line of text that names the service a program needs.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use discover_core::embed;

use crate::arguments::string_pair;
use crate::errors::into_py_err;

/// A service that a program needs, parsed from a line such as `redis.master[prod,stats];6379/tcp`. Immutable.
///
/// `str` returns a text that parses to an equal descriptor.
///
///     wanted = libdiscover.Descriptor.parse("redis.master[prod];6379")
///     redis = client.services(wanted.service).filter(tags=wanted.tags)
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
#[derive(PartialEq, Hash)]
pub(crate) struct Descriptor(embed::Descriptor);

/// Descriptors by name.
type DescriptorsByName = BTreeMap<String, Descriptor>;

fn wrap_all(descriptors: BTreeMap<String, embed::Descriptor>) -> DescriptorsByName {
    let descriptors = descriptors.into_iter();
    descriptors
        .map(|(name, descriptor)| (name, Descriptor(descriptor)))
        .collect()
}

#[pymethods]
impl Descriptor {
    /// Parses a descriptor.
    ///
    /// Args:
    ///     text: `NAME[TAG,...];PORT/PROTOCOL`, or a path in place of the name. Tags and protocol are optional.
    ///
    /// Raises:
    ///     InvalidArgument: The text is malformed. The message has the column, counted from 1, and what is expected.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &str) -> PyResult<Descriptor> {
        let parsed = embed::Descriptor::parse(text);
        parsed.map(Descriptor).map_err(into_py_err(py))
    }

    /// Parses the descriptors in environment variables whose names start with `prefix`.
    ///
    /// With `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` becomes the descriptor `REDIS`. A malformed
    /// descriptor is skipped; a log record names the variable and the error.
    ///
    /// Args:
    ///     prefix: The start of the names, not empty.
    ///
    /// Returns:
    ///     The descriptors by the rest of their names, sorted by name.
    ///
    /// Raises:
    ///     InvalidArgument: The prefix is empty.
    #[staticmethod]
    fn from_env(py: Python<'_>, prefix: &str) -> PyResult<DescriptorsByName> {
        // Python changes the environment with the GIL held, so that it does not change during this call.
        let parsed = embed::Descriptor::from_env(prefix);
        parsed.map(wrap_all).map_err(into_py_err(py))
    }

    /// Parses descriptors as `from_env` does, but from given variables, for example those of a container.
    ///
    /// Args:
    ///     prefix: The start of the names, not empty.
    ///     pairs: The variables, by name.
    ///
    /// Returns:
    ///     The descriptors by the rest of their names, sorted by name.
    ///
    /// Raises:
    ///     InvalidArgument: The prefix is empty.
    ///     TypeError: A name or a value is not a string.
    #[staticmethod]
    fn from_pairs(
        py: Python<'_>,
        prefix: &str,
        pairs: &Bound<'_, PyDict>,
    ) -> PyResult<DescriptorsByName> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| string_pair("pairs", &name, &value))
            .collect::<PyResult<Vec<_>>>()?;
        let parsed = embed::Descriptor::from_pairs(prefix, pairs);
        parsed.map(wrap_all).map_err(into_py_err(py))
    }

    /// The name of the service: the name in the text, or the last part of the path.
    #[getter]
    fn service(&self) -> &str {
        self.0.service()
    }

    /// The path, such as `/services/prod/redis.master`, or None if the text has only a name.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.0.path()
    }

    /// The tags that instances must have, in the order of the text.
    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.tags())
    }

    /// The port, 1 to 65535, at which the program expects the service. Instances may listen on other ports.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// The protocol: `tcp` or `udp`.
    #[getter]
    fn protocol(&self) -> &'static str {
        self.0.protocol().name()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Descriptor {}>", self.0)
    }
}
