//! The state that all handlers of the API share.

use std::net::IpAddr;
use std::sync::Arc;

use discover_core::{Client, ErrorKind, Result, ServiceName};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::metrics::HttpMetrics;
use crate::api::stream_limit::StreamLimiter;
use crate::api::unread::UnreadResponses;
use crate::health::Checks;
use crate::health::check_policy::CheckPolicy;
use crate::net::quota::Quota;
use crate::registry::Registry;
use crate::runtime::exposition::Exposition;
use crate::runtime::phase::Phase;
use crate::service_cache::ServiceCache;
use crate::service_cache::catalog_cache::CatalogCache;
use crate::store::StoreFailure;

/// The state that all handlers of the API share.
pub struct ApiState {
    /// The identity of this process.
    pub identity: AgentIdentity,
    /// The client of the store.
    pub client: Client,
    /// The registrations of this agent.
    pub registry: Arc<Registry>,
    /// The services that this agent watches.
    pub service_cache: Arc<ServiceCache>,
    /// The cached names of all services in the store.
    pub catalog: CatalogCache,
    /// The health checks that run.
    pub checks: Arc<Checks>,
    /// The health checks that clients may define.
    pub check_policy: CheckPolicy,
    /// The event streams that are open.
    pub streams: StreamLimiter,
    /// The request bodies that are being received.
    pub bodies: Arc<Quota>,
    /// The responses that clients have not read yet.
    pub unread: Arc<UnreadResponses>,
    /// The metrics of the API.
    pub http_metrics: HttpMetrics,
    /// The metrics of all components.
    pub exposition: Arc<Exposition>,
    /// The phase of the agent.
    pub phase: watch::Receiver<Phase>,
}

/// The identity of this process, which differs from that of other agents and of the previous process of this agent.
pub struct AgentIdentity {
    /// A random text, new for each process.
    pub boot: String,
    /// The host of registrations without a host.
    pub address: IpAddr,
    /// The time at which the process started.
    pub start: Instant,
}

impl ApiState {
    /// Returns the names of all services in the store. If the store cannot list them, returns the services with
    /// instances that are registered with this agent.
    ///
    /// # Errors
    ///
    /// Fails with the error of the store.
    pub async fn services(&self) -> Result<Vec<ServiceName>> {
        match self.client.catalog().await {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(self.registry.services()),
            other => other.map_err(StoreFailure::wrap),
        }
    }
}
