//! The C ABI: converts types in both directions and decides nothing.
//!
//! The doc comments of exported items are the manual in `include/discover.h`, so they use the terms of C.
//! Each function checks its arguments, calls the core and stores the result. `args` has the checks,
//! `fallible_call` writes statuses and errors, and `boundary` keeps panics from unwinding into C.
//!
//! Signatures state ownership: `Option<&T>` is borrowed, `Option<Box<T>>` is taken, `MaybeUninit` is an out
//! parameter. NULL is `None` in each.

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
    reason = "the header states the obligations of callers in the terms of C"
)]

mod args;
mod boundary;
mod fallible_call;
#[cfg(feature = "inject-panic")]
mod panic_injection;

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

mod scalingo_host;

mod scalingo_service;

mod descriptor;

mod log;

/// Checks at compile time the thread safety that the header promises.
const _: () = {
    const fn any_number_at_once<T: Send + Sync>() {}
    const fn one_at_a_time<T: Send>() {}
    any_number_at_once::<client::discover_client>();
    any_number_at_once::<lease::discover_lease>();
    any_number_at_once::<set::discover_set>();
    any_number_at_once::<snapshot::discover_snapshot>();
    any_number_at_once::<instance::discover_instance>();
    any_number_at_once::<subscription::discover_subscription>();
    any_number_at_once::<scalingo_host::discover_scalingo_host>();
    any_number_at_once::<scalingo_service::discover_scalingo_service>();
    any_number_at_once::<descriptor::discover_descriptor>();
    any_number_at_once::<descriptor::discover_descriptors>();
    one_at_a_time::<registration::discover_registration>();
    one_at_a_time::<feed::discover_feed>();
    one_at_a_time::<error::discover_error>();
};
