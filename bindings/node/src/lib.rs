//! The native half of the npm package `libdiscover`: types in, types out, nothing decided here.
//!
//! What people import is `ts/`; this module is private to it. Calls settle promises, reads are
//! synchronous, and news comes as a ring of one doorbell, after which JavaScript drains.

// What napi exports, it exports only outside of test builds, of which there are none but those of lints.
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
#![cfg_attr(test, allow(dead_code))]

mod client;
mod descriptor;
mod door;
mod error;
mod host;
mod json;
mod lease;
mod log;
mod promise;
mod set;
mod states;

use discover_core::embed::{self, ErrorKind};
use napi_derive::napi;

/// One row of the table of errors.
#[napi(object)]
pub struct NativeErrorKind {
    /// `lease_lost`.
    pub name: String,
    /// Whether the same call may succeed later.
    pub retriable: bool,
}

/// The table of errors, for the one class that stands for all of them.
#[napi]
pub fn error_kinds() -> Vec<NativeErrorKind> {
    let row = |kind: &ErrorKind| NativeErrorKind {
        name: kind.name().to_owned(),
        retriable: kind.is_retriable(),
    };
    ErrorKind::ALL.iter().map(row).collect()
}

/// The version of the library.
#[napi]
pub fn version() -> &'static str {
    embed::VERSION
}
