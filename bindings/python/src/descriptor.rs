//! What a program asks for in a line of text.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use discover_core::embed;

use crate::errors::raising;

/// What a program asks for in a line of text: `redis.master[prod,stats];6379/tcp`. Immutable; `str` gives
/// the text that reads as the same.
///
///     wanted = libdiscover.Descriptor.parse("redis.master[prod];6379")
///     redis = client.services(wanted.service).filter(tags=wanted.tags)
///
/// Threads: any number at once.
#[pyclass(frozen, eq, hash, module = "libdiscover")]
#[derive(PartialEq, Hash)]
pub(crate) struct Descriptor(embed::Descriptor);

/// In the order of their names.
type Named = BTreeMap<String, Descriptor>;

fn named(all: BTreeMap<String, embed::Descriptor>) -> Named {
    let all = all.into_iter();
    all.map(|(name, one)| (name, Descriptor(one))).collect()
}

#[pymethods]
impl Descriptor {
    /// Reads a descriptor.
    ///
    /// Raises InvalidArgument, which tells the column, counted from 1, and what is expected there.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &str) -> PyResult<Descriptor> {
        let read = embed::Descriptor::parse(text);
        read.map(Descriptor).map_err(raising(py))
    }

    /// The descriptors among the variables of this process: those whose names begin with `prefix`, by
    /// what follows it. With `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` is `REDIS`.
    /// One that cannot be read is passed over; the log names it, and what is wrong.
    ///
    /// Raises InvalidArgument for an empty prefix.
    #[staticmethod]
    fn from_env(py: Python<'_>, prefix: &str) -> PyResult<Named> {
        // With the GIL held, nobody changes `os.environ` meanwhile.
        let read = embed::Descriptor::from_env(prefix);
        read.map(named).map_err(raising(py))
    }

    /// The same for variables that the program has from elsewhere: those of a container, for instance.
    ///
    /// Raises InvalidArgument, TypeError.
    #[staticmethod]
    fn from_pairs(py: Python<'_>, prefix: &str, pairs: &Bound<'_, PyDict>) -> PyResult<Named> {
        let pairs = pairs.iter().map(|(name, value)| {
            let pair: (String, String) = (name.extract()?, value.extract()?);
            Ok(pair)
        });
        let pairs = pairs.collect::<PyResult<Vec<_>>>()?;
        let read = embed::Descriptor::from_pairs(prefix, pairs);
        read.map(named).map_err(raising(py))
    }

    /// The service: the name, or the last part of the path.
    #[getter]
    fn service(&self) -> &str {
        self.0.service()
    }

    /// The whole path, as in `/services/prod/redis.master`; None where there is just a name.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.0.path()
    }

    /// What the instances must be tagged with: a tuple of strings, in the order given.
    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.tags())
    }

    /// 1 to 65535: where the program wants to reach the service, which is not where an instance listens.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// `tcp` or `udp`.
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
