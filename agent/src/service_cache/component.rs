//! The service cache as a component of the agent.

use std::fmt;
use std::sync::Arc;

use discover_core::Result;
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::runtime::component::Component;
use crate::runtime::metrics::MetricsWriter;
use crate::service_cache::ServiceCache;

/// Closes idle services of the cache.
pub struct ServiceCacheComponent {
    cache: Arc<ServiceCache>,
    tasks: Mutex<JoinSet<()>>,
}

impl ServiceCacheComponent {
    /// Wraps a cache.
    pub fn new(cache: Arc<ServiceCache>) -> ServiceCacheComponent {
        ServiceCacheComponent {
            cache,
            tasks: Mutex::default(),
        }
    }
}

impl Component for ServiceCacheComponent {
    fn name(&self) -> &'static str {
        "service_cache"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        async move {
            self.tasks
                .lock()
                .await
                .spawn(self.cache.clone().close_idle());
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        async move { self.tasks.lock().await.shutdown().await }.boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        let watched = self.cache.watched();
        out.gauge(
            "discoverd_services_watched",
            "Services that are watched for clients",
            watched.len(),
        )?;
        let snapshots: Vec<_> = watched
            .iter()
            .map(|(name, set)| (name.as_str(), set.snapshot()))
            .collect();
        out.gauge_family(
            "discoverd_service_instances",
            "Instances online, by watched service",
            ["service"],
            snapshots
                .iter()
                .map(|(name, snapshot)| ([*name], snapshot.online().len() as u64)),
        )?;
        out.gauge_family(
            "discoverd_service_current",
            "1 if the instances of a watched service are current, 0 if they are pending or stale",
            ["service"],
            snapshots.iter().map(|(name, snapshot)| {
                let is_current = snapshot.is_ready() && snapshot.fault().is_none();
                ([*name], u64::from(is_current))
            }),
        )
    }
}
