//! The native module of the Python package: conversion between Python and the core, without any decisions.
//!
//! Users see the package in `python/libdiscover`. Two rules hold here. No call waits with the GIL held. No Python code
//! runs below a Rust frame on a thread that the interpreter may end (see `interpreter_exit`).

mod arguments;
mod call;
mod callback;
mod client;
mod descriptor;
mod errors;
mod event;
mod fork_gate;
mod instance;
mod interpreter_exit;
mod log;
mod owner;
mod scalingo;
mod set;
mod snapshot;
mod status;
mod subscription;
mod watch;

use pyo3::prelude::*;

/// The native half of libdiscover. Private: import `libdiscover` instead.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::client::{Client, Lease, connect};
    #[pymodule_export]
    use crate::descriptor::Descriptor;
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::fork_gate::{after_fork_in_parent, before_fork};
    #[pymodule_export]
    use crate::instance::{Instance, restore_instance};
    #[pymodule_export]
    use crate::interpreter_exit::{after_fork_in_child, at_exit};
    #[pymodule_export]
    use crate::scalingo::{Host, Service};
    #[pymodule_export]
    use crate::set::ServiceSet;
    #[pymodule_export]
    use crate::snapshot::{OfflineInstance, Snapshot};
    #[pymodule_export]
    use crate::status::{ConnectionStatus, LeaseStatus, Status};
    #[pymodule_export]
    use crate::subscription::Subscription;
    #[pymodule_export]
    use crate::watch::{EventFeed, Watch};

    #[pymodule_export]
    const VERSION: &str = discover_core::embed::VERSION;

    /// Default timeout for closing a client, in seconds.
    #[pymodule_export]
    const CLOSE_TIMEOUT: f64 = discover_core::embed::CLOSE_TIMEOUT.as_secs_f64();

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::refuse_subinterpreter(module.py())?;
        crate::errors::add_to(module)
    }
}

/// Fails in another interpreter than the main one. The exit of a subinterpreter would close the clients of all, and
/// threads of the library would enter the wrong one.
fn refuse_subinterpreter(py: Python<'_>) -> PyResult<()> {
    // From Python 3.12 on, PyO3 refuses them; 3.13 has no module of this name.
    let Ok(interpreters) = py.import("_xxsubinterpreters") else {
        return Ok(());
    };
    let current = interpreters.call_method0("get_current")?;
    match current.eq(interpreters.call_method0("get_main")?)? {
        true => Ok(()),
        false => Err(pyo3::exceptions::PyImportError::new_err(
            "libdiscover does not support subinterpreters; import it in the main interpreter of a process",
        )),
    }
}
