//! Requests to one endpoint of etcd's v2 API.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, ErrorKind, Result};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::response::{self, ApiResult};
use crate::transport::http_client::{HttpClient, HttpClientOptions, HttpResponse, ServerAddress};
use crate::transport::network_error::Peer;
use crate::transport::socket_stats::SocketStats;

/// The longest response about one key: a value and its predecessor, with every byte escaped.
pub(super) const MAX_KEY_RESPONSE: usize = 32 << 20;
/// The longest listing that is read.
pub(super) const MAX_LIST_RESPONSE: usize = 256 << 20;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Header that discoverd adds to every response.
const DISCOVERD_HEADER: &str = "discoverd-boot";

/// Characters that a key in a path contains literally.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');

/// Client of one endpoint. All clones share their connections, which end with the last clone.
#[derive(Clone)]
pub(super) struct Http {
    client: Arc<HttpClient>,
    login: Option<HeaderValue>,
    /// Whether the server can refresh a key without a change.
    pub(super) refreshes: bool,
}

/// Head of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// The store's index when it started the response; 0 if the response does not contain it.
    pub(super) index: u64,
    /// Id of the cluster.
    pub(super) cluster: Option<String>,
}

impl Head {
    fn read(headers: &HeaderMap) -> Head {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Head {
            index: text("x-etcd-index")
                .and_then(|index| index.parse().ok())
                .unwrap_or(0),
            cluster: text("x-etcd-cluster-id").map(str::to_owned),
        }
    }
}

/// A response whose body has not been read yet.
pub(super) struct Pending {
    response: HttpResponse,
    pub(super) head: Head,
    peer: Peer,
}

impl Pending {
    pub(super) fn is_refusal(&self) -> bool {
        !self.response.status.is_success()
    }

    /// Reads the body, which may have `longest` bytes.
    pub(super) async fn read(self, longest: usize) -> Result<(Head, ApiResult)> {
        let (peer, status, mut head) = (self.peer, self.response.status, self.head);
        let is_discoverd = self.response.headers.contains_key(DISCOVERD_HEADER);
        let body = self.response.bytes(longest).await?;
        if is_discoverd {
            return Err(peer.refusal(
                ErrorKind::Unsupported,
                "discoverd answers there, not etcd",
                "write discoverd:// instead of etcd2://",
            ));
        }
        let answer = response::parse(&peer, status, &body)?;
        if let Err(refusal) = &answer {
            head.index = head.index.max(refusal.index);
        }
        Ok((head, answer))
    }
}

impl Http {
    /// Creates a client of an endpoint (`http://host:port`). Reads the TLS files; connects with the first
    /// request.
    ///
    /// # Errors
    ///
    /// Fails if a TLS file or the login cannot be used.
    pub(super) fn new(config: &EtcdConfig, endpoint: &str) -> Result<Http> {
        let login = config.user.as_ref().map(|(user, password)| {
            let text = STANDARD.encode(format!("{user}:{password}"));
            HeaderValue::try_from(format!("Basic {text}")).map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let login = login.transpose();
        let peer = config.peer(Some(endpoint));
        let tls = config.tls.as_ref().map(|files| files.load()).transpose()?;
        let options = HttpClientOptions {
            connect_timeout: Some(CONNECT_TIMEOUT),
            // A long poll is silent while nothing changes: only the kernel can tell that from a dead peer.
            tcp_keepalive: true,
            max_idle: usize::MAX,
            idle_timeout: IDLE_TIMEOUT,
            // The server may have executed a conditional write.
            resend: false,
        };
        let address = ServerAddress::Tcp(peer.endpoint.parse()?);
        Ok(Http {
            client: HttpClient::new(address, tls.as_ref(), peer, options)?,
            login: login.map_err(|_| Error::invalid("the login cannot be sent in a header"))?,
            refreshes: false,
        })
    }

    /// Returns the counters of the connections.
    pub(super) fn stats(&self) -> &SocketStats {
        self.client.stats()
    }

    /// Returns the names of the server for messages.
    pub(super) fn peer(&self) -> &Peer {
        self.client.peer()
    }

    /// Sends a request for a path and waits for the head of the response.
    pub(super) async fn begin(
        &self,
        method: Method,
        path: &str,
        form: Option<String>,
    ) -> Result<Pending> {
        let mut request = Request::builder().method(method).uri(path);
        if form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        let request = request
            .body(Full::<Bytes>::from(form.unwrap_or_default()))
            .map_err(|e| {
                Error::caused_by(ErrorKind::InvalidArgument, "cannot build the request", e)
            })?;
        let response = self.client.send(request).await?;
        Ok(Pending {
            head: Head::read(&response.headers),
            response,
            peer: self.peer().clone(),
        })
    }

    /// Sends a GET request and reads the whole response.
    pub(super) async fn get(&self, path: &str, longest: usize) -> Result<(Head, ApiResult)> {
        let pending = self.begin(Method::GET, path, None).await?;
        pending.read(longest).await
    }

    /// Returns the body of the server's `/version`.
    pub(super) async fn version(&self) -> Result<Vec<u8>> {
        let pending = self.begin(Method::GET, "/version", None).await?;
        Ok(pending.response.bytes(MAX_KEY_RESPONSE).await?.to_vec())
    }
}

/// Returns the request path of an etcd key.
pub(super) fn keys(path: &str) -> String {
    format!("/v2/keys{}", utf8_percent_encode(path, &PATH))
}

/// Encodes a value for a form.
pub(super) fn form_value(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}
