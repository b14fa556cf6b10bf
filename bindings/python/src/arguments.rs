//! Conversion of Python arguments to the core's types.
//!
//! Only types are checked here; the core validates values. Every error names the argument.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDict, PyMapping, PyString};

use discover_core::embed::{Attributes, Error, Heartbeat, Registration, Result};

use crate::errors::to_py_err;

/// Converts a number of seconds or a `timedelta`.
///
/// # Errors
///
/// `TypeError` for another type; `InvalidArgument` for a negative, infinite or too large value.
pub(crate) fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let py = value.py();
    let seconds = match value.cast::<PyDelta>() {
        Ok(delta) => delta.call_method0("total_seconds")?.extract::<f64>()?,
        Err(_) => value.extract::<f64>().map_err(|_| {
            let kind = value.get_type();
            PyTypeError::new_err(format!(
                "{name} is a {kind}; it must be seconds or a timedelta"
            ))
        })?,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let text = format!("{name} is {value}; it must be a number of seconds, 0 or more");
        to_py_err(py, &Error::invalid(text))
    })
}

/// Converts an optional duration as [`duration`] does.
pub(crate) fn optional_duration(
    name: &str,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Duration>> {
    value.map(|value| duration(name, value)).transpose()
}

/// Converts the argument `attributes`, a mapping of strings to strings or None, and adds `named` to it.
pub(crate) fn attributes(
    given: Option<&Bound<'_, PyAny>>,
    named: Option<&Bound<'_, PyDict>>,
) -> PyResult<Attributes> {
    let mut attributes = Attributes::new();
    if let Some(given) = given {
        let mapping = given
            .cast::<PyMapping>()
            .map_err(|_| wrong_type("attributes", given, "a mapping of strings to strings"))?;
        for item in mapping.items()? {
            let (name, value) = item.extract()?;
            attributes.extend([string_pair("attributes", &name, &value)?]);
        }
    }
    for (name, value) in named.into_iter().flatten() {
        attributes.extend([string_pair("attributes", &name, &value)?]);
    }
    Ok(attributes)
}

/// Converts one item of the mapping `argument`.
///
/// # Errors
///
/// `TypeError` if the key or the value is not a string.
pub(crate) fn string_pair(
    argument: &str,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<(String, String)> {
    match (name.cast::<PyString>(), value.cast::<PyString>()) {
        (Ok(name), Ok(value)) => Ok((name.to_cow()?.into_owned(), value.to_cow()?.into_owned())),
        _ => {
            let (name, value) = (name.repr()?, value.repr()?);
            Err(PyTypeError::new_err(format!(
                "{argument}[{name}] is {value}; names and values must be strings"
            )))
        }
    }
}

/// Converts a string.
///
/// # Errors
///
/// `TypeError` for another type.
pub(crate) fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = value
        .cast::<PyString>()
        .map_err(|_| wrong_type(name, value, "a string"))?;
    Ok(text.to_cow()?.into_owned())
}

/// Converts an optional string as [`text`] does.
pub(crate) fn optional_text(
    name: &str,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<String>> {
    value.map(|value| text(name, value)).transpose()
}

/// Converts the argument `port`.
///
/// # Errors
///
/// `TypeError` for another type than an integer.
pub(crate) fn port(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    let port = |value: &Bound<'_, PyAny>| {
        let port = value.extract::<i64>();
        port.map_err(|_| wrong_type("port", value, "an integer from 1 to 65535"))
    };
    value.map(port).transpose()
}

fn wrong_type(name: &str, value: &Bound<'_, PyAny>, wanted: &str) -> PyErr {
    let given = value
        .repr()
        .map_or_else(|_| value.get_type().to_string(), |repr| repr.to_string());
    PyTypeError::new_err(format!("{name} is {given}; it must be {wanted}"))
}

/// Converts the argument `tags`, an iterable of strings. A single string is refused, although it is an iterable of
/// strings too.
pub(crate) fn tags(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    if let Ok(text) = given.cast::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "tags is the string {}; it must be a list of strings",
            text.repr()?
        )));
    }
    let mut tags = Vec::new();
    let all = given.try_iter();
    for tag in all.map_err(|_| wrong_type("tags", given, "a list of strings"))? {
        let tag = tag?;
        let text = tag.cast::<PyString>().map_err(|_| {
            let tag = tag
                .repr()
                .map_or_else(|_| tag.get_type().to_string(), |repr| repr.to_string());
            PyTypeError::new_err(format!("tags has {tag}; every tag must be a string"))
        })?;
        tags.push(text.to_cow()?.into_owned());
    }
    Ok(tags)
}

/// Creates the registration for `port`, `port` and `host`, or `address`.
pub(crate) fn registration(
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
            "give either port, or port and host, or address",
        )),
    }
}

/// Parses the argument `heartbeat`.
pub(crate) fn heartbeat(name: &str) -> Result<Heartbeat> {
    match name {
        "automatic" => Ok(Heartbeat::Automatic),
        "manual" => Ok(Heartbeat::Manual),
        _ => Err(Error::invalid(format!(
            "heartbeat is {name:?}; it must be \"automatic\" or \"manual\""
        ))),
    }
}
