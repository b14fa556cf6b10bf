//! How a client's connection fares: what its backend says, and, by our own clock, for how long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::model::ConnectionState;

/// See the module.
pub(crate) struct ConnectionMonitor {
    /// None once the client is closed.
    state: Arc<watch::Sender<Option<ConnectionState>>>,
    task: AbortHandle,
}

impl ConnectionMonitor {
    /// Follows what the backend says. A connection that is away for `lost_after` is lost. Must be called
    /// on a tokio runtime.
    pub(crate) fn follow(
        changes: BoxStream<'static, ConnectionState>,
        lost_after: Duration,
    ) -> ConnectionMonitor {
        let state = Arc::new(watch::Sender::new(Some(ConnectionState::Connected)));
        let task = tokio::spawn(follow(changes, lost_after, state.clone())).abort_handle();
        ConnectionMonitor { state, task }
    }

    pub(crate) fn now(&self) -> ConnectionState {
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

impl Drop for ConnectionMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    mut changes: BoxStream<'static, ConnectionState>,
    lost_after: Duration,
    state: Arc<watch::Sender<Option<ConnectionState>>>,
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
            // One that is lost stays so until it is back.
            let news = name.is_some_and(|name| {
                name != next.name() && !(name == "lost" && next.name() == "suspended")
            });
            if news {
                *now = Some(next);
            }
            news
        });
    }
}
