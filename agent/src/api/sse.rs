//! The event stream of one service, as server-sent events: the full state, `current`, then each change.
//!
//! The changes of one moment end with a `status` event. Its id is the index from which a client resumes. A stream
//! keeps one previous snapshot instead of a queue of events. Streams that make the same step share one text.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discover_core::{Cursor, Event, ServiceSet, Snapshot};
use futures_util::stream::{self, Stream};
use tokio::time::{sleep, timeout};

use crate::api::v1::json;
use crate::service_cache::CachedService;

/// Interval of keepalive comments on a stream without changes, by which clients detect a dead connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Minimum time between two messages of one stream. Changes in the meantime are sent together.
const MIN_MESSAGE_INTERVAL: Duration = Duration::from_millis(20);
/// The comment that keeps a stream alive.
const KEEPALIVE: &[u8] = b": keepalive\n\n";

struct EventStream {
    cached: Arc<CachedService>,
    /// The set whose events are sent: all instances of the service, or the ones that match a filter.
    set: ServiceSet,
    is_filtered: bool,
    /// Wakes the stream when the set changes.
    wakeups: Cursor,
    /// The snapshot that was sent last. `None` before the first message of a stream that does not resume.
    sent: Option<Arc<Snapshot>>,
    is_first_message: bool,
    is_closed: bool,
}

/// Returns the events of a service, or of the instances that match a filter. The stream resumes from the snapshot
/// `sent` if there is one, and ends when the client of the store closes.
pub fn stream(
    cached: Arc<CachedService>,
    filtered: Option<ServiceSet>,
    sent: Option<Arc<Snapshot>>,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let is_filtered = filtered.is_some();
    let set = filtered.unwrap_or_else(|| cached.set.clone());
    let events = EventStream {
        wakeups: set.cursor(),
        cached,
        set,
        is_filtered,
        sent,
        is_first_message: true,
        is_closed: false,
    };
    stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok(bytes), events))
    })
}

impl EventStream {
    /// Returns the next message, or `None` after the last one.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_closed {
            return None;
        }
        if !self.is_first_message {
            sleep(MIN_MESSAGE_INTERVAL).await;
        }
        loop {
            match timeout(KEEPALIVE_INTERVAL, self.wakeups.changed()).await {
                Err(_) => return Some(Bytes::from_static(KEEPALIVE)),
                Ok(is_open) => self.is_closed = !is_open,
            }
            let now = self.set.snapshot();
            let sent = self.sent.as_ref().map(|sent| sent.version());
            // A message may already contain the change that wakes the stream.
            let is_sent = !self.is_first_message && sent == Some(now.version());
            // The first message waits until the store has answered.
            let is_pending = self.is_first_message && !now.is_ready() && now.fault().is_none();
            if is_sent || is_pending {
                match self.is_closed {
                    true => return None,
                    false => continue,
                }
            }
            self.is_first_message = false;
            let (text, now) = match self.is_filtered {
                true => self.encode(),
                false => self.cached.transition(sent, now, || self.encode()),
            };
            self.sent = Some(now);
            return Some(text);
        }
    }

    /// Encodes the step from the snapshot that was sent to the current one, and returns the latter.
    fn encode(&self) -> (Bytes, Arc<Snapshot>) {
        let (mut text, mut cursor) = match &self.sent {
            Some(sent) => (String::new(), self.set.cursor_from(sent.clone())),
            None => ("event: reset\ndata: {}\n\n".to_owned(), self.set.cursor()),
        };
        let events = cursor.drain();
        events
            .iter()
            .for_each(|event| write_event(&mut text, &self.cached, event));
        let now = cursor.seen();
        let index = self.cached.index(now);
        let status = json::status(now, &index);
        // Writing to a string does not fail.
        let _ = write!(text, "id: {index}\nevent: status\ndata: {status}\n\n");
        (Bytes::from(text), now.clone())
    }
}

fn write_event(text: &mut String, cached: &CachedService, event: &Event) {
    let data = match (event, event.error()) {
        (Event::Leader(None), _) => "null".into(),
        (_, Some(error)) => Arc::from(json::problem(error).to_string()),
        _ => event
            .instance()
            .map_or("{}".into(), |i| json::instance(cached, i)),
    };
    let _ = write!(text, "event: {}\ndata: {data}\n\n", event.kind());
}
