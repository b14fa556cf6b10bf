//! The agent's API, for programs that ask more of it than the library has verbs for.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::backend::agent::config::Config;
use crate::backend::agent::http_client::HttpClient;
use crate::error::{Error, ErrorKind, Result};

/// An agent's HTTP API, over the same connection, with the same secrets, and with the same errors as a
/// [`Client`](crate::Client) of its URL. What can be asked is in the agent's `/v1/openapi.json`.
pub struct AgentApi(Arc<HttpClient>);

impl AgentApi {
    pub(crate) fn new(config: Config) -> AgentApi {
        AgentApi(HttpClient::new(config))
    }

    /// Asks with a method, a path and JSON, if there is any, and gives the answer's JSON; null where it has
    /// none.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Value> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| {
            let text = format!("{method:?} is no method of HTTP; write GET or PUT, for instance");
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })?;
        self.0.call_within(method, path, body, within).await
    }
}
