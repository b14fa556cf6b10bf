//! A server that speaks as much of etcd's protocol as takes a client to list and to watch, and that tells
//! changes as fast as the client takes them, which etcd does not: it is for the pace of the clients alone.
//!
//! There is one change in each answer, and as many answers in a frame of HTTP/2 as there is room for.

mod tale;
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

use crate::clock::now;
use crate::etcd::url;
pub use tale::Tale;
use wire::{
    Event, RangeRequest, RangeResponse, WatchRequest, WatchResponse, frame, framed, unframe,
};

/// As much as is handed to a connection at once.
const CHUNK: usize = 64 * 1024;
/// For how long a client is waited for that watches, and then compares.
const WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub struct Fake {
    /// Where it listens.
    pub port: u16,
    told: Arc<Told>,
}

struct Told {
    tale: Tale,
    /// How many of its changes there were.
    happened: AtomicU64,
    /// The time that is written in changes.
    at: u64,
    /// The watch that was asked for last, and where it is told.
    watch: watch::Sender<Option<Watch>>,
    /// How often keys were asked for, to compare them.
    compared: watch::Sender<u64>,
}

/// Its name, and where what it is told goes.
type Watch = (i64, mpsc::UnboundedSender<Bytes>);

/// Why a stream ends early; a client that goes away says it so, too.
type Ended = Box<dyn std::error::Error + Send + Sync>;

impl Fake {
    /// Listens; nothing has happened yet.
    pub async fn start(tale: Tale) -> Result<Fake, String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let told = Arc::new(Told {
            tale,
            happened: AtomicU64::new(0),
            at: now(),
            watch: watch::Sender::new(None),
            compared: watch::Sender::new(0),
        });
        let shared = told.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shared.clone()));
            }
        });
        Ok(Fake { port, told })
    }

    /// What a program is given to find it.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Waits until a client that compares what it knows with what there is has done so after its start.
    pub async fn compared(&self) {
        let mut compared = self.told.compared.subscribe();
        let _ = timeout(WITHIN, compared.wait_for(|times| *times > 0)).await;
    }

    /// Has all changes happen, tells them to the one that watches, and says when that began.
    pub async fn tell_all(&self) -> Result<u64, String> {
        let mut watched = self.told.watch.subscribe();
        let watch = timeout(WITHIN, watched.wait_for(Option::is_some)).await;
        let watch = watch.ok().and_then(|watch| watch.ok()?.clone());
        let (watch_id, sender) = watch.ok_or("nobody watches")?;
        let chunks = self.told.encode(watch_id);
        let began = now();
        self.told
            .happened
            .store(self.told.tale.changes, Ordering::SeqCst);
        for chunk in chunks {
            sender.send(chunk).map_err(|_| "who watched has gone")?;
        }
        Ok(began)
    }

    /// Microseconds after the beginning of what a program says came so late.
    pub fn since(&self, began: u64, late: f64) -> f64 {
        late - began.saturating_sub(self.told.at) as f64
    }
}

impl Told {
    fn happened(&self) -> u64 {
        self.happened.load(Ordering::SeqCst)
    }

    /// All changes, one in each answer, in chunks.
    fn encode(&self, watch_id: i64) -> Vec<Bytes> {
        let (mut chunks, mut chunk) = (Vec::new(), BytesMut::new());
        for number in 0..self.tale.changes {
            let kv = Some(self.tale.written(number, self.at));
            let answer = WatchResponse {
                header: Tale::header(Tale::revision(number + 1)),
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
        let happened = self.happened();
        let header = Tale::header(Tale::revision(happened));
        let until = Tale::happened_at(asked.revision, happened);
        let is_asked = |key: &[u8]| match asked.range_end.as_slice() {
            [] => *key == *asked.key,
            end => *key >= *asked.key && *key < *end,
        };
        let there = self.tale.there(until, self.at);
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

async fn serve(socket: TcpStream, told: Arc<Told>) {
    let _ = socket.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    // Accepting is what moves the connection on, too.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let told = told.clone();
        // A stream that ends early has a client that is gone, which the scenario notices.
        tokio::spawn(async move { answer(request, respond, &told).await.is_ok() });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    told: &Told,
) -> Result<(), Ended> {
    let path = request.uri().path().to_owned();
    let mut requests = Requests::new(request.into_body());
    let mut response = Response::new(());
    let content = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content);
    let mut answers = respond.send_response(response, false)?;
    let status = match path.as_str() {
        "/etcdserverpb.KV/Range" => {
            let asked = requests.next().await?.ok_or("no question")?;
            send(&mut answers, framed(&told.range(&asked))).await?;
            "0"
        }
        "/etcdserverpb.Watch/Watch" => {
            watch(&mut requests, &mut answers, told).await?;
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
    told: &Told,
) -> Result<(), Ended> {
    let (sender, mut changes) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            asked = requests.next() => match asked? {
                Some(asked) => send(answers, framed(&told.hear(&asked, &sender))).await?,
                None => return Ok(()),
            },
            Some(chunk) = changes.recv() => send(answers, chunk).await?,
        }
    }
}

impl Told {
    fn hear(&self, asked: &WatchRequest, sender: &mpsc::UnboundedSender<Bytes>) -> WatchResponse {
        let mut answer = WatchResponse {
            header: Tale::header(Tale::revision(self.happened())),
            // That of an answer to nobody in particular.
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

/// The questions of a stream, one after the other.
struct Requests {
    body: RecvStream,
    came: BytesMut,
}

impl Requests {
    fn new(body: RecvStream) -> Requests {
        let came = BytesMut::new();
        Requests { body, came }
    }

    async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Ended> {
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

/// Sends as fast as the client takes it.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), Ended> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let capacity = capacity.ok_or("the stream is closed")??;
        stream.send_data(bytes.split_to(capacity.min(bytes.len())), false)?;
    }
    Ok(())
}
