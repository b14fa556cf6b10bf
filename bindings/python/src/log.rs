//! The core's log records, handed to the logger `libdiscover`.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use discover_core::embed::{Level, LogSink, set_log};

use crate::callback::Callback;
use crate::errors::raising;

/// The process that has it installed: a forked child has no thread to log from, and makes its own.
static INSTALLED: AtomicU32 = AtomicU32::new(0);

struct Logger(Callback);

impl LogSink for Logger {
    fn record(&mut self, level: Level, _: &str, text: &str) {
        self.0.call(|_| Ok((number(level), text.to_owned())));
    }
}

/// Sends everything to the logger, once in each process; what to show is for `logging` to decide.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    if INSTALLED.swap(process::id(), Ordering::SeqCst) == process::id() {
        return Ok(());
    }
    let logger = py
        .import("logging")?
        .call_method1("getLogger", ("libdiscover",))?;
    let sink = Logger(Callback::new(logger.getattr("log")?));
    set_log(Level::DEBUG, Some(Box::new(sink))).map_err(raising(py))
}

/// As `logging` counts.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}
