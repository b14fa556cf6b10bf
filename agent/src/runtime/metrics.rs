//! The writer with which a component reports its metrics.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

/// Writes metrics of one component. Names are complete; counters get the suffix `_total`.
pub struct MetricsWriter<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

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
