//! HTTP to the agent: a few connections that are used again, and one for each stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::backend::agent::config::{Address, Config};
use crate::backend::agent::problem;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ConnectionState;

/// How long a call may take: longer than the agent tries by itself.
const CALL: Duration = Duration::from_secs(8);
/// The longest answer that is taken, in bytes.
const LONGEST: usize = 256 * 1024 * 1024;
/// How many connections are kept for the next call.
const KEPT: usize = 4;
/// For how long those beyond the first are: calls that overlap now and then shall not add up to connections.
const SPARE: Duration = Duration::from_millis(100);

type Sender = SendRequest<Full<Bytes>>;

/// See the module.
pub(super) struct HttpClient {
    config: Config,
    /// Connections that rest, and since when; the last to rest is the next to be used.
    idle: Mutex<Vec<(Sender, Instant)>>,
    pub(super) state: watch::Sender<ConnectionState>,
    /// What the agent calls this run of its own; empty before it was heard.
    pub(super) boot: watch::Sender<String>,
    /// How often it was found to be another run.
    pub(super) restarts: AtomicU64,
}

impl HttpClient {
    pub(super) fn new(config: Config) -> Arc<HttpClient> {
        Arc::new(HttpClient {
            config,
            idle: Mutex::default(),
            state: watch::Sender::new(ConnectionState::Connected),
            boot: watch::Sender::default(),
            restarts: AtomicU64::new(0),
        })
    }

    /// Asks, and gives the answer's JSON; null where there is none.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.call_within(method, path, body, CALL).await
    }

    /// The same, for as long as is said.
    pub(super) async fn call_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Value> {
        let whole = async {
            let (response, sender) = self.send(method, path, body).await?;
            let value = read(response).await;
            self.keep(sender);
            value
        };
        let slow = |_| {
            let shown = self.shown();
            Error::new(
                ErrorKind::Timeout,
                format!("{shown} did not answer within {within:?}"),
            )
        };
        let done = timeout(within, whole)
            .await
            .unwrap_or_else(|e| Err(slow(e)));
        self.note(done.as_ref().err());
        done
    }

    /// Asks for a stream, whose connection is its own.
    pub(super) async fn stream(&self, path: &str) -> Result<Response<Incoming>> {
        let opened = async {
            let (response, _) = self.send(Method::GET, path, None).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            Err(refusal(response).await)
        };
        let slow = |_| {
            let shown = self.shown();
            Error::new(
                ErrorKind::Timeout,
                format!("{shown} opened no stream within {CALL:?}"),
            )
        };
        let done = timeout(CALL, opened).await.unwrap_or_else(|e| Err(slow(e)));
        self.note(done.as_ref().err());
        done
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Response<Incoming>, Sender)> {
        let body = body.map(|value| Bytes::from(value.to_string()));
        // One that was kept may have been closed meanwhile; a new one says how it really is.
        while let Some(mut sender) = self.take() {
            let request = self.request(method.clone(), path, body.clone())?;
            if let Ok(response) = sender.send_request(request).await {
                self.hear(&response);
                return Ok((response, sender));
            }
        }
        let mut sender = self.connect().await?;
        let request = self.request(method, path, body)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| self.away(e))?;
        self.hear(&response);
        Ok((response, sender))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>> {
        let host = match &self.config.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(ACCEPT, "application/json, text/event-stream");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.config.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            // The value is not shown: it is a secret.
            let mut value =
                value.map_err(|_| Error::invalid("the agent's token has a control character"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        request.map_err(|e| {
            Error::caused_by(ErrorKind::InvalidArgument, "no request for the agent", e)
        })
    }

    async fn connect(&self) -> Result<Sender> {
        let failed = |e| self.away(e);
        match &self.config.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                // Small requests must not wait for each other's acknowledgement.
                let _ = stream.set_nodelay(true);
                match &self.config.tls {
                    Some(tls) => self.begin(tls.over(stream).await.map_err(failed)?).await,
                    None => self.begin(stream).await,
                }
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                self.begin(stream).await
            }
        }
    }

    async fn begin<S>(&self, stream: S) -> Result<Sender>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.away(e))?;
        // It ends with the last who holds the other end of it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle();
        while let Some((sender, _)) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < SPARE);
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which run of the agent answered.
    fn hear(&self, response: &Response<Incoming>) {
        let Some(boot) = response.headers().get("discoverd-boot") else {
            return;
        };
        let boot = String::from_utf8_lossy(boot.as_bytes()).into_owned();
        self.boot.send_if_modified(|known| {
            if *known == boot {
                return false;
            }
            if !known.is_empty() {
                self.restarts.fetch_add(1, Ordering::Relaxed);
            }
            *known = boot;
            true
        });
    }

    /// Notes how the connection fares: with a failure, or without.
    fn note(&self, failure: Option<&Error>) {
        let reached =
            |error: &&Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let next = match failure.filter(reached) {
            Some(error) => ConnectionState::Suspended(error.clone()),
            None => ConnectionState::Connected,
        };
        self.state.send_if_modified(|now| {
            let news = now.name() != next.name();
            if news {
                *now = next;
            }
            news
        });
    }

    pub(super) fn away(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let text = format!("cannot reach {}", self.shown());
        Error::caused_by(ErrorKind::Unavailable, text, cause)
    }

    fn shown(&self) -> String {
        match &self.config.address {
            Address::Tcp(address) => format!("the agent at {address}"),
            Address::Unix(path) => format!("the agent at {}", path.display()),
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Value> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let body = bytes(response).await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let bad = |e| Error::caused_by(ErrorKind::Internal, "the agent's answer is not JSON", e);
    serde_json::from_slice(&body).map_err(bad)
}

async fn refusal(response: Response<Incoming>) -> Error {
    let kind = problem::kind_of(response.status().as_u16());
    match bytes(response).await {
        Ok(body) => problem::read(&serde_json::from_slice(&body).unwrap_or_default(), kind),
        Err(error) => error,
    }
}

async fn bytes(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let cut = |e| {
        Error::caused_by(
            ErrorKind::Unavailable,
            "the agent's answer was cut short",
            e,
        )
    };
    Ok(body.map_err(cut)?.to_bytes())
}
