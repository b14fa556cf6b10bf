//! Interface for bindings to other languages: an engine with threads of its own, calls that block or not, and
//! events that are pushed or pulled. It has no futures and no generics to implement.
//!
//! The engine has two threads. `discover-rt` runs all I/O and timers and never runs foreign code.
//! `discover-cb` runs all foreign code, one call at a time; no lock of the library is held during such a
//! call.
//!
//! Every function may be called from any thread and inside callbacks. The exception is `close`, which fails
//! with `busy` inside a callback, because it waits for that callback. In a forked child, everything created
//! by the parent fails with `forked`, and dropping it touches nothing.

mod callback_loop;
mod callback_registration;
mod callback_thread;
mod engine;
mod engine_state;
mod feed;
mod fork_guard;
mod log;
mod pending;
mod runtime;
mod subscription;

/// Primitives of the callback loop, which its test replaces.
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::mpsc::Receiver;
}

use std::time::Duration;

pub use callback_thread::{Sink, Waker};
pub use engine::{Engine, LeaseHandle, SetHandle};
pub use feed::Feed;
pub use log::{LogSink, set_log};
pub use pending::{Abort, Pending, RunningCall};
pub use subscription::Subscription;

pub use crate::descriptor::{Descriptor, Protocol};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::fork_safety::hold_forks;
pub use crate::lease::Standing;
pub use crate::model::{
    Attributes, BindingCache, ConnectionState, Heartbeat, Instance, Metadata, Metrics,
    Registration, ServiceName, redact,
};
pub use crate::scalingo;

pub use crate::set::{
    Event, Fault, OfflineInstance, OfflineReason, Policy, SetState, Snapshot, Status,
};
pub use ::tracing::Level;

/// Returns the indices of the candidates for `pick` among the online instances, or none if all are
/// candidates.
pub fn eligible_indices(snapshot: &Snapshot) -> Option<Vec<usize>> {
    snapshot.eligible_indices()
}

/// Default of how long closing may take, also at process exit.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Version of the library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
