//! What the other languages stand on: an engine that owns its threads, calls that can be waited for or
//! not, and news as events pushed or pulled. No futures, no generics to implement.
//!
//! Two threads: `discover-rt` runs the engine, `discover-cb` runs all foreign code, one call at a
//! time. No foreign code ever runs on the former, and no lock of ours is held while the latter calls.
//!
//! Everything here may be used from any thread, inside a callback too; only closing is refused there,
//! as `busy`, because it waits for that very callback. After a fork, the child gets `forked` from what
//! its parent made, and dropping it there touches nothing.

mod dispatch;
mod dispatch_loop;
mod engine;
mod engine_state;
mod feed;
mod fork_guard;
mod log;
mod pending;
mod runtime;

/// What the gate is made of, which its test exchanges.
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::mpsc::Receiver;
}

use std::time::Duration;

pub use dispatch::{Bell, Sink};
pub use engine::{Engine, LeaseHandle, SetHandle};
pub use feed::{Feed, Subscription};
pub use log::{LogSink, set_log};
pub use pending::{Abort, Pending, Waiting};

pub use crate::descriptor::{Descriptor, Protocol};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::fork_safety::hold_forks;
pub use crate::lease::Standing;
pub use crate::model::{
    Attributes, BindingCache, ConnectionState, Heartbeat, Instance, Metadata, Metrics,
    Registration, ServiceName, shown,
};
pub use crate::scalingo;

pub use crate::set::{
    Event, Fault, OfflineInstance, OfflineReason, Policy, Snapshot, State, Status,
};
pub use ::tracing::Level;

/// The places among those online of those to choose from, where these are not all.
pub fn able(snapshot: &Snapshot) -> Option<Vec<usize>> {
    snapshot.able()
}

/// How long closing may take where a program does not say, and when a process leaves.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The version of the library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
