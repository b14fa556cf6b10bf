//! discoverd, the agent of libdiscover, which runs on every host.
//!
//! | module | responsibility | modules without I/O |
//! |---|---|---|
//! | [`runtime`] | starts the components in order, stops them in reverse, hands their state to the next process | |
//! | [`config`] | settings: flags, environment, configuration file, defaults | all of it |
//! | [`net`] | listeners, peers, connection limits, TLS | |
//! | [`registry`] | instances that applications registered with this agent | `registry::table` |
//! | [`service_cache`] | one watch for each service, and its recent snapshots | `service_cache::history` |
//! | [`health`] | health checks that the agent makes | `health::threshold`, `health::check_policy`, `health::target_policy` |
//! | [`sources`] | services that are registered from somewhere else than the API: the configuration file | `config_file::plan` |
//! | [`hooks`] | commands that are run when a service changes | `hooks::change` |
//! | [`api`] | the HTTP API under `/v1`, the page and the metrics | `api::v1::query`, `api::v1::json` |
//! | [`advertise`] | the address of this host that other hosts reach | `advertise::choose` |
//! | [`store`] | the connection to the store | |
//! | [`exec`] | runs commands with limits on time and output | |
//! | [`cli`] | the commands; they work with any registry, with or without an agent | `cli::output` |

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
#![forbid(unsafe_code)]

pub mod advertise;
pub mod api;
pub mod cli;
pub mod config;
pub mod exec;
pub mod health;
pub mod hooks;
pub mod net;
pub mod registry;
pub mod rfc3339;
pub mod runtime;
pub mod service_cache;
pub mod sources;
pub mod store;
