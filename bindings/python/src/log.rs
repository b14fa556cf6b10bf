//! Forwards the core's log records to the Python logger `libdiscover`.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use discover_core::embed::{Level, LogSink, set_log};

use crate::callback::Callback;
use crate::errors::into_py_err;

/// The process in which the sink is installed. A forked child process has no log thread and installs its own sink.
static INSTALLED_IN: AtomicU32 = AtomicU32::new(0);

struct Logger(Callback);

impl LogSink for Logger {
    fn record(&mut self, level: Level, _: &str, text: &str) {
        self.0.call(|_| Ok((python_level(level), text.to_owned())));
    }
}

/// Installs the sink, once in each process. All records are forwarded; `logging` filters them.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    if INSTALLED_IN.swap(process::id(), Ordering::SeqCst) == process::id() {
        return Ok(());
    }
    let logger = py
        .import("logging")?
        .call_method1("getLogger", ("libdiscover",))?;
    let sink = Logger(Callback::new(logger.getattr("log")?));
    set_log(Level::DEBUG, Some(Box::new(sink))).map_err(into_py_err(py))
}

/// Returns the number of a level in `logging`; 5 for trace, which `logging` does not name.
fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}
