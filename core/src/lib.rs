//! Services find each other in a network that changes all the time.
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
//! A program describes itself with a [`Registration`] and gets a [`Lease`] that is kept alive until it
//! is released or dropped, or the process dies. It follows others as a [`ServiceSet`]: the live, local
//! view of one service, which it reads without waiting, or is told about as [`Event`]s.
//!
//! From the top: `client` and `lease` and `set` are what a program holds; `watch` makes a failing
//! stream one that never fails; a `backend` turns registrations into grants and gives whole views; most
//! backends are a `store` (a coordinated tree) seen through a `layout` (how instances are written in
//! it). `embed` is what the other languages stand on.

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
#[allow(unsafe_code, reason = "the one file of system calls")]
#[cfg_attr(
    not(feature = "local"),
    allow(dead_code, reason = "its files are those of local://")
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
    not(any(feature = "etcd", feature = "etcd2")),
    allow(dead_code, reason = "etcd is what is followed")
)]
mod watch_sync;

#[cfg(feature = "agent")]
pub use backend::AgentApi;
pub use backend::{Backend, COMMON_OPTIONS, Constructor, KvBackend, open_store};
pub use client::{Builder, Client, DEFAULT_URL};
pub use descriptor::{Descriptor, Protocol};
pub use duration::{HumanDuration, parse_duration};
pub use error::{Error, ErrorKind, Result};
pub use kv::{Change, Changes, Entry, Key, Lifetime, Node, Prefix, Scope};
pub use layout::{
    ContainerPilot, Decoded, Embassy, GoMicro, Grpc, Kratos, Layout, Native, Registrator, Scalingo,
};
pub use lease::{Lease, Standing};
pub use model::{
    Attributes, ConnectionState, Grant, Heartbeat, Instance, InstanceOrder, Metadata,
    MetadataInterner, Metrics, OnConflict, Registration, ServiceName, SharedAttributes, View,
};
pub use net::HostPort;
pub use set::{
    Cursor, Event, Fault, OfflineInstance, OfflineReason, Online, Policy, ServiceSet, Snapshot,
    State, Status,
};
pub use store::{Store, Terms};
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
pub use transport::network_error::network_error_cause;
pub use url::Url;

/// The Rust block of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
