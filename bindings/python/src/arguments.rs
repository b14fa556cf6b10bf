//! What Python passes, as what the core takes. Only shapes are checked here; values are the core's.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDict, PyString};

use discover_core::embed::{Attributes, Error, Heartbeat, Registration, Result};

use crate::errors::raise;

/// Seconds as a number, or a `timedelta`.
pub(crate) fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let py = value.py();
    let refused = || {
        let text = format!("{name} is {value}; it must be a number of seconds, 0 or more");
        raise(py, &Error::invalid(text))
    };
    let seconds = match value.cast::<PyDelta>() {
        Ok(delta) => delta.call_method0("total_seconds")?.extract::<f64>()?,
        Err(_) => value.extract::<f64>().map_err(|_| {
            let kind = value.get_type();
            PyTypeError::new_err(format!(
                "{name} is a {kind}; it must be seconds or a timedelta"
            ))
        })?,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| refused())
}

/// The same for what may be left out.
pub(crate) fn optional_duration(
    name: &str,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Duration>> {
    value.map(|value| duration(name, value)).transpose()
}

/// Names and values, both strings.
pub(crate) fn attributes(given: &Bound<'_, PyDict>) -> PyResult<Attributes> {
    let text = |value: &Bound<'_, PyAny>, name: &Bound<'_, PyAny>| match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_cow()?.into_owned()),
        Err(_) => {
            let (name, value) = (name.repr()?, value.repr()?);
            let text = format!("attribute {name} has {value}; names and values must be strings");
            Err(PyTypeError::new_err(text))
        }
    };
    let pair = |(name, value)| Ok((text(&name, &name)?, text(&value, &name)?));
    given.iter().map(pair).collect()
}

/// Where an instance is: a port, on this machine or on a host, or a whole address.
pub(crate) fn placed(
    service: &str,
    port: Option<i64>,
    host: Option<String>,
    address: Option<String>,
) -> Result<Registration> {
    match (port, host, address) {
        (Some(port), None, None) => Registration::new(service, port),
        (Some(port), Some(host), None) => Registration::new(service, port)?.host(&host),
        (None, None, Some(address)) => Registration::at(service, &address),
        _ => Err(Error::invalid(
            "give a port, a port and a host, or an address",
        )),
    }
}

/// Who keeps a registration alive.
pub(crate) fn heartbeat(name: &str) -> Result<Heartbeat> {
    match name {
        "automatic" => Ok(Heartbeat::Automatic),
        "manual" => Ok(Heartbeat::Manual),
        _ => Err(Error::invalid(format!(
            "unknown heartbeat {name:?}; known are automatic, manual"
        ))),
    }
}
