//! The native module of the Python package: types in, types out; nothing is decided here.
//!
//! The package in `python/libdiscover` is what people see. No Python code ever runs beneath a frame of
//! ours on a thread that the interpreter may end (see `gate`), and nothing waits with the GIL held.
#![warn(
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

mod arguments;
mod call;
mod callback;
mod client;
mod descriptor;
mod errors;
mod feed;
mod gate;
mod host;
mod instance;
mod log;
mod set;
mod values;

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
    use crate::feed::{Feed, Subscription};
    #[pymodule_export]
    use crate::gate::{forked, leave};
    #[pymodule_export]
    use crate::host::{Host, Service};
    #[pymodule_export]
    use crate::instance::Instance;
    #[pymodule_export]
    use crate::set::ServiceSet;
    #[pymodule_export]
    use crate::values::{Condition, Event, OfflineInstance, Snapshot, Status};

    #[pymodule_export]
    const VERSION: &str = discover_core::embed::VERSION;

    /// In seconds.
    #[pymodule_export]
    const CLOSE_TIMEOUT: f64 = discover_core::embed::CLOSE_TIMEOUT.as_secs_f64();

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::errors::add_to(module)
    }
}
