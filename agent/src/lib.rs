//! discoverd, the agent of libdiscover on every host.
//!
//! It stands on the public crate like any other program: [`app`] opens one client and hands it to the
//! parts, and the parts do not know each other. The shape is the same everywhere: a file that touches the
//! world, and a pure one beside it that holds the decisions and their tests.
//!
//! | module | what it is | the pure half |
//! |---|---|---|
//! | [`app`] | opens the store, starts the parts, ends them in order | [`settings`] |
//! | [`registry`] | what applications registered here, kept alive for them | `registry::table` |
//! | [`health`] | looks at instances that do not say themselves how they are | `health::machine`, `health::allowed` |
//! | [`jobs`] | what a configuration file registers and watches | `jobs::plan`, `jobs::change` |
//! | [`sets`] | one watch for each service, and its last states | `sets::history` |
//! | [`http`] | the API under `/v1` | `http::query`, `http::json`, `http::events` |
//! | [`handover`] | gives the listeners and the registrations to the next run | |
//! | [`advertise`] | the address of this host that others reach | its `choose` |
//! | [`cli`] | the commands; they work on any registry, with or without an agent | `cli::show` |
//!
//! `ui/` has the page that people look at. What comes next has its place: `dns/`, `proxy/`, `docker/` and
//! `deploy/`.

#![forbid(unsafe_code)]

pub mod advertise;
pub mod app;
pub mod cli;
pub mod exec;
pub mod handover;
pub mod health;
pub mod http;
pub mod jobs;
pub mod network;
pub mod registry;
pub mod sets;
pub mod settings;
