//! Session: what the [watch driver](crate::store::watch_driver) needs of the connection of a store.

use futures_util::future::pending;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::kv::Scope;
use crate::watch_sync::{Checkpoint, CheckpointStatus, Input, RangeId, WatchId};

/// A connection to a store, with its requests and watches. Reports what happens as [`SessionEvent`].
pub(super) trait Session: Send + 'static {
    /// Client for the calls of the store. Cheap to clone.
    type Client: Clone + Send + Sync + 'static;
    /// Response that the session itself interprets, in the order of arrival.
    type Response: Send + 'static;

    /// Returns the number of the current connection.
    fn number(&self) -> u64;

    /// Connects to an endpoint, logs in, and reads the checkpoint.
    fn connect(&mut self, endpoint: usize, checkpoint: Option<Checkpoint>);

    /// Returns the number of bytes received on a connection: a large list on a slow link delays everything else, so
    /// its progress shows that the store is alive.
    fn received_bytes(client: &Self::Client) -> u64;

    /// Uses the connection that was established.
    fn connected(&mut self, client: Self::Client);

    /// Closes the connection and aborts all its tasks.
    fn disconnect(&mut self);

    /// Lists all nodes of the scope.
    fn list(&mut self, id: RangeId, scope: &Scope);

    /// Lists the keys of the scope.
    fn list_keys(&mut self, id: RangeId, scope: &Scope);

    /// Watches the scope from this revision on.
    fn watch(&mut self, id: RangeId, watch_id: WatchId, scope: &Scope, from: u64);

    /// Cancels the watch.
    fn cancel_watch(&mut self, watch_id: WatchId);

    /// Discards the state of a range that is not watched any more.
    fn remove_range(&mut self, _id: RangeId) {}

    /// Logs in again, closes the watch stream, and reports [`Input::LoginRenewed`]. Requested only by a session that
    /// reports [`CancelReason::LoginRefused`](crate::watch_sync::CancelReason::LoginRefused).
    fn renew_login(&mut self) {}

    /// Requests a sign of life.
    fn request_progress(&mut self);

    /// Interprets a response.
    fn handle_response(&mut self, response: Self::Response) -> Vec<Input>;

    /// Waits for inputs from the watches and returns all that have arrived. Never resolves in a session that
    /// reports them as [`SessionEvent`]. Cancel-safe: a dropped future has taken nothing.
    fn next_inputs(&mut self) -> impl Future<Output = Vec<Input>> + Send {
        pending()
    }
}

/// Event of a connection. Small, because a thousand lists are answered at once.
pub(super) enum SessionEvent<S: Session> {
    Connected(Box<S::Client>, CheckpointStatus, u64),
    Response(S::Response),
    Input(Input),
}

/// Sends events to the driver, each with the number of its connection.
pub(super) type EventSender<S> = mpsc::UnboundedSender<(u64, SessionEvent<S>)>;

/// The tasks of the current connection.
pub(super) struct ConnectionTasks<S: Session> {
    events: EventSender<S>,
    number: u64,
    running: JoinSet<()>,
}

impl<S: Session> ConnectionTasks<S> {
    pub(super) fn new(events: EventSender<S>) -> ConnectionTasks<S> {
        let running = JoinSet::new();
        let number = 0;
        ConnectionTasks {
            events,
            number,
            running,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Aborts all tasks and starts a new connection.
    pub(super) fn start_connection(&mut self) {
        self.abort_all();
        self.number += 1;
    }

    pub(super) fn abort_all(&mut self) {
        self.running.abort_all();
        self.running = JoinSet::new();
    }

    /// Returns a function that sends events of this connection.
    pub(super) fn event_sender(&self) -> impl Fn(SessionEvent<S>) + Send + Sync + 'static {
        let (events, number) = (self.events.clone(), self.number);
        // The send fails only if the driver has ended.
        move |event| drop(events.send((number, event)))
    }

    /// Runs a task of the connection and sends its result.
    pub(super) fn spawn(
        &mut self,
        work: impl Future<Output = SessionEvent<S>> + Send + 'static,
    ) -> AbortHandle {
        while self.running.try_join_next().is_some() {}
        let events = self.event_sender();
        self.running.spawn(async move { events(work.await) })
    }
}
