//! A server that implements as much of etcd's protocol as a client needs to list and to watch, and that sends changes
//! as fast as the client takes them, which etcd does not: it measures clients only.
//!
//! Each response contains one change, and each HTTP/2 frame as many responses as fit.

mod load_script;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::etcd::url;
use discover_testkit::clock::now;
pub use load_script::LoadScript;
use wire::{
    Event, RangeRequest, RangeResponse, WatchRequest, WatchResponse, frame, framed, unframe,
};

/// Bytes that are handed to a connection at once.
const CHUNK: usize = 64 * 1024;
/// How long to wait for a client that watches and then compares.
const WATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The server.
pub struct FakeEtcd {
    /// Its port.
    pub port: u16,
    state: Arc<FakeState>,
}

struct FakeState {
    script: LoadScript,
    /// How many of its changes there were.
    sent: AtomicU64,
    /// The time that is written in changes.
    at: u64,
    /// The watch that was created last, with the sender of its changes.
    watch: watch::Sender<Option<Watch>>,
    /// How often keys were asked for, to compare them.
    compared: watch::Sender<u64>,
}

/// The id of a watch, and the sender of its changes.
type Watch = (i64, mpsc::UnboundedSender<Bytes>);

/// Why a stream ends early, for example because the client disconnects.
type StreamError = Box<dyn std::error::Error + Send + Sync>;

impl FakeEtcd {
    /// Starts to listen; no change has been sent yet.
    pub async fn start(script: LoadScript) -> Result<FakeEtcd, String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let state = Arc::new(FakeState {
            script,
            sent: AtomicU64::new(0),
            at: now(),
            watch: watch::Sender::new(None),
            compared: watch::Sender::new(0),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shared.clone()));
            }
        });
        Ok(FakeEtcd { port, state })
    }

    /// The URL for the programs.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Waits until a client has compared its state with the store after its start.
    pub async fn compared(&self) {
        let mut compared = self.state.compared.subscribe();
        let _ = timeout(WATCH_TIMEOUT, compared.wait_for(|times| *times > 0)).await;
    }

    /// Sends all changes to the watching client, and returns when that began.
    pub async fn send_all(&self) -> Result<u64, String> {
        let mut watched = self.state.watch.subscribe();
        let watch = timeout(WATCH_TIMEOUT, watched.wait_for(Option::is_some)).await;
        let watch = watch.ok().and_then(|watch| watch.ok()?.clone());
        let (watch_id, sender) = watch.ok_or("no client watches")?;
        let chunks = self.state.encode(watch_id);
        let began = now();
        self.state
            .sent
            .store(self.state.script.changes, Ordering::SeqCst);
        for chunk in chunks {
            sender
                .send(chunk)
                .map_err(|_| "the watching client is gone")?;
        }
        Ok(began)
    }

    /// Returns the microseconds from `began` to a change with this delay.
    pub fn since(&self, began: u64, late: f64) -> f64 {
        late - began.saturating_sub(self.state.at) as f64
    }
}

impl FakeState {
    fn sent_changes(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Encodes all changes, one per response, in chunks.
    fn encode(&self, watch_id: i64) -> Vec<Bytes> {
        let (mut chunks, mut chunk) = (Vec::new(), BytesMut::new());
        for number in 0..self.script.changes {
            let kv = Some(self.script.written(number, self.at));
            let answer = WatchResponse {
                header: LoadScript::header(LoadScript::revision(number + 1)),
                watch_id,
                events: vec![Event { kv }],
                ..WatchResponse::default()
            };
            frame(&answer, &mut chunk);
            if chunk.len() >= CHUNK {
                chunks.push(chunk.split().freeze());
            }
        }
        chunks.push(chunk.freeze());
        chunks
    }

    fn range(&self, asked: &RangeRequest) -> RangeResponse {
        let sent = self.sent_changes();
        let header = LoadScript::header(LoadScript::revision(sent));
        let until = LoadScript::sent_at(asked.revision, sent);
        let is_asked = |key: &[u8]| match asked.range_end.as_slice() {
            [] => *key == *asked.key,
            end => *key >= *asked.key && *key < *end,
        };
        let there = self.script.there(until, self.at);
        let mut kvs: Vec<_> = there.filter(|kv| is_asked(&kv.key)).collect();
        let count = kvs.len() as i64;
        if asked.count_only {
            kvs.clear();
        }
        kvs.sort_by(|one, other| one.key.cmp(&other.key));
        if asked.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
            self.compared.send_modify(|times| *times += 1);
        }
        RangeResponse { header, kvs, count }
    }
}

async fn serve(socket: TcpStream, state: Arc<FakeState>) {
    let _ = socket.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    // `accept` also drives the connection.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let state = state.clone();
        // If a stream ends early, its client has disconnected, which the scenario detects.
        tokio::spawn(async move { answer(request, respond, &state).await.is_ok() });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: &FakeState,
) -> Result<(), StreamError> {
    let path = request.uri().path().to_owned();
    let mut requests = Requests::new(request.into_body());
    let mut response = Response::new(());
    let content = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content);
    let mut answers = respond.send_response(response, false)?;
    let status = match path.as_str() {
        "/etcdserverpb.KV/Range" => {
            let asked = requests.next().await?.ok_or("no question")?;
            send(&mut answers, framed(&state.range(&asked))).await?;
            "0"
        }
        "/etcdserverpb.Watch/Watch" => {
            watch(&mut requests, &mut answers, state).await?;
            "0"
        }
        // Unimplemented, in gRPC's numbers.
        _ => "12",
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Ok(answers.send_trailers(trailers)?)
}

async fn watch(
    requests: &mut Requests,
    answers: &mut SendStream<Bytes>,
    state: &FakeState,
) -> Result<(), StreamError> {
    let (sender, mut changes) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            asked = requests.next() => match asked? {
                Some(asked) => send(answers, framed(&state.handle_watch(&asked, &sender))).await?,
                None => return Ok(()),
            },
            Some(chunk) = changes.recv() => send(answers, chunk).await?,
        }
    }
}

impl FakeState {
    fn handle_watch(
        &self,
        asked: &WatchRequest,
        sender: &mpsc::UnboundedSender<Bytes>,
    ) -> WatchResponse {
        let mut answer = WatchResponse {
            header: LoadScript::header(LoadScript::revision(self.sent_changes())),
            // The id of responses that belong to no watch.
            watch_id: -1,
            ..WatchResponse::default()
        };
        if let Some(create) = &asked.create {
            let watch = (create.watch_id, sender.clone());
            self.watch.send_replace(Some(watch));
            (answer.watch_id, answer.created) = (create.watch_id, true);
        } else if let Some(cancel) = &asked.cancel {
            (answer.watch_id, answer.canceled) = (cancel.watch_id, true);
        }
        answer
    }
}

/// The requests of a stream.
struct Requests {
    body: RecvStream,
    came: BytesMut,
}

impl Requests {
    fn new(body: RecvStream) -> Requests {
        let came = BytesMut::new();
        Requests { body, came }
    }

    async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, StreamError> {
        loop {
            if let Some(message) = unframe(&mut self.came)? {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await.transpose()? else {
                return Ok(None);
            };
            self.body.flow_control().release_capacity(data.len())?;
            self.came.extend_from_slice(&data);
        }
    }
}

/// Sends as fast as the client reads.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let capacity = capacity.ok_or("the stream is closed")??;
        stream.send_data(bytes.split_to(capacity.min(bytes.len())), false)?;
    }
    Ok(())
}
