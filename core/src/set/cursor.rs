//! Position of one subscriber in the changes of a set.

use std::sync::Arc;

use crate::set::diff::diff;
use crate::set::event::Event;
use crate::set::{ServiceSet, Snapshot};

/// Position of one subscriber in the changes of a set.
///
/// A cursor holds one old snapshot and no queue. A slow subscriber therefore delays no other subscriber and
/// always receives the latest state; intermediate states may be skipped.
pub struct Cursor {
    set: ServiceSet,
    seen: Arc<Snapshot>,
    /// Version that `changed` reported last. None at first, because a new subscriber has not seen the
    /// existing state.
    reported: Option<u64>,
}

impl Cursor {
    pub(crate) fn new(set: ServiceSet) -> Cursor {
        Cursor::from(set, Arc::new(Snapshot::empty()))
    }

    pub(crate) fn from(set: ServiceSet, seen: Arc<Snapshot>) -> Cursor {
        let reported = None;
        Cursor {
            set,
            seen,
            reported,
        }
    }

    /// Returns the events since the last call, without waiting; may be empty.
    pub fn drain(&mut self) -> Vec<Event> {
        let now = self.set.snapshot();
        let events = diff(&self.seen, &now);
        self.seen = now;
        events
    }

    /// Returns the snapshot that results from the events drained so far.
    pub fn seen(&self) -> &Arc<Snapshot> {
        &self.seen
    }

    /// Waits until `drain` may return events. Returns false once the client is closed.
    pub async fn changed(&mut self) -> bool {
        self.reported = self.set.next_version(self.reported).await;
        self.reported.is_some()
    }
}
