//! The interface between the supervisor and the parts of the agent.

use std::fmt;

use discover_core::Result;
use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::Value;
use tokio::time::Instant;

use crate::net::inherited::NamedSocket;
use crate::runtime::metrics::MetricsWriter;

/// What a component passes to the component of the same name in the next process.
#[derive(Default)]
pub struct HandOver {
    /// The state, in the format of [`Component::state_version`]. `None` if the component has none.
    pub state: Option<Value>,
    /// Listening sockets, which stay open.
    pub sockets: Vec<NamedSocket>,
}

/// A part of the agent with a life of its own.
///
/// The supervisor starts components in order and stops them in reverse order. For a hand-over it calls
/// [`Component::drain`] and then [`Component::hand_over`] on all components, in the order of the start.
pub trait Component: Send + Sync {
    /// Returns the name, which is also the key of the component's part of the hand-over state.
    fn name(&self) -> &'static str;

    /// Returns the version of the hand-over state that [`Component::hand_over`] writes and
    /// [`Component::start`] reads. State of another version is skipped with a warning.
    fn state_version(&self) -> u32 {
        1
    }

    /// Starts the component with the state that the previous process handed over, if any. Background work that
    /// writes to the store or accepts requests waits for [`Phase::Running`](crate::runtime::phase::Phase).
    fn start(&self, inherited: Option<Value>) -> BoxFuture<'_, Result<()>>;

    /// Finishes the work in progress and accepts no more, before any component hands over its state.
    fn drain(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    /// Returns the state and the sockets for the next process. Nothing is withdrawn from the store.
    fn hand_over(&self) -> BoxFuture<'_, HandOver> {
        ready(HandOver::default()).boxed()
    }

    /// Stops the component and withdraws what it published, by the deadline.
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, ()>;

    /// Writes the current values of the component's metrics.
    ///
    /// # Errors
    ///
    /// Fails if the writer fails.
    fn write_metrics(&self, _: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        Ok(())
    }
}
