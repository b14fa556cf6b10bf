//! Metrics of the components, in the text formats of Prometheus and OpenMetrics.

use std::fmt;
use std::sync::{PoisonError, RwLock, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
    prometheus_text, text as openmetrics_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::runtime::component::Component;

/// Writes metrics of one component. Names are complete; counters get the suffix `_total`.
pub struct MetricsWriter<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl MetricsWriter<'_, '_> {
    /// Writes a gauge.
    ///
    /// # Errors
    ///
    /// Fails if the text cannot be written, as all methods.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        encoder.encode_gauge(&value)
    }

    /// Writes a gauge with one series for each value of one label.
    ///
    /// # Errors
    ///
    /// See [`MetricsWriter::gauge`].
    pub fn gauge_family<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'v str; N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (values, value) in series {
            let set: Vec<(&str, &str)> = labels.into_iter().zip(values).collect();
            encoder
                .encode_family(&set.as_slice())?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes a counter. `name` has no suffix `_total`.
    ///
    /// # Errors
    ///
    /// See [`MetricsWriter::gauge`].
    pub fn counter<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        value: N,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// Writes a metric of any type.
    ///
    /// # Errors
    ///
    /// See [`MetricsWriter::gauge`].
    pub fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let kind = metric.metric_type();
        metric.encode(self.0.encode_descriptor(name, help, None, kind)?)
    }
}

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
