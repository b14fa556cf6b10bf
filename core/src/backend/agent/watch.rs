//! The stream of views of one service: the agent's events, over as many connections as it takes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::backend::agent::http_client::HttpClient;
use crate::backend::agent::reducer::EventReducer;
use crate::backend::agent::sse::Parser;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ServiceName, View};

/// The agent says something every two seconds; one that is silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(6);

struct Watch {
    link: Arc<HttpClient>,
    service: ServiceName,
    /// The view before the stream that is open.
    last: View,
    open: Option<Open>,
    waiting: VecDeque<Result<View>>,
    backoff: Backoff,
    failed: bool,
}

struct Open {
    body: Incoming,
    parser: Parser,
    fold: EventReducer,
}

/// Never ends: a lost agent is an error, and is looked for again.
pub(super) fn watch(
    link: Arc<HttpClient>,
    service: ServiceName,
    last: View,
) -> BoxStream<'static, Result<View>> {
    let watch = Watch {
        link,
        service,
        last,
        open: None,
        waiting: VecDeque::new(),
        // An agent is near, and is soon there again.
        backoff: Backoff::new(Duration::from_millis(50), Duration::from_millis(800)),
        failed: false,
    };
    stream::unfold(watch, |mut watch| async move {
        Some((watch.next().await, watch))
    })
    .boxed()
}

impl Watch {
    async fn next(&mut self) -> Result<View> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                return told;
            }
            if self.failed {
                sleep(self.backoff.next_wait()).await;
            }
            match self.more().await {
                Ok(()) => {
                    if !self.waiting.is_empty() {
                        self.backoff.reset();
                    }
                    self.failed = false;
                }
                Err(error) => {
                    if let Some(open) = self.open.take() {
                        self.last = open.fold.into_last();
                    }
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }

    /// Opens the stream, or takes what comes of it.
    async fn more(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else {
            let path = format!("/v1/services/{}/events", self.service);
            let body = self.link.stream(&path).await?.into_body();
            self.open = Some(Open {
                body,
                parser: Parser::default(),
                fold: EventReducer::new(self.service.clone(), self.last.clone()),
            });
            return Ok(());
        };
        let silent = |_| {
            let text = format!("the agent was silent for {SILENCE:?}");
            Error::new(ErrorKind::Unavailable, text)
        };
        let frame = timeout(SILENCE, open.body.frame()).await.map_err(silent)?;
        let ended = || self.link.away(std::io::Error::other("it ended the stream"));
        let frame = frame.ok_or_else(ended)?.map_err(|e| self.link.away(e))?;
        if let Some(bytes) = frame.data_ref() {
            for message in open.parser.push(bytes)? {
                self.waiting.extend(open.fold.take(&message)?);
            }
        }
        Ok(())
    }
}
