//! Requests to one endpoint.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, ErrorKind, Result};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::response::{self, Answer};
use crate::store::etcd::v2::tls;

/// The longest answer about one key: a value and the one before, each byte of them escaped.
pub(super) const ONE: usize = 32 << 20;
/// The longest list that is read.
pub(super) const LIST: usize = 256 << 20;
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// What a key may hold in a path as it is.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');

/// Where requests go. All clones share their connections, which end with the last clone.
#[derive(Clone)]
pub(super) struct Http {
    /// `http://host:port`
    endpoint: Arc<str>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    login: Option<HeaderValue>,
    /// Whether the server knows how to refresh a key without a change.
    pub(super) refreshes: bool,
}

/// What comes before the body of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// The store's index when it began to answer; 0 if it does not say.
    pub(super) index: u64,
    /// Which cluster it is.
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

/// An answer whose body is still to come.
pub(super) struct Pending {
    endpoint: Arc<str>,
    status: StatusCode,
    pub(super) head: Head,
    body: Incoming,
}

impl Pending {
    pub(super) fn is_refusal(&self) -> bool {
        !self.status.is_success()
    }

    /// The body, if it is no longer than that.
    pub(super) async fn read(self, longest: usize) -> Result<(Head, Answer)> {
        let (endpoint, status, mut head) = (self.endpoint.clone(), self.status, self.head.clone());
        let answer = response::read(&endpoint, status, &self.body(longest).await?)?;
        if let Err(refusal) = &answer {
            head.index = head.index.max(refusal.index);
        }
        Ok((head, answer))
    }

    async fn body(self, longest: usize) -> Result<Bytes> {
        let whole = Limited::new(self.body, longest).collect().await;
        let whole = whole.map_err(|error| {
            let text = format!("the answer of etcd at {} broke off", self.endpoint);
            Error::caused_by(ErrorKind::Unavailable, text, error)
        })?;
        Ok(whole.to_bytes())
    }
}

impl Http {
    /// Reads the files of TLS; asks nothing of the network.
    pub(super) fn new(config: &EtcdConfig, endpoint: &str) -> Result<Http> {
        let login = config.user.as_ref().map(|(user, password)| {
            let text = STANDARD.encode(format!("{user}:{password}"));
            HeaderValue::try_from(format!("Basic {text}")).map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let login = login.transpose();
        Ok(Http {
            endpoint: endpoint.into(),
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .build(tls::connector(config)?),
            login: login
                .map_err(|e| Error::caused_by(ErrorKind::InvalidArgument, "the login", e))?,
            refreshes: false,
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a request for that path; the answer's head is awaited.
    pub(super) async fn begin(
        &self,
        method: Method,
        path: &str,
        form: Option<String>,
    ) -> Result<Pending> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint));
        if form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        let request = request
            .body(Full::from(form.unwrap_or_default()))
            .map_err(|e| Error::caused_by(ErrorKind::InvalidArgument, "the request", e))?;
        let response: Response<Incoming> = self.client.request(request).await.map_err(|e| {
            let text = format!("etcd at {}", self.endpoint);
            Error::caused_by(ErrorKind::Unavailable, text, e)
        })?;
        Ok(Pending {
            endpoint: self.endpoint.clone(),
            status: response.status(),
            head: Head::read(response.headers()),
            body: response.into_body(),
        })
    }

    /// A GET and its whole answer.
    pub(super) async fn get(&self, path: &str, longest: usize) -> Result<(Head, Answer)> {
        let pending = self.begin(Method::GET, path, None).await?;
        pending.read(longest).await
    }

    /// What the server says of its version.
    pub(super) async fn version(&self) -> Result<Vec<u8>> {
        let pending = self.begin(Method::GET, "/version", None).await?;
        Ok(pending.body(ONE).await?.to_vec())
    }
}

/// The path of a key, as etcd has it, for a request.
pub(super) fn keys(path: &str) -> String {
    format!("/v2/keys{}", utf8_percent_encode(path, &PATH))
}

/// A value in a form.
pub(super) fn form_value(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}
