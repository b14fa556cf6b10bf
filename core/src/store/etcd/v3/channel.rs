//! gRPC channel to one endpoint over a socket of our own, which counts what it receives.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::{Channel, TlsOptions};
use futures_util::future::{BoxFuture, FutureExt};
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tonic::transport::{Endpoint, Error};
use tower_service::Service;

use crate::transport::socket_stats::{MeteredSocket, SocketStats};

/// How long a TCP connection may take before it is tried again. The kernel waits twice as long after each lost packet.
const TCP_ATTEMPT: Duration = Duration::from_secs(2);
/// etcd forbids HTTP/2 pings more often than every 5 s, and any without a stream. Progress requests on the watch
/// stream are faster.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a channel to an endpoint (`http://host:port` or `https://host:port`). The caller bounds its time.
pub(super) async fn open(
    endpoint: &str,
    tls: Option<TlsOptions>,
    stats: &Arc<SocketStats>,
) -> Result<Channel, Error> {
    let mut endpoint = Endpoint::from_shared(endpoint.to_owned())?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        // On a slow link, fixed windows of megabytes would delay every response behind a list for half a minute.
        .http2_adaptive_window(true);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let mut tcp = HttpConnector::new();
    // Small requests must not wait for the acknowledgement of earlier ones.
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(TCP_ATTEMPT));
    let stats = stats.clone();
    let connector = MeteredConnector { tcp, stats };
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Channel::Tonic(channel))
}

/// Connector of sockets that count what they receive.
struct MeteredConnector {
    tcp: HttpConnector,
    stats: Arc<SocketStats>,
}

impl Service<Uri> for MeteredConnector {
    type Response = TokioIo<MeteredSocket>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (mut tcp, stats) = (self.tcp.clone(), self.stats.clone());
        async move {
            let socket = loop {
                match tcp.call(uri.clone()).await {
                    Err(error) if is_timeout(&error) => {}
                    connected => break connected?,
                }
            };
            Ok(TokioIo::new(stats.meter(socket.into_inner())))
        }
        .boxed()
    }
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
        || error.source().is_some_and(is_timeout)
}
