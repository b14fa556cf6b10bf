//! HTTP/1.1 client of one server over TCP, TLS or a Unix socket, with a pool of idle connections.
//!
//! Redirects are not followed: the caller sees them as responses.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::error::{Error, ErrorKind, Result};
use crate::net::HostPort;
use crate::transport::network_error::{Peer, Phase};
use crate::transport::socket_stats::{MeteredSocket, SocketStats};
use crate::transport::tls::TlsMaterial;

/// A connection that is silent for this long is probed by the kernel, and again at a third of this interval.
const TCP_KEEPALIVE: Duration = Duration::from_secs(3);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged before the kernel closes the connection.
#[cfg(any(target_os = "linux", target_os = "android"))]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(8);

type Connection = SendRequest<Full<Bytes>>;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum ServerAddress {
    Tcp(HostPort),
    Unix(PathBuf),
}

/// Settings of an [`HttpClient`].
pub(crate) struct HttpClientOptions {
    /// Limit of connecting a TCP socket. Without it, the caller bounds the whole request.
    pub(crate) connect_timeout: Option<Duration>,
    /// Whether the kernel probes silent TCP connections, which detects a dead peer of a long poll.
    pub(crate) tcp_keepalive: bool,
    /// Largest number of idle connections.
    pub(crate) max_idle: usize,
    /// Idle connections older than this are closed when another connection becomes idle.
    pub(crate) idle_timeout: Duration,
    /// Whether a request is sent again on another connection if a reused connection breaks after the request
    /// was written. A request that was not written is always sent again.
    pub(crate) resend: bool,
}

/// A client of one server. Its connections end with it and with the responses that use them.
pub(crate) struct HttpClient {
    address: ServerAddress,
    peer: Peer,
    host: HeaderValue,
    connector: HttpConnector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    options: HttpClientOptions,
    stats: Arc<SocketStats>,
    /// Idle connections and since when they are idle, the most recent last. That one is reused first.
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// A response whose body has not been read yet.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    connection: Connection,
    client: Arc<HttpClient>,
}

impl HttpClient {
    /// Creates a client. Connects with the first request.
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up for the address.
    pub(crate) fn new(
        address: ServerAddress,
        tls: Option<&TlsMaterial>,
        peer: Peer,
        options: HttpClientOptions,
    ) -> Result<Arc<HttpClient>> {
        let (host, tls) = match &address {
            ServerAddress::Unix(_) => ("localhost".to_owned(), None),
            ServerAddress::Tcp(address) => {
                let tls = match tls {
                    Some(tls) => {
                        let connector = TlsConnector::from(Arc::new(tls.client_config()?));
                        Some((connector, tls.server_name(address.host())?))
                    }
                    None => None,
                };
                (address.to_string(), tls)
            }
        };
        let host = HeaderValue::try_from(host)
            .map_err(|_| Error::invalid(format!("{peer}: the host has a control character")))?;
        Ok(Arc::new(HttpClient {
            address,
            peer,
            host,
            connector: connector(&options),
            tls,
            options,
            stats: Arc::default(),
            idle: Mutex::default(),
        }))
    }

    /// Returns the server's name for messages.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the counters of all TCP connections.
    pub(crate) fn stats(&self) -> &SocketStats {
        &self.stats
    }

    /// Sends a request, whose URI is a path, and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Unavailable`] if the server cannot be reached or the connection breaks.
    pub(crate) async fn send(
        self: &Arc<HttpClient>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<HttpResponse> {
        request.headers_mut().insert(HOST, self.host.clone());
        while let Some(mut connection) = self.take_idle().await {
            let again = self.options.resend.then(|| request.clone());
            match connection.try_send_request(request).await {
                Ok(response) => return self.response(response, connection),
                // The server may have closed the idle connection meanwhile. A new connection shows its state.
                Err(mut error) => match error.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(Phase::Established, &error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let sent = connection.send_request(request).await;
        let response = sent.map_err(|error| self.broken(Phase::Opening, &error))?;
        self.response(response, connection)
    }

    fn response(
        self: &Arc<HttpClient>,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<HttpResponse> {
        let (head, body) = response.into_parts();
        if !has_clear_length(&head.headers) {
            let text = format!(
                "{}: the response has an unknown Transfer-Encoding, or one beside a Content-Length",
                self.peer
            );
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        Ok(HttpResponse {
            status: head.status,
            headers: head.headers,
            body,
            connection,
            client: self.clone(),
        })
    }

    fn broken(&self, phase: Phase, error: &(dyn std::error::Error + 'static)) -> Error {
        self.peer.error(ErrorKind::Unavailable, phase, error)
    }

    async fn connect(&self) -> Result<Connection> {
        match &self.address {
            ServerAddress::Tcp(address) => {
                let stream = self.connect_tcp(address).await?;
                let Some((connector, name)) = &self.tls else {
                    return self.handshake(stream).await;
                };
                let secured = connector.connect(name.clone(), stream).await;
                let secured = secured.map_err(|error| self.broken(Phase::TlsHandshake, &error))?;
                self.handshake(secured).await
            }
            ServerAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                self.handshake(stream.map_err(|error| self.broken(Phase::Opening, &error))?)
                    .await
            }
        }
    }

    async fn connect_tcp(&self, address: &HostPort) -> Result<MeteredSocket> {
        let uri = Uri::try_from(format!("http://{address}"))
            .map_err(|_| Error::invalid(format!("{}: the host is not a valid name", self.peer)))?;
        // A new connector is always ready.
        let connected = self.connector.clone().call(uri).await;
        let stream = connected.map_err(|error| self.broken(Phase::Opening, &error))?;
        Ok(self.stats.meter(stream.into_inner()))
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (connection, task) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(Phase::Opening, &error))?;
        // The task ends when the connection handle and the body of the last response are dropped.
        tokio::spawn(async move { drop(task.await) });
        Ok(connection)
    }

    /// Takes the most recently used idle connection that is still open.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let (mut connection, _) = self.idle().pop()?;
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn put_idle(&self, connection: Connection) {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < self.options.idle_timeout);
        if idle.len() < self.options.max_idle && !connection.is_closed() {
            idle.push((connection, Instant::now()));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if only one header determines where the body ends. Otherwise the next response on the connection
/// could be a part of this one.
fn has_clear_length(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            is_chunked && !headers.contains_key(CONTENT_LENGTH)
        }
        _ => false,
    }
}

/// Creates the TCP connector, which tries all addresses of a host name, IPv6 and IPv4 side by side.
fn connector(options: &HttpClientOptions) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Small requests must not wait for the acknowledgement of earlier ones.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(options.connect_timeout);
    if options.tcp_keepalive {
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    }
    tcp
}

impl HttpResponse {
    /// Reads the whole body and returns the connection to the pool.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Unavailable`] if the connection breaks or the body is longer than `max_bytes`.
    pub(crate) async fn bytes(self, max_bytes: usize) -> Result<Bytes> {
        let client = self.client;
        let body = match Limited::new(self.body, max_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!(
                    "{}: the response is longer than {max_bytes} bytes",
                    client.peer
                );
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            Err(error) => return Err(client.broken(Phase::Established, &*error)),
        };
        client.put_idle(self.connection);
        Ok(body)
    }

    /// Returns the body to be read as a stream. The connection is not reused.
    pub(crate) fn into_body(self) -> Incoming {
        self.body
    }
}
