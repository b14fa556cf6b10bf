//! Session with one endpoint of etcd v3: requests in flight and the watch stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, GetOptions, WatchOptions, WatchRequestSender, WatchResponse,
    WatchResponseStream, WatchStream,
};
use futures_util::future::{FutureExt, pending};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Scope;
use crate::store::connect_attempts::{RoundTimeout, connect_any};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::batched_reads::{self, ReadRequest};
use crate::store::etcd::v3::channel::{self, Connection};
use crate::store::etcd::v3::elections::Elections;
use crate::store::etcd::v3::error::{connect_error, request_error};
use crate::store::session::{self, ConnectionTasks, EventSender};
use crate::transport::socket_stats::SocketStats;
use crate::watch_sync::{CancelReason, Checkpoint, CheckpointStatus, Input, RangeId, WatchId};

/// Timeout of the first round of connecting: connect, log in, read.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of watch responses that are taken at once.
const MAX_RESPONSES_PER_TURN: usize = 1024;

type SessionEvent = session::SessionEvent<Session>;

/// A connection to one endpoint, with its requests and its watch stream.
pub(super) struct Session {
    config: Arc<EtcdConfig>,
    elections: Arc<Elections>,
    round_timeout: RoundTimeout,
    client: Option<Client>,
    reads: Option<mpsc::UnboundedSender<ReadRequest>>,
    tasks: ConnectionTasks<Session>,
    stream: Option<mpsc::UnboundedSender<StreamRequest>>,
    /// Receiving half of the watch stream, once it is open.
    responses: Option<Box<WatchResponseStream>>,
    /// Whether more responses may be available after yielding.
    may_have_more: bool,
    /// Watches without a response, in the order of their requests.
    pending_watches: VecDeque<WatchId>,
}

/// A request on the watch stream.
enum StreamRequest {
    Watch(Vec<u8>, WatchOptions),
    Cancel(WatchId),
    Progress,
}

impl Session {
    pub(super) fn new(
        config: Arc<EtcdConfig>,
        elections: Arc<Elections>,
        events: EventSender<Session>,
    ) -> Session {
        Session {
            config,
            elections,
            round_timeout: RoundTimeout::new(CONNECT_TIMEOUT),
            client: None,
            reads: None,
            tasks: ConnectionTasks::new(events),
            stream: None,
            responses: None,
            may_have_more: false,
            pending_watches: VecDeque::new(),
        }
    }

    fn send_request(&mut self, request: StreamRequest) {
        // A closed stream has reported its end; `close` follows.
        let request = match &self.stream {
            Some(stream) => return drop(stream.send(request)),
            None => request,
        };
        let (Some(client), StreamRequest::Watch(key, options)) = (self.client.clone(), request)
        else {
            return;
        };
        let (requests, inbox) = mpsc::unbounded_channel();
        self.stream = Some(requests);
        let (config, send_event) = (self.config.clone(), self.tasks.event_sender());
        self.tasks.spawn(async move {
            let error = run_stream(&config, client, key, options, inbox, send_event).await;
            SessionEvent::Input(Input::ConnectionFailed(error))
        });
    }

    /// Handles a response of the watch stream, or its end.
    fn handle_stream_item(
        &mut self,
        answer: std::result::Result<Option<WatchResponse>, etcd_client::Error>,
        inputs: &mut Vec<Input>,
    ) {
        let error = match answer {
            Ok(Some(response)) => return self.decode_response(&response, inputs),
            Ok(None) => {
                let text = format!(
                    "{}: the server ended the watch stream",
                    self.config.peer(None)
                );
                Error::new(ErrorKind::Unavailable, text)
            }
            Err(error) => request_error(&self.config, "", &error),
        };
        self.responses = None;
        inputs.push(Input::ConnectionFailed(error));
    }

    /// Translates a watch response into inputs. Consecutive events of one watch are merged.
    fn decode_response(&mut self, response: &WatchResponse, inputs: &mut Vec<Input>) {
        let term = response.header().map_or(0, |header| header.raft_term());
        self.elections.observe(term);
        let mut watch_id = response.watch_id();
        if response.created() {
            // Responses have the order of the requests; a refusal may lack the watch id.
            watch_id = self.pending_watches.pop_front().unwrap_or(watch_id);
        }
        if response.canceled() {
            inputs.push(Input::WatchCanceled(watch_id, cancel_reason(response)));
        } else if response.created() {
            inputs.push(Input::WatchCreated(watch_id));
        } else if response.events().is_empty() {
            inputs.push(Input::Activity);
        } else {
            let events = response.events().iter();
            let changes = events.filter_map(|event| self.config.change(event));
            match inputs.last_mut() {
                Some(Input::Events(of, before)) if *of == watch_id => before.extend(changes),
                _ => inputs.push(Input::Events(watch_id, changes.collect())),
            }
        }
    }

    /// Requests a list.
    fn request_list(&mut self, id: RangeId, scope: &Scope, keys_only: bool) {
        let scope = scope.clone();
        let read = ReadRequest {
            id,
            scope,
            keys_only,
        };
        if let Some(reads) = &self.reads {
            // The reader ends with the connection.
            let _ = reads.send(read);
        }
    }
}

impl session::Session for Session {
    type Client = Connection;
    /// Receiving half of the watch stream, once it is open.
    type Response = Box<WatchResponseStream>;

    fn number(&self) -> u64 {
        self.tasks.number()
    }

    fn connect(&mut self, endpoint: usize, checkpoint: Option<Checkpoint>) {
        self.disconnect();
        self.tasks.start_connection();
        let config = self.config.clone();
        let limit = self.round_timeout.next_round();
        self.tasks.spawn(async move {
            let name = |at: &str| config.peer(Some(at)).to_string();
            let open = async |at: String| connect(&config, &at, checkpoint.clone()).await;
            match connect_any(&config.endpoints, endpoint, limit, name, open).await {
                Ok((connection, status, head)) => {
                    SessionEvent::Connected(connection.into(), status, head)
                }
                Err(error) => SessionEvent::Input(Input::ConnectionFailed(error)),
            }
        });
    }

    fn received_bytes(connection: &Connection) -> u64 {
        connection.stats.received()
    }

    fn connected(&mut self, connection: Connection) {
        self.round_timeout.reset();
        let client = connection.client.clone();
        let (reads, inbox) = mpsc::unbounded_channel();
        self.reads = Some(reads);
        let send_event = self.tasks.event_sender();
        let read = batched_reads::serve(self.config.clone(), connection, inbox, move |input| {
            send_event(SessionEvent::Input(input))
        });
        self.client = Some(client);
        self.tasks.spawn(read.then(|()| std::future::pending()));
    }

    fn disconnect(&mut self) {
        self.tasks.abort_all();
        self.client = None;
        self.reads = None;
        self.stream = None;
        self.responses = None;
        self.pending_watches.clear();
    }

    fn list(&mut self, id: RangeId, scope: &Scope) {
        self.request_list(id, scope, false);
    }

    fn list_keys(&mut self, id: RangeId, scope: &Scope) {
        self.request_list(id, scope, true);
    }

    fn watch(&mut self, _: RangeId, watch_id: WatchId, scope: &Scope, from: u64) {
        let (key, is_prefix) = self.config.range(scope);
        let mut options = WatchOptions::new()
            .with_watch_id(watch_id)
            .with_start_revision(from as i64);
        if is_prefix {
            options = options.with_prefix();
        }
        self.pending_watches.push_back(watch_id);
        self.send_request(StreamRequest::Watch(key, options));
    }

    fn cancel_watch(&mut self, watch_id: WatchId) {
        self.send_request(StreamRequest::Cancel(watch_id));
    }

    fn request_progress(&mut self) {
        self.send_request(StreamRequest::Progress);
    }

    fn handle_response(&mut self, answers: Box<WatchResponseStream>) -> Vec<Input> {
        // A stream of a closed connection is dropped.
        self.responses = self.client.is_some().then_some(answers);
        Vec::new()
    }

    async fn next_inputs(&mut self) -> Vec<Input> {
        if self.may_have_more {
            tokio::task::yield_now().await;
            self.may_have_more = false;
        }
        let Some(answers) = &mut self.responses else {
            return pending().await;
        };
        let mut next = Some(answers.message().await);
        let (mut inputs, mut taken) = (Vec::new(), 0);
        while let Some(answer) = next {
            self.handle_stream_item(answer, &mut inputs);
            taken += 1;
            self.may_have_more = taken == MAX_RESPONSES_PER_TURN;
            next = match &mut self.responses {
                Some(answers) if !self.may_have_more => answers.message().now_or_never(),
                _ => None,
            };
        }
        inputs
    }
}

async fn connect(
    config: &EtcdConfig,
    at: &str,
    checkpoint: Option<Checkpoint>,
) -> Result<(Connection, CheckpointStatus, u64)> {
    let read = checkpoint
        .as_ref()
        .map_or("/", |checkpoint| checkpoint.node.key.as_str());
    let keys_read = config.path(read);
    let explain = |error| connect_error(config, at, &keys_read, &error);
    let options = ConnectOptions::new()
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    let stats = Arc::new(SocketStats::default());
    let opened = channel::open(at, config.tls_options()?, &stats).await;
    let opened = opened.map_err(|error| explain(error.into()))?;
    let mut client = Client::from_channel(opened, Some(config.add_login(options)))
        .await
        .map_err(explain)?;
    let connection = Connection {
        client: client.clone(),
        stats,
    };
    let Some(Checkpoint { node }) = checkpoint else {
        let head = current_revision(config, &mut client)
            .await
            .map_err(explain)?;
        return Ok((connection, CheckpointStatus::Unknown, head));
    };
    let then = GetOptions::new().with_revision(node.modified as i64);
    match client.get(config.path(node.key.as_str()), Some(then)).await {
        Ok(answer) => {
            let head = answer.header().map_or(0, |header| header.revision()) as u64;
            let same = answer.kvs().first().and_then(|kv| config.node(kv)) == Some(node);
            let status = if same {
                CheckpointStatus::Unchanged
            } else {
                CheckpointStatus::Diverged
            };
            Ok((connection, status, head))
        }
        Err(error) => {
            let status = status_of_error(&error).ok_or_else(|| explain(error))?;
            let head = current_revision(config, &mut client)
                .await
                .map_err(explain)?;
            Ok((connection, status, head))
        }
    }
}

/// Returns what a failed read of the checkpoint tells about the epoch; `None` if it tells nothing.
fn status_of_error(error: &etcd_client::Error) -> Option<CheckpointStatus> {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return None;
    };
    let text = status.message();
    // The store does not have the revision any more.
    let forgotten = text
        .contains("future revision")
        .then_some(CheckpointStatus::Diverged);
    let unreadable = text.contains("compacted") || text.contains("permission denied");
    forgotten.or(unreadable.then_some(CheckpointStatus::Unknown))
}

/// Returns the store's revision, read so that only a member in contact with a quorum can answer.
async fn current_revision(
    config: &EtcdConfig,
    client: &mut Client,
) -> Result<u64, etcd_client::Error> {
    let any = Some(GetOptions::new().with_count_only());
    match client.get(config.path("/"), any).await {
        Ok(answer) => Ok(answer.header().map_or(0, |header| header.revision()) as u64),
        // Any key will do: the authenticated user need not have permission for this one.
        Err(etcd_client::Error::GRpcStatus(status))
            if config.proves_who_we_are() && status.message().contains("permission denied") =>
        {
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Opens the watch stream, hands over its responses, and sends requests on it until it fails.
async fn run_stream(
    config: &EtcdConfig,
    client: Client,
    key: Vec<u8>,
    options: WatchOptions,
    mut requests: mpsc::UnboundedReceiver<StreamRequest>,
    send_event: impl Fn(SessionEvent),
) -> Error {
    let explain = |error| request_error(config, "", &error);
    let mut watches = client.watch_client().max_decoding_message_size(usize::MAX);
    let (mut sender, answers) = match watches.watch(key, Some(options)).await {
        Ok(stream) => WatchStream::split(stream),
        Err(error) => return explain(error),
    };
    send_event(SessionEvent::Response(answers.into()));
    while let Some(request) = requests.recv().await {
        if let Err(error) = send_on_stream(&mut sender, request).await {
            return explain(error);
        }
    }
    pending().await
}

async fn send_on_stream(
    sender: &mut WatchRequestSender,
    request: StreamRequest,
) -> Result<(), etcd_client::Error> {
    match request {
        StreamRequest::Watch(key, options) => sender.watch(key, Some(options)).await,
        StreamRequest::Cancel(watch_id) => sender.cancel(watch_id).await,
        StreamRequest::Progress => sender.request_progress().await,
    }
}

fn cancel_reason(response: &WatchResponse) -> CancelReason {
    let reason = response.cancel_reason();
    if response.compact_revision() > 0 {
        return CancelReason::Compacted;
    }
    let error = |kind| Error::new(kind, format!("etcd cancelled the watch: {reason}"));
    match reason.contains("permission denied") || reason.contains("auth") {
        true => CancelReason::PermissionDenied(error(ErrorKind::PermissionDenied)),
        false => CancelReason::Other(error(ErrorKind::Unavailable)),
    }
}
