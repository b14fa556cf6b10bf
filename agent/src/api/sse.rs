//! A set as server-sent events: what there is, `current`, then each change.
//!
//! Events become true together: those of one moment end with a `status`, which has the id that a
//! listener comes back with. A listener holds one old state, not a queue; and where many go the same
//! step, what they are told is written once.

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

/// How often a stream says at least something, so that a dead one is noticed.
const SIGN: Duration = Duration::from_secs(2);
/// The least time between two messages of one stream: what changes meanwhile is told at once.
const PACE: Duration = Duration::from_millis(20);

struct Told {
    kept: Arc<CachedService>,
    /// The set that is told of: all of it, or those that match a filter.
    set: ServiceSet,
    is_whole: bool,
    /// Wakes us.
    news: Cursor,
    /// The state that was told; none before the first.
    seen: Option<Arc<Snapshot>>,
    fresh: bool,
    over: bool,
}

/// The events of a set that is kept, or of a part of it, from the state that the listener was told, if
/// that is known.
pub fn stream(
    kept: Arc<CachedService>,
    part: Option<ServiceSet>,
    seen: Option<Arc<Snapshot>>,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let is_whole = part.is_none();
    let set = part.unwrap_or_else(|| kept.set.clone());
    let told = Told {
        news: set.cursor(),
        kept,
        set,
        is_whole,
        seen,
        fresh: true,
        over: false,
    };
    stream::unfold(told, |mut told| async move {
        let bytes = told.next().await?;
        Some((Ok(bytes), told))
    })
}

impl Told {
    /// None once the agent closes and all was told.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.fresh {
            sleep(PACE).await;
        }
        loop {
            match timeout(SIGN, self.news.changed()).await {
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
                Ok(open) => self.over = !open,
            }
            let now = self.set.snapshot();
            let before = self.seen.as_ref().map(|seen| seen.version());
            if !self.fresh && before == Some(now.version()) {
                // It was told already, a moment before we were woken for it.
                match self.over {
                    true => return None,
                    false => continue,
                }
            }
            if self.fresh && !now.is_ready() && now.fault().is_none() {
                // Nothing was heard yet, so there is nothing to tell.
                match self.over {
                    true => return None,
                    false => continue,
                }
            }
            self.fresh = false;
            let (text, now) = match self.is_whole {
                true => self.kept.transition(before, now, || self.write()),
                false => self.write(),
            };
            self.seen = Some(now);
            return Some(text);
        }
    }

    /// What leads from the state that was told to the state as it is, and that state.
    fn write(&self) -> (Bytes, Arc<Snapshot>) {
        let (mut text, mut cursor) = match &self.seen {
            Some(seen) => (String::new(), self.set.cursor_from(seen.clone())),
            None => ("event: reset\ndata: {}\n\n".to_owned(), self.set.cursor()),
        };
        let events = cursor.drain();
        events
            .iter()
            .for_each(|event| write_event(&mut text, event));
        let now = cursor.seen();
        let index = self.kept.index(now);
        let status = json::status(now, &index);
        // Writing to a string does not fail.
        let _ = write!(text, "id: {index}\nevent: status\ndata: {status}\n\n");
        (Bytes::from(text), now.clone())
    }
}

fn write_event(text: &mut String, event: &Event) {
    let data = match (event, event.error()) {
        (Event::Leader(None), _) => "null".into(),
        (_, Some(error)) => Arc::from(json::problem(error).to_string()),
        _ => event.instance().map_or("{}".into(), |i| json::instance(i)),
    };
    let _ = write!(text, "event: {}\ndata: {data}\n\n", event.kind());
}
