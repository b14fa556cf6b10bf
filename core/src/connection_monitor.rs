//! Connection monitor of a client: combines the states that the backend reports with a timer that declares
//! the connection lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::model::ConnectionState;
use crate::url::Url;

/// Tracks whether the connection to the store is connected, suspended or lost.
pub(crate) struct ConnectionMonitor {
    /// None once the client is closed.
    state: Arc<watch::Sender<Option<ConnectionState>>>,
    task: AbortHandle,
}

impl ConnectionMonitor {
    /// Starts to track the states in `changes`. A connection that is suspended for `lost_after` becomes lost.
    /// Must be called on a tokio runtime.
    pub(crate) fn start(
        changes: BoxStream<'static, ConnectionState>,
        lost_after: Duration,
        store: StoreName,
    ) -> ConnectionMonitor {
        let state = Arc::new(watch::Sender::new(Some(ConnectionState::Connected)));
        let task = tokio::spawn(run(changes, lost_after, state.clone(), store)).abort_handle();
        ConnectionMonitor { state, task }
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.state
            .borrow()
            .clone()
            .unwrap_or(ConnectionState::Connected)
    }

    pub(crate) fn changes(&self) -> BoxStream<'static, ConnectionState> {
        let mut state = self.state.subscribe();
        state.mark_changed();
        stream::unfold(state, |mut state| async move {
            state.changed().await.ok()?;
            let now = state.borrow_and_update().clone()?;
            Some((now, state))
        })
        .boxed()
    }

    pub(crate) fn close(&self) {
        self.task.abort();
        self.state.send_replace(None);
    }
}

/// Scheme and hosts of a client's URL, for log records.
#[derive(Clone)]
pub(crate) struct StoreName {
    backend: String,
    /// None if the URL names no host.
    endpoint: Option<String>,
}

impl StoreName {
    pub(crate) fn of(url: &Url) -> StoreName {
        let hosts: Vec<&str> = url.hosts().collect();
        StoreName {
            backend: url.scheme().to_owned(),
            endpoint: Some(hosts.join(",")).filter(|hosts| !hosts.is_empty()),
        }
    }

    pub(crate) fn log_connected(&self) {
        tracing::info!(
            endpoint = self.endpoint,
            backend = self.backend,
            "connected"
        );
    }

    fn log(&self, state: &ConnectionState) {
        let (backend, endpoint) = (&self.backend, self.endpoint.as_deref());
        match state {
            ConnectionState::Connected => {
                tracing::info!(endpoint, backend, "connection restored");
            }
            ConnectionState::Suspended(error) => {
                let error = error.report();
                tracing::info!(
                    endpoint,
                    backend,
                    error,
                    "connection suspended, reconnecting"
                );
            }
            ConnectionState::Lost(error) => {
                tracing::warn!(endpoint, backend, error = %error.report(), "connection lost, reconnecting");
            }
        }
    }
}

impl Drop for ConnectionMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut changes: BoxStream<'static, ConnectionState>,
    lost_after: Duration,
    state: Arc<watch::Sender<Option<ConnectionState>>>,
    store: StoreName,
) {
    let mut lost_at: Option<Instant> = None;
    loop {
        let lost = async {
            match lost_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            next = changes.next() => match next {
                Some(next) => next,
                None => return,
            },
            () = lost => match &*state.borrow() {
                Some(ConnectionState::Suspended(error)) => ConnectionState::Lost(error.clone()),
                _ => ConnectionState::Connected,
            },
        };
        lost_at = match &next {
            ConnectionState::Connected | ConnectionState::Lost(_) => None,
            ConnectionState::Suspended(_) => lost_at.or_else(|| Some(Instant::now() + lost_after)),
        };
        state.send_if_modified(|now| {
            let name = now.as_ref().map(ConnectionState::name);
            // A lost connection stays lost until it is restored.
            let news = name.is_some_and(|name| {
                name != next.name() && !(name == "lost" && next.name() == "suspended")
            });
            if news {
                store.log(&next);
                *now = Some(next);
            }
            news
        });
    }
}
