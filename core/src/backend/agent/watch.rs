//! Stream of views of one service, from the agent's events, with reconnects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::backend::agent::connection::AgentConnection;
use crate::backend::agent::reducer::EventReducer;
use crate::backend::agent::sse::Parser;
use crate::backoff::Backoff;
use crate::duration::HumanDuration;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ServiceName, View};

/// The agent sends an event or a comment every 2 s. A stream that is silent for this long is closed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(6);

struct ViewStream {
    connection: Arc<AgentConnection>,
    service: ServiceName,
    /// The view before the open event stream.
    last: View,
    events: Option<EventStream>,
    pending: VecDeque<Result<View>>,
    backoff: Backoff,
    failed: bool,
}

struct EventStream {
    body: Incoming,
    parser: Parser,
    reducer: EventReducer,
}

/// Returns the views of a service. The stream never ends: a lost connection is an error item, and the stream
/// reconnects with backoff.
pub(super) fn watch(
    connection: Arc<AgentConnection>,
    service: ServiceName,
    last: View,
) -> BoxStream<'static, Result<View>> {
    let stream = ViewStream {
        connection,
        service,
        last,
        events: None,
        pending: VecDeque::new(),
        // An agent usually runs on the same host and restarts quickly.
        backoff: Backoff::new(Duration::from_millis(50), Duration::from_millis(800)),
        failed: false,
    };
    stream::unfold(stream, |mut stream| async move {
        Some((stream.next().await, stream))
    })
    .boxed()
}

impl ViewStream {
    async fn next(&mut self) -> Result<View> {
        loop {
            if let Some(view) = self.pending.pop_front() {
                return view;
            }
            if self.failed {
                sleep(self.backoff.next_wait()).await;
            }
            match self.advance().await {
                Ok(()) => {
                    if !self.pending.is_empty() {
                        self.backoff.reset();
                    }
                    self.failed = false;
                }
                Err(error) => {
                    if let Some(events) = self.events.take() {
                        self.last = events.reducer.into_last();
                    }
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }

    /// Opens the event stream, or reads the next part of it.
    async fn advance(&mut self) -> Result<()> {
        let Some(events) = &mut self.events else {
            let path = format!("/v1/services/{}/events", self.service);
            let body = self.connection.stream(&path).await?;
            self.events = Some(EventStream {
                body,
                parser: Parser::default(),
                reducer: EventReducer::new(
                    self.service.clone(),
                    self.last.clone(),
                    self.connection.max_instances,
                ),
            });
            return Ok(());
        };
        let peer = self.connection.peer();
        let silent = |_| {
            let silence = HumanDuration(SILENCE_TIMEOUT);
            let text = format!("{peer}: the event stream was silent for {silence}");
            Error::new(ErrorKind::Unavailable, text)
        };
        let frame = timeout(SILENCE_TIMEOUT, events.body.frame())
            .await
            .map_err(silent)?;
        let ended = || {
            Error::new(
                ErrorKind::Unavailable,
                format!("{peer}: the agent ended the event stream"),
            )
        };
        let frame = frame
            .ok_or_else(ended)?
            .map_err(|e| self.connection.stream_error(&e))?;
        if let Some(bytes) = frame.data_ref() {
            for message in events.parser.push(bytes)? {
                self.pending.extend(events.reducer.apply(&message)?);
            }
        }
        Ok(())
    }
}
