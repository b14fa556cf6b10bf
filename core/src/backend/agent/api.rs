//! The agent's HTTP API, for programs that need requests beyond those of the library.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::backend::agent::config::AgentConfig;
use crate::backend::agent::connection::{AgentConnection, CallLimits};
use crate::error::{Error, ErrorKind, Result};

/// Maximum size of a response, in bytes. The registrations of an agent fit.
const MAX_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// Client of an agent's HTTP API, with the same connections, credentials and errors as a
/// [`Client`](crate::Client) of the same URL. The agent's `/v1/openapi.json` describes the API.
pub struct AgentApi(Arc<AgentConnection>);

impl AgentApi {
    pub(crate) fn new(config: AgentConfig) -> Result<AgentApi> {
        Ok(AgentApi(AgentConnection::new(config)?))
    }

    /// Sends a request with an optional JSON body and returns the JSON of the response; null if it has none.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] if `method` is not an HTTP method, with
    /// [`ErrorKind::Timeout`] after `limit`, and with the agent's error if it refuses the request.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| {
            let text = format!("{method:?} is not an HTTP method; write for example GET or PUT");
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })?;
        let limits = CallLimits {
            time: limit,
            bytes: MAX_RESPONSE_BYTES,
        };
        self.0.call_within(method, path, body, limits).await
    }
}
