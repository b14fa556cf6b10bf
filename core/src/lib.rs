//! Service discovery: register instances, keep them alive with leases, and watch live sets of services.
//!
//! ```
//! use discover_core::{Client, Registration};
//! use std::time::Duration;
//!
//! # #[tokio::main] async fn main() -> discover_core::Result<()> {
//! let client = Client::connect("memory://docs").await?;
//! let lease = client.register(Registration::new("web", 8080)?.attributes([("zone", "eu")])?).await?;
//! let web = client.services("web")?;
//! for instance in web.wait(1, Duration::from_secs(2)).await? {
//!     println!("{} {:?}", instance.address(), instance.attributes());
//! }
//! lease.unregister().await?;
//! client.close(Duration::from_secs(5)).await
//! # }
//! ```
//!
//! A program describes itself with a [`Registration`] and receives a [`Lease`], which keeps the instance
//! registered until the lease is released or dropped or the process dies. A [`ServiceSet`] is the live local
//! copy of one service: reads access memory only, and changes are delivered as [`Event`]s.
//!
//! The modules form layers, from top to bottom:
//!
//! - `client`, `lease` and `set`: what a program uses.
//! - `backend`: turns registrations into grants and produces views, which are complete states of a service. `backend::agent` talks to discoverd; `backend::kv` reads and writes a store through layouts.
//! - `layout`: how instances are encoded in keys and values, compatible with other registries.
//! - `store`: coordinated key-value trees (memory, local files, etcd v2 and v3).
//! - `watch_sync`: state machine that keeps key ranges in sync with a store without missing a change.
//! - `transport`, `net`, `url`, `error`: shared basics.
//!
//! `embed` is the interface for the bindings to other languages. The library logs with `tracing`; programs
//! that use the `log` crate receive the same events as `log` records.

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
#![deny(unsafe_code)]

pub mod embed;
pub mod scalingo;

mod backend;
mod backoff;
mod cache;
mod client;
mod connection_monitor;
mod descriptor;
mod duration;
mod error;
#[allow(
    unsafe_code,
    reason = "fork handlers and signal masks need system calls"
)]
#[cfg_attr(
    not(feature = "local"),
    allow(dead_code, reason = "only local:// keeps files out of forked children")
)]
mod fork_safety;
mod instance_json;
mod kv;
mod layout;
mod lease;
mod model;
mod mutants;
#[cfg(test)]
#[path = "tests/mutate.rs"]
mod mutate;
mod net;
mod printable;
#[cfg(test)]
#[path = "tests/prove.rs"]
mod prove;
mod rate_limited_log;
mod set;
mod store;
mod suggest;
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
mod transport;
mod url;
#[cfg_attr(
    not(all(feature = "etcd", feature = "etcd2")),
    allow(
        dead_code,
        reason = "only the etcd stores use it, and each of them a part"
    )
)]
mod watch_sync;

#[cfg(feature = "agent")]
pub use backend::AgentApi;
pub use backend::{Backend, COMMON_OPTIONS, Constructor, KvBackend, Protection, open_store};
pub use client::{Builder, Client, DEFAULT_URL};
pub use descriptor::{Descriptor, Protocol};
pub use duration::{HumanDuration, parse_duration};
pub use error::{Error, ErrorKind, Result};
pub use kv::{Change, Changes, Entry, Key, Lifetime, Node, Prefix, Scope, V2Events};
pub use layout::{
    ContainerPilot, Decoded, Embassy, GoMicro, Grpc, Kratos, Layout, Native, Registrator, Scalingo,
};
pub use lease::{Lease, Standing};
pub use model::{
    Attributes, ConnectionState, Grant, Heartbeat, Instance, InstanceOrder, Metadata,
    MetadataInterner, Metrics, OnConflict, Registration, ServiceName, SharedAttributes, View,
};
pub use net::HostPort;
pub use printable::printable_excerpt;
pub use set::{
    Cursor, Event, Fault, OfflineInstance, OfflineReason, Online, Policy, ServiceSet, SetState,
    Snapshot, Status,
};
pub use store::{Store, Terms};
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
pub use transport::network_error::network_error_cause;
pub use url::Url;

/// The Rust example of the README, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
