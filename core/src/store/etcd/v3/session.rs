//! One connection: the requests that are under way on it and its one watch stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, GetOptions, WatchOptions, WatchRequestSender, WatchResponse,
    WatchResponseStream, WatchStream,
};
use futures_util::future::{FutureExt, pending};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Scope;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::batched_reads::{self, Read};
use crate::store::etcd::v3::error::{connect_error, request_error};
use crate::store::watch_driver::{self, EventSender, Tasks};
use crate::watch_sync::{CancelReason, Checkpoint, CheckpointStatus, Input, RangeId, WatchId};

/// How long making a connection may take: connect, log in, read.
const OPEN: Duration = Duration::from_secs(2);
/// How many answers of the watches are taken at once, if so many have come.
const MOST: usize = 1024;

type SessionEvent = watch_driver::SessionEvent<Session>;

/// See the module.
pub(super) struct Session {
    config: Arc<EtcdConfig>,
    client: Option<Client>,
    reads: Option<mpsc::UnboundedSender<Read>>,
    tasks: Tasks<Session>,
    stream: Option<mpsc::UnboundedSender<Ask>>,
    /// What the stream answers, once it is there.
    answers: Option<Box<WatchResponseStream>>,
    /// Whether there may be more answers, after a turn of the others.
    more: bool,
    /// Watches that were asked for and not answered yet, in that order.
    unanswered: VecDeque<WatchId>,
}

/// What is asked on the watch stream.
enum Ask {
    Watch(Vec<u8>, WatchOptions),
    Unwatch(WatchId),
    Sign,
}

impl Session {
    pub(super) fn new(config: Arc<EtcdConfig>, tell: EventSender<Session>) -> Session {
        Session {
            config,
            client: None,
            reads: None,
            tasks: Tasks::new(tell),
            stream: None,
            answers: None,
            more: false,
            unanswered: VecDeque::new(),
        }
    }

    fn ask(&mut self, ask: Ask) {
        // A stream that has ended has said so, and `close` comes next.
        let ask = match &self.stream {
            Some(stream) => return drop(stream.send(ask)),
            None => ask,
        };
        let (Some(client), Ask::Watch(key, options)) = (self.client.clone(), ask) else {
            return;
        };
        let (asks, inbox) = mpsc::unbounded_channel();
        self.stream = Some(asks);
        let (config, tell) = (self.config.clone(), self.tasks.teller());
        self.tasks.run(async move {
            let error = ask_all(&config, client, key, options, inbox, tell).await;
            SessionEvent::Answer(Input::Broken(error))
        });
    }

    /// Takes an answer from the stream, or its end.
    fn take(
        &mut self,
        answer: std::result::Result<Option<WatchResponse>, etcd_client::Error>,
        inputs: &mut Vec<Input>,
    ) {
        let error = match answer {
            Ok(Some(response)) => return self.hear(&response, inputs),
            Ok(None) => {
                let text = format!(
                    "{}: the server ended the watch stream",
                    self.config.peer(None)
                );
                Error::new(ErrorKind::Unavailable, text)
            }
            Err(error) => request_error(&self.config, "", &error),
        };
        self.answers = None;
        inputs.push(Input::Broken(error));
    }

    /// What an answer of the watches says. What several say of one watch, one after the other, is said
    /// at once.
    fn hear(&mut self, response: &WatchResponse, inputs: &mut Vec<Input>) {
        let mut ticket = response.watch_id();
        if response.created() {
            // Answers come in the order of the questions; a refusal may come without its name.
            ticket = self.unanswered.pop_front().unwrap_or(ticket);
        }
        if response.canceled() {
            inputs.push(Input::Canceled(ticket, why_canceled(response)));
        } else if response.created() {
            inputs.push(Input::Watching(ticket));
        } else if response.events().is_empty() {
            inputs.push(Input::Heard);
        } else {
            let events = response.events().iter();
            let changes = events.filter_map(|event| self.config.change(event));
            match inputs.last_mut() {
                Some(Input::Events(of, before)) if *of == ticket => before.extend(changes),
                _ => inputs.push(Input::Events(ticket, changes.collect())),
            }
        }
    }

    /// Asks for a list.
    fn read(&mut self, id: RangeId, scope: &Scope, only_keys: bool) {
        let scope = scope.clone();
        let read = Read {
            id,
            scope,
            only_keys,
        };
        if let Some(reads) = &self.reads {
            // They end with the connection.
            let _ = reads.send(read);
        }
    }
}

impl watch_driver::Session for Session {
    type Client = Client;
    /// What the watch stream answers, to be heard from now on.
    type Response = Box<WatchResponseStream>;

    fn number(&self) -> u64 {
        self.tasks.number()
    }

    fn open(&mut self, endpoint: usize, mark: Option<Checkpoint>) {
        self.close();
        self.tasks.begin();
        let config = self.config.clone();
        let at = config.endpoints[endpoint % config.endpoints.len()].clone();
        self.tasks.run(async move {
            let slow = |_| {
                let text = format!("{}: no answer within {OPEN:?}", config.peer(Some(&at)));
                Err(Error::new(ErrorKind::Timeout, text))
            };
            let opening = open(&config, &at, mark);
            match timeout(OPEN, opening).await.unwrap_or_else(slow) {
                Ok((client, verdict, head)) => SessionEvent::Opened(client.into(), verdict, head),
                Err(error) => SessionEvent::Answer(Input::Broken(error)),
            }
        });
    }

    fn opened(&mut self, client: Client) {
        let (reads, inbox) = mpsc::unbounded_channel();
        self.reads = Some(reads);
        let tell = self.tasks.teller();
        let read = batched_reads::read(self.config.clone(), client.clone(), inbox, move |input| {
            tell(SessionEvent::Answer(input))
        });
        self.client = Some(client);
        self.tasks.run(read.then(|()| std::future::pending()));
    }

    fn close(&mut self) {
        self.tasks.end();
        self.client = None;
        self.reads = None;
        self.stream = None;
        self.answers = None;
        self.unanswered.clear();
    }

    fn list(&mut self, id: RangeId, scope: &Scope) {
        self.read(id, scope, false);
    }

    fn compare(&mut self, id: RangeId, scope: &Scope) {
        self.read(id, scope, true);
    }

    fn watch(&mut self, _: RangeId, ticket: WatchId, scope: &Scope, from: u64) {
        let (key, is_prefix) = self.config.range(scope);
        let mut options = WatchOptions::new()
            .with_watch_id(ticket)
            .with_start_revision(from as i64);
        if is_prefix {
            options = options.with_prefix();
        }
        self.unanswered.push_back(ticket);
        self.ask(Ask::Watch(key, options));
    }

    fn unwatch(&mut self, ticket: WatchId) {
        self.ask(Ask::Unwatch(ticket));
    }

    fn ask_sign(&mut self) {
        self.ask(Ask::Sign);
    }

    fn read(&mut self, answers: Box<WatchResponseStream>) -> Vec<Input> {
        // One of a connection that was given up meanwhile is nothing to hear.
        self.answers = self.client.is_some().then_some(answers);
        Vec::new()
    }

    async fn heard(&mut self) -> Vec<Input> {
        if self.more {
            tokio::task::yield_now().await;
            self.more = false;
        }
        let Some(answers) = &mut self.answers else {
            return pending().await;
        };
        let mut next = Some(answers.message().await);
        let (mut inputs, mut taken) = (Vec::new(), 0);
        while let Some(answer) = next {
            self.take(answer, &mut inputs);
            taken += 1;
            self.more = taken == MOST;
            next = match &mut self.answers {
                Some(answers) if !self.more => answers.message().now_or_never(),
                _ => None,
            };
        }
        inputs
    }
}

async fn open(
    config: &EtcdConfig,
    at: &str,
    mark: Option<Checkpoint>,
) -> Result<(Client, CheckpointStatus, u64)> {
    let read = mark.as_ref().map_or("/", |mark| mark.node.key.as_str());
    let keys_read = config.path(read);
    let explain = |error| connect_error(config, at, &keys_read, &error);
    let options = ConnectOptions::new()
        .with_require_leader(true)
        .with_auto_token_refresh(true)
        .with_connect_timeout(OPEN)
        // The server forbids pings closer than 5 s, and any while there is no stream. The watches
        // have a quicker sign of life.
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
        .with_keep_alive_while_idle(false);
    let mut client = Client::connect([at], Some(config.apply(options)?))
        .await
        .map_err(explain)?;
    let Some(Checkpoint { node }) = mark else {
        let head = head(config, &mut client).await.map_err(explain)?;
        return Ok((client, CheckpointStatus::Unknown, head));
    };
    let then = GetOptions::new().with_revision(node.modified as i64);
    match client.get(config.path(node.key.as_str()), Some(then)).await {
        Ok(answer) => {
            let head = answer.header().map_or(0, |header| header.revision()) as u64;
            let same = answer.kvs().first().and_then(|kv| config.node(kv)) == Some(node);
            let verdict = if same {
                CheckpointStatus::Same
            } else {
                CheckpointStatus::Other
            };
            Ok((client, verdict, head))
        }
        Err(error) => {
            let verdict = what_it_means(&error).ok_or_else(|| explain(error))?;
            let head = head(config, &mut client).await.map_err(explain)?;
            Ok((client, verdict, head))
        }
    }
}

/// What a refusal to read the mark says of the store's history.
fn what_it_means(error: &etcd_client::Error) -> Option<CheckpointStatus> {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return None;
    };
    let text = status.message();
    // It has forgotten what it told us.
    let forgotten = text
        .contains("future revision")
        .then_some(CheckpointStatus::Other);
    let unreadable = text.contains("compacted") || text.contains("permission denied");
    forgotten.or(unreadable.then_some(CheckpointStatus::Unknown))
}

/// The store's revision, read in a way that only a member in touch with the others can answer.
async fn head(config: &EtcdConfig, client: &mut Client) -> Result<u64, etcd_client::Error> {
    let any = Some(GetOptions::new().with_count_only());
    match client.get(config.path("/"), any).await {
        Ok(answer) => Ok(answer.header().map_or(0, |header| header.revision()) as u64),
        // Any key will do: a user whose login was taken need not be allowed to read this one.
        Err(etcd_client::Error::GRpcStatus(status))
            if config.proves_who_we_are() && status.message().contains("permission denied") =>
        {
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Opens the watch stream, tells what answers there, and asks on it until it fails.
async fn ask_all(
    config: &EtcdConfig,
    client: Client,
    key: Vec<u8>,
    options: WatchOptions,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    tell: impl Fn(SessionEvent),
) -> Error {
    let explain = |error| request_error(config, "", &error);
    let mut watches = client.watch_client().max_decoding_message_size(usize::MAX);
    let (mut sender, answers) = match watches.watch(key, Some(options)).await {
        Ok(stream) => WatchStream::split(stream),
        Err(error) => return explain(error),
    };
    tell(SessionEvent::Response(answers.into()));
    while let Some(ask) = asks.recv().await {
        if let Err(error) = send(&mut sender, ask).await {
            return explain(error);
        }
    }
    pending().await
}

async fn send(sender: &mut WatchRequestSender, ask: Ask) -> Result<(), etcd_client::Error> {
    match ask {
        Ask::Watch(key, options) => sender.watch(key, Some(options)).await,
        Ask::Unwatch(ticket) => sender.cancel(ticket).await,
        Ask::Sign => sender.request_progress().await,
    }
}

fn why_canceled(response: &WatchResponse) -> CancelReason {
    let reason = response.cancel_reason();
    if response.compact_revision() > 0 {
        return CancelReason::Compacted;
    }
    let error = |kind| Error::new(kind, format!("etcd cancelled the watch: {reason}"));
    match reason.contains("permission denied") || reason.contains("auth") {
        true => CancelReason::Refused(error(ErrorKind::PermissionDenied)),
        false => CancelReason::Other(error(ErrorKind::Unavailable)),
    }
}
