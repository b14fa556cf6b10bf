//! What one listener has been reported, and what it has not.

use std::sync::Arc;

use crate::set::event::{Event, diff};
use crate::set::{ServiceSet, Snapshot};

/// One listener's place. It holds one old snapshot, not a queue: however slow it is, it costs that
/// much, delays nobody, and always gets the last state. Intermediate states may be skipped.
pub struct Cursor {
    set: ServiceSet,
    seen: Arc<Snapshot>,
    /// The version of which `changed` reported last. None at first: whoever joins late has not seen what is
    /// there already.
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

    /// The events since the last call; may be empty. Never waits.
    pub fn drain(&mut self) -> Vec<Event> {
        let now = self.set.snapshot();
        let events = diff(&self.seen, &now);
        self.seen = now;
        events
    }

    /// The snapshot to which the events drained so far lead.
    pub fn seen(&self) -> &Arc<Snapshot> {
        &self.seen
    }

    /// Waits until `drain` may have something. False once the client is closed.
    pub async fn changed(&mut self) -> bool {
        self.reported = self.set.next_version(self.reported).await;
        self.reported.is_some()
    }
}
