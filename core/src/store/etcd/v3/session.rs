//! Session with one endpoint of etcd v3: requests in flight and the watch stream.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{WatchResponse, WatchResponseStream};
use futures_util::future::{FutureExt, pending};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::kv::Scope;
use crate::printable::printable_excerpt;
use crate::store::connect_attempts::{RoundTimeout, connect_any};
use crate::store::etcd::config::{EtcdConfig, MAX_SERVER_TEXT_CHARS};
use crate::store::etcd::v3::batched_reads::{self, ReadRequest};
use crate::store::etcd::v3::connect::{Connection, connect};
use crate::store::etcd::v3::elections::Elections;
use crate::store::etcd::v3::error::request_error;
use crate::store::etcd::v3::watch_stream::{
    self, StreamRequest, StreamWatches, WatchRequest, cancel_reason,
};
use crate::store::session::{self, ConnectionTasks, EventSender};
use crate::watch_sync::{Checkpoint, Input, RangeId, WatchId};

/// Timeout of the first round of connecting: connect, log in, read.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of logging in again. A server checks one password at a time, in a tenth of a second each.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of watch responses that are taken at once.
const MAX_RESPONSES_PER_TURN: usize = 1024;

type SessionEvent = session::SessionEvent<Session>;

/// A connection to one endpoint, with its requests and its watch stream.
pub(super) struct Session {
    config: Arc<EtcdConfig>,
    elections: Arc<Elections>,
    round_timeout: RoundTimeout,
    connection: Option<Connection>,
    reads: Option<mpsc::UnboundedSender<ReadRequest>>,
    tasks: ConnectionTasks<Session>,
    stream: Option<OpenStream>,
    /// Number of streams so far.
    streams: u64,
    /// Receiving half of the watch stream, once it is open.
    responses: Option<Box<WatchResponseStream>>,
    /// Whether more responses may be available after yielding.
    may_have_more: bool,
    watches: StreamWatches,
}

/// The sending half of the watch stream, and its task.
struct OpenStream {
    requests: mpsc::UnboundedSender<StreamRequest>,
    task: AbortHandle,
    /// Number of logins when it was opened.
    logins: u64,
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
            connection: None,
            reads: None,
            tasks: ConnectionTasks::new(events),
            stream: None,
            streams: 0,
            responses: None,
            may_have_more: false,
            watches: StreamWatches::default(),
        }
    }

    /// Requests the watches that may be requested now. Opens the stream for the first one.
    fn request_watches(&mut self) {
        while let Some(watch) = self.watches.next_request() {
            match &self.stream {
                Some(_) => self.send_request(StreamRequest::Watch(watch)),
                None => self.open_stream(watch),
            }
        }
    }

    fn open_stream(&mut self, first: WatchRequest) {
        let Some(connection) = &self.connection else {
            return;
        };
        let (client, logins) = (connection.client.clone(), connection.login.count());
        let (requests, inbox) = mpsc::unbounded_channel();
        self.streams += 1;
        let number = self.streams;
        let (config, send_event) = (self.config.clone(), self.tasks.event_sender());
        let task = self.tasks.spawn(async move {
            let opened = |responses: WatchResponseStream| {
                send_event(SessionEvent::Response((number, responses.into())));
            };
            let error = watch_stream::run(&config, client, first, inbox, opened).await;
            SessionEvent::Input(Input::ConnectionFailed(error))
        });
        self.stream = Some(OpenStream {
            requests,
            task,
            logins,
        });
    }

    fn send_request(&self, request: StreamRequest) {
        if let Some(stream) = &self.stream {
            // A closed stream has reported its end; `disconnect` follows.
            let _ = stream.requests.send(request);
        }
    }

    fn close_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.task.abort();
        }
        self.responses = None;
        self.watches = StreamWatches::default();
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
            Err(error) => stream_error(&self.config, &error),
        };
        self.responses = None;
        inputs.push(Input::ConnectionFailed(error));
    }

    /// Translates a watch response into inputs. Consecutive events of one watch are merged.
    fn decode_response(&mut self, response: &WatchResponse, inputs: &mut Vec<Input>) {
        let term = response.header().map_or(0, |header| header.raft_term());
        self.elections.observe(term);
        let id = response.watch_id();
        if response.created() {
            let watch = self.watches.record_response(id, response.canceled());
            inputs.push(match watch {
                None => Input::Activity,
                Some(watch) if response.canceled() => {
                    Input::WatchCanceled(watch.id, cancel_reason(response))
                }
                Some(watch) => {
                    if watch.is_cancelled {
                        self.send_request(StreamRequest::Cancel(id));
                    }
                    Input::WatchCreated(watch.id)
                }
            });
            self.request_watches();
        } else if response.canceled() {
            let watch = self.watches.remove(id);
            let canceled =
                |watch: WatchRequest| Input::WatchCanceled(watch.id, cancel_reason(response));
            inputs.push(watch.map_or(Input::Activity, canceled));
        } else {
            self.decode_events(response, inputs);
        }
    }

    fn decode_events(&self, response: &WatchResponse, inputs: &mut Vec<Input>) {
        // A progress response, or the last events of a cancelled watch.
        let Some(watch) = self.watches.get(response.watch_id()) else {
            return inputs.push(Input::Activity);
        };
        let mut keys = response.events().iter().filter_map(|event| event.kv());
        if let Some(foreign) = keys.find(|kv| !watch.contains(kv.key())) {
            let error = self.foreign_event_error(foreign.key(), watch);
            return inputs.push(Input::ConnectionFailed(error));
        }
        let events = response.events().iter();
        let changes = events.filter_map(|event| self.config.change(event));
        match inputs.last_mut() {
            Some(Input::Events(of, before)) if *of == watch.id => before.extend(changes),
            _ if response.events().is_empty() => inputs.push(Input::Activity),
            _ => inputs.push(Input::Events(watch.id, changes.collect())),
        }
    }

    fn foreign_event_error(&self, key: &[u8], watch: &WatchRequest) -> Error {
        let text = format!(
            "{}: an event of key {} arrived on the watch of {}",
            self.config.peer(None),
            printable_excerpt(&String::from_utf8_lossy(key), MAX_SERVER_TEXT_CHARS),
            String::from_utf8_lossy(&watch.key),
        );
        Error::new(ErrorKind::Unavailable, text)
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
    /// Receiving half of a watch stream, with the number of the stream.
    type Response = (u64, Box<WatchResponseStream>);

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
        self.connection = Some(connection.clone());
        let (reads, inbox) = mpsc::unbounded_channel();
        self.reads = Some(reads);
        let send_event = self.tasks.event_sender();
        let read = batched_reads::serve(self.config.clone(), connection, inbox, move |input| {
            send_event(SessionEvent::Input(input))
        });
        self.tasks.spawn(read.then(|()| std::future::pending()));
    }

    fn disconnect(&mut self) {
        self.tasks.abort_all();
        self.connection = None;
        self.reads = None;
        self.close_stream();
    }

    fn list(&mut self, id: RangeId, scope: &Scope) {
        self.request_list(id, scope, false);
    }

    fn list_keys(&mut self, id: RangeId, scope: &Scope) {
        self.request_list(id, scope, true);
    }

    fn watch(&mut self, _: RangeId, watch_id: WatchId, scope: &Scope, from: u64) {
        let (key, is_prefix) = self.config.range(scope);
        self.watches.add(WatchRequest {
            id: watch_id,
            key,
            is_prefix,
            from,
            is_cancelled: false,
        });
        self.request_watches();
    }

    fn cancel_watch(&mut self, watch_id: WatchId) {
        if let Some(id) = self.watches.cancel(watch_id) {
            self.send_request(StreamRequest::Cancel(id));
        }
    }

    fn renew_login(&mut self) {
        let logins = self.stream.as_ref().map_or(0, |stream| stream.logins);
        self.close_stream();
        let Some(connection) = self.connection.clone() else {
            return;
        };
        let config = self.config.clone();
        self.tasks.spawn(async move {
            let renewed = connection.login.renew(&connection.client, logins);
            SessionEvent::Input(match timeout(LOGIN_TIMEOUT, renewed).await {
                Ok(Ok(())) => Input::LoginRenewed,
                Ok(Err(error)) => Input::ConnectionFailed(request_error(&config, "", &error)),
                Err(_) => {
                    let text = format!("{}: no login within {LOGIN_TIMEOUT:?}", config.peer(None));
                    Input::ConnectionFailed(Error::new(ErrorKind::Timeout, text))
                }
            })
        });
    }

    /// A server that does not answer progress requests is asked for its revision instead.
    fn request_progress(&mut self) {
        if self.watches.answers_progress_requests() {
            return self.send_request(StreamRequest::Progress);
        }
        let Some(connection) = self.connection.clone() else {
            return;
        };
        let config = self.config.clone();
        self.tasks.spawn(async move {
            match connection.revision(&config).await {
                Ok(_) => SessionEvent::Input(Input::Activity),
                // Without an answer the connection is declared dead soon.
                Err(_) => pending().await,
            }
        });
    }

    fn handle_response(&mut self, (number, responses): Self::Response) -> Vec<Input> {
        // A stream that was closed meanwhile is dropped.
        if self.stream.is_some() && number == self.streams {
            self.responses = Some(responses);
        }
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

/// Returns the error of a failed watch stream. It ends the connection for all, so it is retriable for all.
fn stream_error(config: &EtcdConfig, error: &etcd_client::Error) -> Error {
    match request_error(config, "", error) {
        error if error.is_retriable() => error,
        error => Error::caused_by(ErrorKind::Unavailable, "the watch stream failed", error),
    }
}
