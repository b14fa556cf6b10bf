//! One HTTP connection: TLS, the limits on its head and idle time, and its end when the agent hands over or stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::net::listener::Stream;
use crate::net::peer::Peer;

/// Limit on the time to receive the head of a request or to complete the TLS handshake, and on idle time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without progress after which a client that does not read is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Time that a connection without a request gets for its first request when the agent leaves.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Performs the TLS handshake if there is an acceptor. Returns `None` if the handshake fails or takes too long.
pub async fn handshake(
    stream: Box<dyn Stream>,
    acceptor: Option<TlsAcceptor>,
) -> Option<Box<dyn Stream>> {
    let Some(acceptor) = acceptor else {
        return Some(stream);
    };
    match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Serves a connection until the client closes it or `leaving` resolves. After that, the connection still gets the
/// response to its current request, or to its first one.
pub async fn serve(
    stream: Box<dyn Stream>,
    router: Router,
    peer: Peer,
    leaving: impl Future<Output = ()>,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    let service = PeerService::new(router, peer);
    let requested = service.requested.clone();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors of a connection are caused by its client.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leaving => {}
    }
    // A graceful shutdown would close a connection that has not sent its first request yet, without a response.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = timeout(FIRST_REQUEST_TIMEOUT, requested.notified()) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Adds the peer to each request.
#[derive(Clone)]
struct PeerService {
    router: TowerToHyperService<Router>,
    peer: Peer,
    /// Notified by each request.
    requested: Arc<Notify>,
}

impl PeerService {
    fn new(router: Router, peer: Peer) -> PeerService {
        PeerService {
            router: TowerToHyperService::new(router),
            peer,
            requested: Arc::new(Notify::new()),
        }
    }
}

impl Service<Request<Incoming>> for PeerService {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.requested.notify_one();
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}
