//! The connection to the store: the client that all components share.

use std::fmt;

use discover_core::{Client, Error, Result};
use futures_util::future::{BoxFuture, FutureExt, ready};
use percent_encoding::NON_ALPHANUMERIC;
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout_at};

use crate::config::{EMBEDDED_STORE, StoreConfig};
use crate::runtime::component::Component;
use crate::runtime::metrics::MetricsWriter;

/// Limit on the time to close the client.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(2500);

/// Help texts of the counters of [`discover_core::Client::metrics`], by their names in the library.
const COUNTER_HELP: &[(&str, &str)] = &[
    ("reconnects", "Connections to the store after the first"),
    ("relists", "Complete reads of a service after the first"),
    (
        "resyncs",
        "Detected epoch changes of the store: it was restored or wiped",
    ),
    (
        "duplicates",
        "Changes that the store sent repeatedly, and that were dropped",
    ),
    (
        "mismatches",
        "Differences between a complete read and the changes reported before",
    ),
    ("invalid", "Records in the store that could not be decoded"),
    (
        "restored",
        "Registrations that were restored after they were lost",
    ),
];

/// Marks an error as one of the store, as opposed to one of the agent.
#[derive(Debug)]
pub struct StoreFailure(Error);

impl StoreFailure {
    /// Marks an error of the store. Its kind stays.
    pub fn wrap(error: Error) -> Error {
        Error::caused_by(error.kind(), "store", StoreFailure(error))
    }

    /// Returns true if the error or one of its causes is marked.
    pub fn is_cause_of(error: &Error) -> bool {
        let first: &(dyn std::error::Error + 'static) = error;
        std::iter::successors(Some(first), |error| error.source())
            .any(|error| error.is::<StoreFailure>())
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StoreFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

/// Connects to the store. If the store is unreachable, the client keeps trying, and `/v1/status` reports
/// the error.
///
/// # Errors
///
/// Fails if the URL is invalid.
pub async fn connect(config: &StoreConfig) -> Result<Client> {
    Client::connect(&lazy_url(config)).await
}

/// Returns the URL with `lazy=true`, unless it has the option, and with the state file of an embedded store.
fn lazy_url(config: &StoreConfig) -> String {
    let url = &config.url;
    let is_lazy = |option: &str| option.split('=').next() == Some("lazy");
    match (url.split_once('?'), &config.state_file) {
        (None, Some(path)) if url == EMBEDDED_STORE => {
            let path = path.as_os_str().as_encoded_bytes();
            let path = percent_encoding::percent_encode(path, NON_ALPHANUMERIC);
            format!("{url}?state={path}")
        }
        (Some((_, options)), _) if options.split('&').any(is_lazy) => url.to_owned(),
        (Some(_), _) => format!("{url}&lazy=true"),
        (None, _) => format!("{url}?lazy=true"),
    }
}

/// The component that owns the connection to the store.
pub struct StoreConnection {
    client: Client,
}

impl StoreConnection {
    /// Takes over a connected client.
    pub fn new(client: Client) -> StoreConnection {
        StoreConnection { client }
    }
}

impl Component for StoreConnection {
    fn name(&self) -> &'static str {
        "store"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    /// Closes the client, which ends all service sets and thereby all event streams of the API.
    fn stop(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        async move {
            match timeout_at(deadline, self.client.close(CLOSE_TIMEOUT)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %error.report(), "cannot close the connection to the store")
                }
                Err(_) => tracing::warn!("closing the connection to the store timed out"),
            }
        }
        .boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        let is_connected = u64::from(self.client.connection().error().is_none());
        out.gauge(
            "discoverd_store_connected",
            "1 if the store responds, else 0",
            is_connected,
        )?;
        for (name, value) in self.client.metrics().fields() {
            if name == "lag_ms" {
                out.gauge(
                    "discoverd_store_lag_seconds",
                    "Upper bound of the age of the watched data, in seconds",
                    value as f64 / 1000.0,
                )?;
                continue;
            }
            let help = COUNTER_HELP.iter().find(|(counter, _)| *counter == name);
            let help = help.map_or("Counter of the library", |(_, help)| help);
            out.counter(&format!("discoverd_store_{name}"), help, value)?;
        }
        Ok(())
    }
}
