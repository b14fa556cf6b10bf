//! Conversion of JavaScript arguments.

use std::time::Duration;

use discover_core::embed::{Error, ErrorKind, Result};

/// Converts the argument `name` from milliseconds.
pub fn duration(name: &str, milliseconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1000.0).map_err(|_| {
        let text = format!("{name} is {milliseconds} ms, which is not a valid duration");
        Error::new(ErrorKind::InvalidArgument, text)
    })
}
