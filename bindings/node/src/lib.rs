//! Native module of the npm package `libdiscover`: conversion of types between JavaScript and the core.
//!
//! The public API is `ts/`, and this module is private to it. Asynchronous calls return promises, and reads are
//! synchronous. For notifications the engine rings the client's doorbell, and JavaScript then drains the feeds.

// napi exports nothing in test builds, which exist only for lints.
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

mod arguments;
mod client;
mod descriptor;
mod doorbell;
mod error;
mod json;
mod lease;
mod log;
mod promise;
mod scalingo;
mod set;
mod state_feed;

use discover_core::embed::{self, ErrorKind};
use napi_derive::napi;

/// A kind of error.
#[napi(object)]
pub struct NativeErrorKind {
    /// The name of the kind, such as `lease_lost`.
    pub name: String,
    /// Whether the same call with the same arguments may succeed later.
    pub retriable: bool,
}

/// Returns all kinds of errors, for the class `DiscoverError`.
#[napi]
pub fn error_kinds() -> Vec<NativeErrorKind> {
    let row = |kind: &ErrorKind| NativeErrorKind {
        name: kind.name().to_owned(),
        retriable: kind.is_retriable(),
    };
    ErrorKind::ALL.iter().map(row).collect()
}

/// Returns the version of the library.
#[napi]
pub fn version() -> &'static str {
    embed::VERSION
}
