//! Counters, in the text form that Prometheus reads.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use discover_core::{Error, ErrorKind, Result};
use futures_util::future::pending;
use futures_util::stream::{Stream, StreamExt};
use tokio::sync::watch;

use crate::api::server::Phase;
use crate::runtime::lifecycle::Agent;

/// What a stream says next; it never fails.
type Told = std::result::Result<Bytes, Infallible>;

/// What the agent counts of its own.
#[derive(Debug)]
pub struct Gauges {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    streams: Arc<AtomicUsize>,
    most_streams: usize,
    phase: watch::Receiver<Phase>,
    /// Connections that are open, and those that were refused.
    pub connections: AtomicUsize,
    /// Connections that were refused, there being too many.
    pub refused: AtomicU64,
}

impl Gauges {
    /// At most so many streams at a time.
    pub fn new(most_streams: usize, phase: watch::Receiver<Phase>) -> Gauges {
        let (answers, streams, connections, refused) = Default::default();
        Gauges {
            answers,
            streams,
            most_streams,
            phase,
            connections,
            refused,
        }
    }

    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        if let Some(count) = self.answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Counts a stream for as long as it lives; refuses it where there are too many. It ends when the agent
    /// hands over: who listens comes back to the next run.
    pub fn streaming<S: Stream<Item = Told> + Send>(
        &self,
        stream: S,
    ) -> Result<impl Stream<Item = Told> + Send + use<S>> {
        let open = Open(self.streams.clone());
        if open.0.fetch_add(1, Ordering::Relaxed) >= self.most_streams {
            let most = self.most_streams;
            let text = format!("{most} streams are open already; the limit is {most}");
            return Err(Error::new(ErrorKind::Resource, text));
        }
        let mut phase = self.phase.clone();
        let handed_over = async move {
            if phase.wait_for(|p| *p == Phase::HandingOver).await.is_err() {
                pending::<()>().await;
            }
        };
        // Moved into the closure, it goes with the stream.
        let counted = stream.map(move |item| {
            let _ = &open;
            item
        });
        Ok(counted.take_until(Box::pin(handed_over)))
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All of them.
pub async fn metrics(State(agent): State<Arc<Agent>>) -> Response<Body> {
    let mut response = Response::new(Body::from(text(&agent)));
    let form = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}

fn text(agent: &Agent) -> String {
    let mut out = String::new();
    let mut say = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let gauges = &agent.gauges;
    let (registrations, expired) = agent.registry.counts();
    let up = u64::from(agent.client.connection().error().is_none());
    let version = format!("{{version={:?}}}", env!("CARGO_PKG_VERSION"));
    say("discoverd_info", "gauge", "The version.", &[(version, 1)]);
    let seconds = agent.start.elapsed().as_secs();
    say(
        "discoverd_uptime_seconds",
        "gauge",
        "Since the start.",
        &one(seconds),
    );
    say(
        "discoverd_store_connected",
        "gauge",
        "Whether the store answers.",
        &one(up),
    );
    let count = registrations as u64;
    say(
        "discoverd_registrations",
        "gauge",
        "Instances registered here.",
        &one(count),
    );
    let states = agent.registry.states().into_iter();
    let by_state = |(state, count)| (format!("{{state=\"{state}\"}}"), count);
    let states: Vec<(String, u64)> = states.map(by_state).collect();
    let help = "Instances registered here, by how they are.";
    say("discoverd_instances", "gauge", help, &states);
    let checks = agent.checks.len() as u64;
    let help = "Instances that the agent looks at.";
    say("discoverd_checks", "gauge", help, &one(checks));
    let help = "Instances whose owners fell silent.";
    say("discoverd_expired_total", "counter", help, &one(expired));
    let watched = agent.sets.len() as u64;
    say(
        "discoverd_services_watched",
        "gauge",
        "Services watched.",
        &one(watched),
    );
    say(
        "discoverd_streams",
        "gauge",
        "Event streams open.",
        &one(gauges.streams() as u64),
    );
    let open = gauges.connections.load(Ordering::Relaxed) as u64;
    say(
        "discoverd_connections",
        "gauge",
        "Connections open.",
        &one(open),
    );
    let refused = gauges.refused.load(Ordering::Relaxed);
    let help = "Connections refused, there being too many.";
    say(
        "discoverd_connections_refused_total",
        "counter",
        help,
        &one(refused),
    );
    let answers = gauges.answers.iter().enumerate().skip(2);
    let by_class = |(class, count): (usize, &AtomicU64)| {
        (
            format!("{{class=\"{class}xx\"}}"),
            count.load(Ordering::Relaxed),
        )
    };
    let answers: Vec<(String, u64)> = answers.map(by_class).collect();
    say(
        "discoverd_answers_total",
        "counter",
        "Answers by status.",
        &answers,
    );
    for (name, value) in agent.client.metrics().fields() {
        let (name, kind) = match name {
            "lag_ms" => ("discoverd_store_lag_ms".to_owned(), "gauge"),
            name => (format!("discoverd_store_{name}_total"), "counter"),
        };
        say(&name, kind, "As the library counts it.", &one(value));
    }
    out
}
