//! Connection to an agent: JSON calls and event streams over HTTP, and what they reveal about the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::backend::agent::config::AgentConfig;
use crate::backend::agent::problem;
use crate::duration::HumanDuration;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ConnectionState;
use crate::transport::http_client::{HttpClient, HttpClientOptions, HttpResponse};
use crate::transport::network_error::{Peer, Phase};

/// Limit of a call. Longer than the agent retries a request to its store.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// Limits of a call whose response is a short document.
const CALL_LIMITS: CallLimits = CallLimits {
    time: CALL_TIMEOUT,
    bytes: 1024 * 1024,
};
/// Limits of the call for the names of all services.
pub(super) const CATALOG_LIMITS: CallLimits = CallLimits {
    time: CALL_TIMEOUT,
    bytes: 16 * 1024 * 1024,
};
/// How many idle connections are kept for the next calls.
const MAX_IDLE_CONNECTIONS: usize = 4;
/// How long idle connections beyond the first are kept, so that calls which overlap now and then do not
/// accumulate connections.
const IDLE_TIMEOUT: Duration = Duration::from_millis(100);
/// Header with the boot id of the agent.
const BOOT_HEADER: &str = "discoverd-boot";

/// Limits of the response to a call.
#[derive(Clone, Copy)]
pub(super) struct CallLimits {
    pub(super) time: Duration,
    pub(super) bytes: usize,
}

impl CallLimits {
    /// Returns the limits of a call that renews a grant of this TTL: a third of it, so that there is time to try again.
    pub(super) fn renewal(ttl: Duration) -> CallLimits {
        CallLimits {
            time: CALL_TIMEOUT.min(ttl / 3),
            ..CALL_LIMITS
        }
    }
}

/// Connection of one client to one agent.
pub(super) struct AgentConnection {
    client: Arc<HttpClient>,
    authorization: Option<HeaderValue>,
    /// Maximum number of instances of a service.
    pub(super) max_instances: u64,
    pub(super) state: watch::Sender<ConnectionState>,
    /// Boot id of the agent, which changes with each start; empty before the first response.
    pub(super) boot: watch::Sender<String>,
    /// How often the boot id changed.
    pub(super) restarts: AtomicU64,
}

impl AgentConnection {
    /// Creates the connection. Connects with the first call.
    ///
    /// # Errors
    ///
    /// Fails if the token or the TLS files cannot be used.
    pub(super) fn new(config: AgentConfig) -> Result<Arc<AgentConnection>> {
        let authorization = match &config.token {
            Some(token) => {
                // The token is a secret and not shown.
                let value = HeaderValue::from_str(&format!("Bearer {token}"));
                let mut value = value
                    .map_err(|_| Error::invalid("the agent's token has a control character"))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let options = HttpClientOptions {
            connect_timeout: None,
            tcp_keepalive: false,
            max_idle: MAX_IDLE_CONNECTIONS,
            idle_timeout: IDLE_TIMEOUT,
            // The agent's requests may be repeated.
            resend: true,
        };
        let peer = config.peer();
        Ok(Arc::new(AgentConnection {
            client: HttpClient::new(config.address, config.tls.as_ref(), peer, options)?,
            authorization,
            max_instances: config.max_instances,
            state: watch::Sender::new(ConnectionState::Connected),
            boot: watch::Sender::default(),
            restarts: AtomicU64::new(0),
        }))
    }

    /// Sends a request and returns the JSON of the response; null if it has no body.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.call_within(method, path, body, CALL_LIMITS).await
    }

    /// Calls as [`AgentConnection::call`] does, with other limits.
    pub(super) async fn call_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limits: CallLimits,
    ) -> Result<Value> {
        let answered = async {
            let response = self.send(method, path, body).await?;
            self.read_json(response, limits.bytes).await
        };
        let result = match timeout(limits.time, answered).await {
            Ok(result) => result,
            Err(_) => Err(self.no_answer(limits.time)),
        };
        self.record_result(result.as_ref().err());
        result
    }

    /// Opens an event stream on a connection of its own.
    pub(super) async fn stream(&self, path: &str) -> Result<Incoming> {
        let opened = async {
            let response = self.send(Method::GET, path, None).await?;
            match response.status.is_success() {
                true => Ok(response.into_body()),
                false => Err(self.read_refusal(response).await),
            }
        };
        let result = match timeout(CALL_TIMEOUT, opened).await {
            Ok(result) => result,
            Err(_) => Err(self.no_answer(CALL_TIMEOUT)),
        };
        self.record_result(result.as_ref().err());
        result
    }

    /// Returns the error of a broken stream.
    pub(super) fn stream_error(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        self.peer()
            .error(ErrorKind::Unavailable, Phase::Established, error)
    }

    /// Returns the agent's name for messages.
    pub(super) fn peer(&self) -> &Peer {
        self.client.peer()
    }

    fn no_answer(&self, limit: Duration) -> Error {
        let (peer, limit) = (self.peer(), HumanDuration(limit));
        Error::new(
            ErrorKind::Timeout,
            format!("{peer}: no answer within {limit}"),
        )
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<HttpResponse> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, "application/json, text/event-stream");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = body.map(|value| Bytes::from(value.to_string()));
        let request = request.body(Full::new(body.unwrap_or_default()));
        let request = request.map_err(|e| {
            let text = format!("cannot build the request for {path:?}");
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })?;
        let response = self.client.send(request).await?;
        self.record_boot(&response.headers);
        Ok(response)
    }

    async fn read_json(&self, response: HttpResponse, max_bytes: usize) -> Result<Value> {
        if !response.status.is_success() {
            return Err(self.read_refusal(response).await);
        }
        let body = response.bytes(max_bytes).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let parsed = serde_json::from_slice(&body);
        parsed.map_err(|_| self.peer().wrong_protocol(ErrorKind::Internal))
    }

    async fn read_refusal(&self, response: HttpResponse) -> Error {
        let status = response.status;
        let kind = problem::kind_of(status.as_u16());
        let body = match response.bytes(CALL_LIMITS.bytes).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match (status, serde_json::from_slice(&body)) {
            (StatusCode::UNAUTHORIZED, _) => {
                let (cause, remedy) = match &self.authorization {
                    Some(_) => (
                        "the agent refused the token",
                        "check the option token or the file that token_file names",
                    ),
                    None => (
                        "the agent requires a token",
                        "set the option token, or token_file to a file that contains it",
                    ),
                };
                self.peer().refusal(kind, cause, remedy)
            }
            (_, Ok(document)) if problem::is_problem(&document) => problem::read(&document, kind),
            (StatusCode::BAD_REQUEST, _)
                if body.starts_with(b"Client sent an HTTP request to an HTTPS") =>
            {
                let remedy = self.peer().toggle_tls;
                self.peer().refusal(kind, "the server requires TLS", remedy)
            }
            _ => self.peer().wrong_protocol(kind),
        }
    }

    /// Records which run of the agent answered.
    fn record_boot(&self, headers: &HeaderMap) {
        let Some(boot) = headers.get(BOOT_HEADER) else {
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

    /// Records the connection state that follows from the result of a call.
    fn record_result(&self, failure: Option<&Error>) {
        let is_network =
            |error: &&Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let next = match failure.filter(is_network) {
            Some(error) => ConnectionState::Suspended(error.clone()),
            None => ConnectionState::Connected,
        };
        self.state.send_if_modified(|now| {
            let changed = now.name() != next.name();
            if changed {
                *now = next;
            }
            changed
        });
    }
}
