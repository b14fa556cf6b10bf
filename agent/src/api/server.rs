//! The API server as a component of the agent: accepts connections on all listeners.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use discover_core::Result;
use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::api::connection;
use crate::api::state::ApiState;
use crate::net::credentials::Credentials;
use crate::net::limits::{ConnectionLimiter, ConnectionLimits};
use crate::net::listener::Listener;
use crate::runtime::component::{Component, HandOver};
use crate::runtime::metrics::MetricsWriter;
use crate::runtime::phase::{Phase, until_handing_over, until_running};

/// Time that in-flight requests get to finish when the agent hands over or stops.
const GRACE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after `accept` fails, for example because the process has no descriptor left.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The component that serves the API.
///
/// Starts first and stops last: clients that arrive early wait in the backlog of the listeners, and clients still
/// receive the events of the registrations that the agent withdraws when it stops.
pub struct ApiServer {
    state: Arc<ApiState>,
    credentials: Arc<Credentials>,
    limits: ConnectionLimits,
    /// Set when the server stops. In-flight requests then finish.
    stopping: watch::Sender<bool>,
    tasks: Mutex<ServerTasks>,
}

#[derive(Default)]
struct ServerTasks {
    /// Listeners that do not accept connections: before the start, and after a drain.
    listeners: Vec<(Listener, Router)>,
    accepting: JoinSet<(Listener, Router)>,
}

impl ApiServer {
    /// Creates a server that does not accept connections yet.
    pub fn new(
        state: Arc<ApiState>,
        listeners: Vec<(Listener, Router)>,
        credentials: Arc<Credentials>,
        limits: ConnectionLimits,
    ) -> ApiServer {
        ApiServer {
            state,
            credentials,
            limits,
            stopping: watch::Sender::new(false),
            tasks: Mutex::new(ServerTasks {
                listeners,
                accepting: JoinSet::new(),
            }),
        }
    }

    /// Waits until no listener accepts connections and in-flight requests have finished.
    async fn join(&self) {
        let mut accepting = std::mem::take(&mut self.tasks().accepting);
        while let Some(ended) = accepting.join_next().await {
            self.tasks().listeners.extend(ended);
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, ServerTasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component for ApiServer {
    fn name(&self) -> &'static str {
        "api"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        let mut tasks = self.tasks();
        for (listener, router) in std::mem::take(&mut tasks.listeners) {
            let metrics = self.state.http_metrics.connections.clone();
            let accept = AcceptLoop {
                listener,
                router,
                limiter: ConnectionLimiter::new(self.limits, metrics),
                credentials: self.credentials.clone(),
                phase: self.state.phase.clone(),
                stopping: self.stopping.subscribe(),
            };
            tasks.accepting.spawn(accept.run());
        }
        ready(Ok(())).boxed()
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        self.join().boxed()
    }

    fn hand_over(&self) -> BoxFuture<'_, HandOver> {
        let tasks = self.tasks();
        let sockets = tasks.listeners.iter().filter_map(|(listener, _)| {
            let socket = listener.named_socket();
            socket
                .inspect_err(|error| {
                    tracing::error!(endpoint = listener.url(), %error, "cannot hand over a listener");
                })
                .ok()
        });
        ready(HandOver {
            state: None,
            sockets: sockets.collect(),
        })
        .boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        async move {
            self.stopping.send_replace(true);
            self.join().await;
            for (listener, _) in &self.tasks().listeners {
                listener.remove_file();
            }
        }
        .boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        let identity = &self.state.identity;
        out.gauge_family(
            "discoverd_info",
            "Version of the agent; the value is always 1",
            ["version"],
            [([env!("CARGO_PKG_VERSION")], 1)],
        )?;
        out.gauge(
            "discoverd_uptime_seconds",
            "Time since the agent started or took over from the previous process, in seconds",
            identity.start.elapsed().as_secs(),
        )?;
        let help = "Event streams that are open";
        out.gauge("discoverd_streams", help, self.state.streams.open())?;
        self.state.http_metrics.write(out)
    }
}

/// Accepts the connections of one listener.
struct AcceptLoop {
    listener: Listener,
    router: Router,
    limiter: Arc<ConnectionLimiter>,
    credentials: Arc<Credentials>,
    phase: watch::Receiver<Phase>,
    stopping: watch::Receiver<bool>,
}

impl AcceptLoop {
    /// Returns the listener once the agent hands over or the server stops, and in-flight requests have finished.
    async fn run(self) -> (Listener, Router) {
        let (mut phase, mut stopping) = (self.phase.clone(), self.stopping.clone());
        let mut connections = JoinSet::new();
        let is_running = tokio::select! {
            is_running = until_running(&mut phase) => is_running,
            _ = stopping.wait_for(|stopping| *stopping) => false,
        };
        if is_running {
            let leaving = until_leaving(&mut phase, &mut stopping);
            tokio::select! {
                () = leaving => {}
                () = self.accept(&mut connections) => {}
            }
        }
        let finished = async { while connections.join_next().await.is_some() {} };
        // Connections that do not finish in time are dropped with the set.
        let _ = timeout(GRACE_TIMEOUT, finished).await;
        (self.listener, self.router)
    }

    async fn accept(&self, connections: &mut JoinSet<()>) {
        let uses_tls = self.listener.address().is_some();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(endpoint = self.listener.url(), %error, "cannot accept a connection, retrying");
                    sleep(ACCEPT_RETRY_INTERVAL).await;
                    continue;
                }
            };
            let Some(permit) = self.limiter.admit(peer) else {
                continue;
            };
            let acceptor = if uses_tls {
                self.credentials.acceptor()
            } else {
                None
            };
            let router = self.router.clone();
            let (mut phase, mut stopping) = (self.phase.clone(), self.stopping.clone());
            connections.spawn(async move {
                if let Some(stream) = connection::handshake(stream, acceptor).await {
                    let leaving = until_leaving(&mut phase, &mut stopping);
                    connection::serve(stream, router, peer, leaving).await;
                }
                drop(permit);
            });
        }
    }
}

/// Waits until the agent hands over or the server stops.
async fn until_leaving(phase: &mut watch::Receiver<Phase>, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = until_handing_over(phase) => {}
        // An error means that the server was dropped.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}
