//! Driver of [`WatchSync`]: one task per client that owns the connection to the store, performs the outputs
//! of the state machine and feeds it with inputs. It decides nothing itself.
//!
//! How to connect, list and watch is specific to the store: see [`Session`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Scope};
use crate::model::{ConnectionState, Metrics};
use crate::store::coalescing_channel::{CoalescingReceiver, CoalescingSender, coalescing_channel};
use crate::store::session::{EventSender, Session, SessionEvent};
use crate::transport::socket_stats::TRANSFER_BYTES;
use crate::watch_sync::{Input, KeyRevisions, Output, RangeId, SyncCounters, WatchSync};

/// Time for which a call waits for a failed connection to be replaced.
const RECONNECT_GRACE: Duration = Duration::from_millis(250);
/// Timeout of every call without a shorter one.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Timeout of the calls of the current task, from [`limit_renewal`].
    static CALL_LIMIT: Duration;
}

/// Runs the calls that renew a grant of this TTL. Each has a third of the TTL, so that a member that does not respond
/// leaves time to renew the grant through another one.
pub(super) async fn limit_renewal<T>(ttl: Duration, calls: impl Future<Output = T>) -> T {
    CALL_LIMIT.scope(ttl / 3, calls).await
}

/// Returns the timeout of a call of the current task.
fn call_limit() -> Duration {
    let limit = CALL_LIMIT.try_with(|limit| *limit);
    limit.unwrap_or(CALL_TIMEOUT).min(CALL_TIMEOUT)
}

/// The connection as callers see it.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one for each connection")]
enum ConnectionStatus<C> {
    /// Disconnected; with the reason, once there is one.
    Disconnected(Option<Error>),
    /// Connected; with the number of the connection.
    Connected(u64, C),
}

/// Handle of the driver task. The task ends with its last handle.
pub(super) struct WatchDriver<S: Session> {
    commands: mpsc::UnboundedSender<DriverCommand>,
    connection: watch::Receiver<ConnectionStatus<S::Client>>,
    next_range_id: AtomicU64,
    stats: Arc<Mutex<DriverStats>>,
}

/// Statistics of the driver task for its handles.
#[derive(Clone, Copy, Default)]
struct DriverStats {
    counters: SyncCounters,
    last_activity: Option<Instant>,
}

enum DriverCommand {
    AddRange(RangeId, Scope, Option<KeyRevisions>, CoalescingSender),
    RemoveRange(RangeId),
    RequestConnection,
    /// A call on this connection timed out or failed.
    FailConnection(u64, Error),
}

impl<S: Session> WatchDriver<S> {
    /// Starts the driver task on the current tokio runtime. The task connects when the first call or watch
    /// needs it.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Unsupported`] if no tokio runtime is running on this thread.
    pub(super) fn start(
        endpoints: usize,
        max_keys: u64,
        session: impl FnOnce(EventSender<S>) -> S,
    ) -> Result<WatchDriver<S>> {
        let runtime = Handle::try_current().map_err(|error| {
            let text = "cannot start the watch driver outside of a tokio runtime";
            Error::caused_by(ErrorKind::Unsupported, text, error)
        })?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (connection, status) = watch::channel(ConnectionStatus::Disconnected(None));
        let stats = Arc::new(Mutex::new(DriverStats::default()));
        let (sender, event) = mpsc::unbounded_channel();
        let driver = DriverTask {
            sync: WatchSync::new(endpoints, fastrand::u64(..)).with_max_keys(max_keys),
            start: Instant::now(),
            session: session(sender),
            subscribers: HashMap::new(),
            connection,
            stats: stats.clone(),
            received: 0,
        };
        runtime.spawn(driver.run(inbox, event));
        Ok(WatchDriver {
            commands,
            connection: status,
            next_range_id: AtomicU64::new(1),
            stats,
        })
    }

    /// Waits for a connection. Establishing one includes a read.
    pub(super) async fn probe(&self) -> Result<()> {
        self.connection().await.map(drop)
    }

    /// Runs one call within [`call_limit`], or until its connection fails. `store_name` names the store in
    /// errors.
    pub(super) async fn run<T>(
        &self,
        store_name: &str,
        call: impl AsyncFnOnce(S::Client) -> Result<T>,
    ) -> Result<T> {
        let (number, client) = self.connection().await?;
        let limit = call_limit();
        let received = S::received_bytes(&client);
        let monitored = client.clone();
        let result = tokio::select! {
            result = timeout(limit, call(client)) => result,
            cause = self.connection_failed(number) => {
                let text = format!("{store_name}: the connection failed before the response");
                return Err(Error::caused_by(ErrorKind::Unavailable, text, cause));
            }
        };
        let slow = |_| {
            let text = format!("etcd at {store_name} did not answer within {limit:?}");
            Err(Error::new(ErrorKind::Timeout, text))
        };
        let result = result.unwrap_or_else(slow);
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
        {
            // The response waits behind a transfer. Another connection over the same link would only start it anew.
            let transferred = S::received_bytes(&monitored).saturating_sub(received);
            let rate = transferred as f64 / limit.as_secs_f64();
            if error.kind() == ErrorKind::Timeout && rate >= TRANSFER_BYTES as f64 {
                return result;
            }
            self.send(DriverCommand::FailConnection(number, error.clone()));
        }
        result
    }

    /// Returns the current or the next connection, or the error that keeps it from being established.
    async fn connection(&self) -> Result<(u64, S::Client)> {
        let mut connection = self.connection.clone();
        self.send(DriverCommand::RequestConnection);
        let there = |connection: &ConnectionStatus<_>| {
            matches!(connection, ConnectionStatus::Connected(..))
        };
        // Time for another endpoint to be connected.
        let _ = timeout(RECONNECT_GRACE, connection.wait_for(there)).await;
        let known = |connection: &ConnectionStatus<_>| {
            !matches!(connection, ConnectionStatus::Disconnected(None))
        };
        match connection
            .wait_for(known)
            .await
            .map(|connection| connection.clone())
        {
            Ok(ConnectionStatus::Connected(number, client)) => Ok((number, client)),
            Ok(ConnectionStatus::Disconnected(Some(error))) => Err(error),
            Ok(ConnectionStatus::Disconnected(None)) | Err(_) => Err(closed_error()),
        }
    }

    /// Waits until that connection has failed.
    async fn connection_failed(&self, number: u64) -> Error {
        let mut connection = self.connection.clone();
        let other = |connection: &ConnectionStatus<_>| !matches!(connection, ConnectionStatus::Connected(now, _) if *now == number);
        match connection
            .wait_for(other)
            .await
            .map(|connection| connection.clone())
        {
            Ok(ConnectionStatus::Disconnected(Some(error))) => error,
            _ => closed_error(),
        }
    }

    /// Watches a scope, from known revisions or from a list. The stream continues after errors.
    pub(super) fn watch(
        &self,
        scope: Scope,
        known: Option<KeyRevisions>,
    ) -> BoxStream<'static, Result<Changes>> {
        let id = self.next_range_id.fetch_add(1, Ordering::Relaxed);
        let (sender, changes) = coalescing_channel();
        self.send(DriverCommand::AddRange(id, scope, known, sender));
        let commands = self.commands.clone();
        RangeStream {
            id,
            commands,
            changes,
        }
        .boxed()
    }

    /// Emits every change of the connection state from now on.
    pub(super) fn connection_states(&self) -> BoxStream<'static, ConnectionState> {
        let state = |connection: &ConnectionStatus<S::Client>| match connection {
            ConnectionStatus::Disconnected(Some(error)) => {
                ConnectionState::Suspended(error.clone())
            }
            ConnectionStatus::Disconnected(None) | ConnectionStatus::Connected(..) => {
                ConnectionState::Connected
            }
        };
        stream::unfold(self.connection.clone(), move |mut connection| async move {
            connection.changed().await.ok()?;
            let now = state(&connection.borrow_and_update());
            Some((now, connection))
        })
        .boxed()
    }

    /// Returns the counters of the connection and its watches.
    pub(super) fn metrics(&self) -> Metrics {
        let DriverStats {
            counters,
            last_activity,
        } = self.stats();
        Metrics {
            reconnects: counters.connects.saturating_sub(1),
            relists: counters.relists,
            resyncs: counters.epochs,
            duplicates: counters.duplicates,
            mismatches: counters.mismatches,
            // Time since the last sign of life on the watches.
            lag: last_activity.map_or(Duration::ZERO, |last_activity| last_activity.elapsed()),
            ..Metrics::default()
        }
    }

    fn stats(&self) -> DriverStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: DriverCommand) {
        // The task lives as long as any handle, unless its runtime has ended.
        let _ = self.commands.send(command);
    }
}

/// The stream of a watched range. Dropping it ends the watch.
struct RangeStream {
    id: RangeId,
    commands: mpsc::UnboundedSender<DriverCommand>,
    changes: CoalescingReceiver,
}

impl Stream for RangeStream {
    type Item = Result<Changes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.changes.poll_next_unpin(context)
    }
}

impl Drop for RangeStream {
    fn drop(&mut self) {
        let _ = self.commands.send(DriverCommand::RemoveRange(self.id));
    }
}

struct DriverTask<S: Session> {
    sync: WatchSync,
    start: Instant,
    session: S,
    subscribers: HashMap<RangeId, (Scope, CoalescingSender)>,
    connection: watch::Sender<ConnectionStatus<S::Client>>,
    stats: Arc<Mutex<DriverStats>>,
    /// Bytes that counted as a sign of life of this connection.
    received: u64,
}

impl<S: Session> DriverTask<S> {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<DriverCommand>,
        mut event: mpsc::UnboundedReceiver<(u64, SessionEvent<S>)>,
    ) {
        loop {
            let wake = self.sync.next_timer().map(|wake| self.start + wake);
            let asleep = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some((number, event)) = event.recv() => {
                    // Events of an earlier connection are stale.
                    if number == self.session.number() {
                        self.handle_event(event);
                    }
                }
                inputs = self.session.next_inputs() => self.steps(inputs),
                () = asleep => {
                    self.record_transfer();
                    self.step(Input::Tick);
                }
            }
        }
    }

    fn handle_command(&mut self, command: DriverCommand) {
        match command {
            DriverCommand::AddRange(id, scope, known, sender) => {
                self.subscribers.insert(id, (scope, sender));
                self.step(Input::AddRange(id, known));
            }
            DriverCommand::RemoveRange(id) => {
                self.subscribers.remove(&id);
                self.step(Input::RemoveRange(id));
                self.session.remove_range(id);
            }
            DriverCommand::RequestConnection => self.step(Input::RequestConnection),
            DriverCommand::FailConnection(number, error) if number == self.session.number() => {
                self.step(Input::ConnectionFailed(error));
            }
            DriverCommand::FailConnection(..) => {}
        }
    }

    fn handle_event(&mut self, event: SessionEvent<S>) {
        match event {
            SessionEvent::Connected(client, checkpoint, revision) => {
                self.session.connected((*client).clone());
                self.connection
                    .send_replace(ConnectionStatus::Connected(self.session.number(), *client));
                self.step(Input::Connected {
                    checkpoint,
                    revision,
                });
            }
            SessionEvent::Response(response) => {
                let inputs = self.session.handle_response(response);
                self.steps(inputs);
            }
            SessionEvent::Input(input) => self.step(input),
        }
    }

    /// Records a sign of life if enough was received since the last one. Few bytes may be acknowledgements by a store
    /// that does not respond otherwise.
    fn record_transfer(&mut self) {
        let received = match &*self.connection.borrow() {
            ConnectionStatus::Connected(_, client) => S::received_bytes(client),
            ConnectionStatus::Disconnected(_) => return,
        };
        // A new connection counts from 0.
        if received < self.received || received >= self.received + TRANSFER_BYTES {
            self.received = received;
            self.step(Input::Activity);
        }
    }

    fn steps(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            self.step(input);
        }
    }

    /// Runs one step of the state machine and performs its outputs.
    fn step(&mut self, input: Input) {
        let outputs = self.sync.step(input, self.start.elapsed());
        for output in outputs {
            self.perform(output);
        }
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = DriverStats {
            counters: self.sync.counters(),
            last_activity: self
                .sync
                .last_activity()
                .map(|last_activity| self.start + last_activity),
        };
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect {
                endpoint,
                checkpoint,
            } => self.session.connect(endpoint, checkpoint),
            Output::Disconnect(error) => {
                self.session.disconnect();
                self.connection
                    .send_replace(ConnectionStatus::Disconnected(Some(error)));
            }
            Output::List(id) => {
                if let Some((scope, _)) = self.subscribers.get(&id) {
                    self.session.list(id, scope);
                }
            }
            Output::ListKeys(id) => {
                if let Some((scope, _)) = self.subscribers.get(&id) {
                    self.session.list_keys(id, scope);
                }
            }
            Output::Watch(id, watch_id, from) => {
                if let Some((scope, _)) = self.subscribers.get(&id) {
                    self.session.watch(id, watch_id, scope, from);
                }
            }
            Output::CancelWatch(watch_id) => self.session.cancel_watch(watch_id),
            Output::RenewLogin => self.session.renew_login(),
            Output::RequestProgress => self.session.request_progress(),
            Output::Emit(id, changes) => self.emit(id, Ok(changes)),
            Output::MarkStale(id, error) => self.emit(id, Err(error)),
        }
    }

    fn emit(&self, id: RangeId, item: Result<Changes>) {
        if let Some((_, sender)) = self.subscribers.get(&id) {
            // A subscriber that has gone sends `RemoveRange` next.
            sender.send(item);
        }
    }
}

fn closed_error() -> Error {
    Error::new(ErrorKind::Unavailable, "the client was closed")
}
