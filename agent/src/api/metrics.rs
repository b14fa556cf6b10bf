//! The metrics of the HTTP API.

use std::fmt;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::net::limits::ConnectionMetrics;
use crate::runtime::metrics::MetricsWriter;

/// Upper bounds of the latency buckets, in seconds. Long polls take up to ten minutes.
const LATENCY_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0,
];

/// Latency histograms by method and route.
type LatencyFamily = Family<[(&'static str, String); 2], Histogram, fn() -> Histogram>;

/// Counters and latencies of the HTTP API.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// The connection counters of all listeners.
    pub connections: ConnectionMetrics,
    responses: Family<[(&'static str, &'static str); 1], Counter>,
    latency: LatencyFamily,
}

impl Default for HttpMetrics {
    fn default() -> HttpMetrics {
        HttpMetrics {
            connections: ConnectionMetrics::default(),
            responses: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
        }
    }
}

impl HttpMetrics {
    /// Counts a response. `route` is the pattern of the path, so that the number of series is bounded. The latency
    /// of an event stream is the time until its headers are sent.
    pub fn record(&self, method: &str, route: &str, status: u16, latency: Duration) {
        let class = match status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => return,
        };
        self.responses.get_or_create(&[("class", class)]).inc();
        let labels = [("method", method.to_owned()), ("route", route.to_owned())];
        self.latency
            .get_or_create(&labels)
            .observe(latency.as_secs_f64());
    }

    /// Writes the metrics.
    ///
    /// # Errors
    ///
    /// Fails if the writer fails.
    pub fn write(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        for class in ["2xx", "3xx", "4xx", "5xx"] {
            // A series that exists from the beginning makes rates correct.
            drop(self.responses.get_or_create(&[("class", class)]));
        }
        out.metric(
            "discoverd_connections",
            "Connections that are open",
            &self.connections.open,
        )?;
        out.metric(
            "discoverd_connections_refused",
            "Connections that were refused because a limit was reached",
            &self.connections.refused,
        )?;
        out.metric(
            "discoverd_answers",
            "HTTP responses, by class of their status",
            &self.responses,
        )?;
        out.metric(
            "discoverd_http_request_duration_seconds",
            "Time from the head of a request to the head of its response, in seconds",
            &self.latency,
        )
    }
}
