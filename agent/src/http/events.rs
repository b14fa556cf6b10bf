//! A set as server-sent events: what there is, `current`, then each change.
//!
//! Events become true together: those of one moment end with a `status`, which has the id that a
//! listener comes back with. A listener holds one old state, not a queue.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discover_core::{Cursor, Event};
use futures_util::stream::{self, Stream};
use tokio::time::{sleep, timeout};

use crate::http::json;
use crate::sets::Kept;

/// How often a stream says at least something, so that a dead one is noticed.
const SIGN: Duration = Duration::from_secs(2);
/// The least time between two messages of one stream: what changes meanwhile is told at once.
const PACE: Duration = Duration::from_millis(20);

struct Told {
    cursor: Cursor,
    kept: Arc<Kept>,
    /// What is said first, if anything.
    greeting: &'static str,
    fresh: bool,
    over: bool,
}

/// The events of a cursor over a set that is kept; `resumed` when the cursor begins where the listener
/// was told up to.
pub fn stream(
    cursor: Cursor,
    kept: Arc<Kept>,
    resumed: bool,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let told = Told {
        cursor,
        kept,
        greeting: if resumed {
            ""
        } else {
            "event: reset\ndata: {}\n\n"
        },
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
            match timeout(SIGN, self.cursor.changed()).await {
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
                Ok(open) => self.over = !open,
            }
            let events = self.cursor.drain();
            if self.over && events.is_empty() {
                return None;
            }
            let now = self.cursor.seen();
            if self.fresh && !now.is_ready() && now.fault().is_none() {
                // Nothing was heard yet, so there is nothing to tell.
                continue;
            }
            let mut text = std::mem::take(&mut self.greeting).to_owned();
            self.fresh = false;
            events
                .iter()
                .for_each(|event| write_event(&mut text, event));
            let index = self.kept.index(now);
            let status = json::status(now, &index);
            // Writing to a string does not fail.
            let _ = write!(text, "id: {index}\nevent: status\ndata: {status}\n\n");
            return Some(Bytes::from(text));
        }
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
