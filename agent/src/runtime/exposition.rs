//! The metrics of all components as one text, in the formats of Prometheus and OpenMetrics.

use std::fmt;
use std::sync::{PoisonError, RwLock, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text as openmetrics_text};
use prometheus_client::registry::Registry;

use crate::runtime::component::Component;
use crate::runtime::metrics::MetricsWriter;

/// The text format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns OpenMetrics if the value of the header `Accept` names it.
    pub fn negotiate(accept: &str) -> MetricsFormat {
        match accept.contains("application/openmetrics-text") {
            true => MetricsFormat::OpenMetrics,
            false => MetricsFormat::Prometheus,
        }
    }

    /// Returns the media type.
    pub fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Prometheus => "text/plain; version=0.0.4",
            MetricsFormat::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// Encodes the metrics of all components at each scrape.
#[derive(Debug, Default)]
pub struct Exposition(RwLock<Registry>);

impl Exposition {
    /// Adds components. They are not kept alive.
    pub fn add(&self, components: Vec<Weak<dyn Component>>) {
        let mut registry = self.0.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(ComponentCollector(components)));
    }

    /// Encodes the current values.
    ///
    /// # Errors
    ///
    /// Fails if a component fails to write its metrics.
    pub fn encode(&self, format: MetricsFormat) -> Result<String, fmt::Error> {
        let registry = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match format {
            MetricsFormat::Prometheus => prometheus_text::encode(&mut text, &registry)?,
            MetricsFormat::OpenMetrics => openmetrics_text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

struct ComponentCollector(Vec<Weak<dyn Component>>);

impl fmt::Debug for ComponentCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ComponentCollector")
    }
}

impl Collector for ComponentCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for component in self.0.iter().filter_map(Weak::upgrade) {
            component.write_metrics(&mut MetricsWriter(&mut encoder))?;
        }
        Ok(())
    }
}
