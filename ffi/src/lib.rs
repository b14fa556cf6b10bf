//! The C ABI. Types in, types out; nothing is decided here.
//!
//! The comments of what is exported are the manual in `include/discover.h`, so they are written in the
//! words of C. Each function is the same three lines: check, call, store; `guard` has the checks and
//! the boundary that no panic crosses.
//!
//! Signatures say who owns what: `Option<&T>` is borrowed, `Option<Box<T>>` is taken, `MaybeUninit` is a
//! place for a result. NULL is `None` in each.

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
#![allow(
    non_camel_case_types,
    reason = "types have the names that C programs use"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "what callers must keep to is said in the words of C, for those who read the header"
)]

#[cfg(feature = "inject-panic")]
mod cue;
mod given;
mod guard;

// In the order of the header.

mod version;

mod status;

mod error;

mod client;

mod registration;

mod lease;

mod set;

mod snapshot;

mod instance;

mod event;

mod subscription;

mod connection;

mod metrics;

mod feed;

mod host;

mod service;

mod descriptor;

mod log;

/// What the header says of threads, said to the compiler.
const _: () = {
    const fn any_number_at_once<T: Send + Sync>() {}
    const fn one_at_a_time<T: Send>() {}
    any_number_at_once::<client::discover_client>();
    any_number_at_once::<lease::discover_lease>();
    any_number_at_once::<set::discover_set>();
    any_number_at_once::<snapshot::discover_snapshot>();
    any_number_at_once::<instance::discover_instance>();
    any_number_at_once::<subscription::discover_subscription>();
    any_number_at_once::<host::discover_host>();
    any_number_at_once::<service::discover_service>();
    any_number_at_once::<descriptor::discover_descriptor>();
    any_number_at_once::<descriptor::discover_descriptors>();
    one_at_a_time::<registration::discover_registration>();
    one_at_a_time::<feed::discover_feed>();
    one_at_a_time::<error::discover_error>();
};
