//! Events of a set, and the membership changes between two views.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::error::Error;
use crate::model::{Instance, View};

/// Change of a set.
#[derive(Clone, Debug)]
pub enum Event {
    /// An instance came online.
    Up(Arc<Instance>),
    /// An instance changed its attributes or tags.
    Update(Arc<Instance>),
    /// An instance went offline; the value is its last known state.
    Down(Arc<Instance>),
    /// The leader changed: another instance is the oldest, or the set is empty.
    Leader(Option<Arc<Instance>>),
    /// The full state has been delivered; changes follow. Emitted once per subscriber.
    Current,
    /// The store is unavailable. The set keeps its last contents.
    Stale(Error),
    /// The store is available again, and all changes since have been delivered.
    Fresh,
}

impl Event {
    /// Returns the name of the event kind, the same in every language.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Up(_) => "up",
            Event::Update(_) => "update",
            Event::Down(_) => "down",
            Event::Leader(_) => "leader",
            Event::Current => "current",
            Event::Stale(_) => "stale",
            Event::Fresh => "fresh",
        }
    }

    /// Returns the instance of the event, if the event concerns one.
    pub fn instance(&self) -> Option<&Arc<Instance>> {
        match self {
            Event::Up(i) | Event::Update(i) | Event::Down(i) | Event::Leader(Some(i)) => Some(i),
            Event::Leader(None) | Event::Current | Event::Stale(_) | Event::Fresh => None,
        }
    }

    /// Returns the cause of a `stale` event.
    pub fn error(&self) -> Option<&Error> {
        if let Event::Stale(error) = self {
            Some(error)
        } else {
            None
        }
    }
}

/// Returns the `down` events, then the `up` and `update` events.
pub(super) fn membership_changes(old: &View, new: &View) -> Vec<Event> {
    let mut events = Vec::new();
    let mut arrivals = Vec::new();
    for item in old.instances.diff(&new.instances) {
        match item {
            DiffItem::Remove(_, instance) => events.push(Event::Down(instance.clone())),
            DiffItem::Add(_, instance) => arrivals.push(Event::Up(instance.clone())),
            DiffItem::Update { new, .. } => arrivals.push(Event::Update(new.1.clone())),
        }
    }
    events.append(&mut arrivals);
    events
}
