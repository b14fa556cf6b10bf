//! The input of a hook's command: the changes of a service, and its instances after them. Pure.

use std::sync::Arc;

use discover_core::{Event, Snapshot};
use serde_json::{Value, json};

use crate::api::v1::json;

/// Maximum length of the address list in the environment, in bytes, because the kernel limits the environment.
const MAX_ADDRESSES_BYTES: usize = 32 * 1024;

/// The changes of one service since the last run of its command.
pub struct Change {
    /// `up`, `down` or `update`, or `change` for events of several kinds.
    pub kind: &'static str,
    events: Vec<Event>,
    now: Arc<Snapshot>,
    service: String,
}

impl Change {
    /// Combines events into one change. Returns `None` if no instance came online, was updated or went offline: a new
    /// leader or a stale set is not a change.
    pub fn new(service: &str, events: Vec<Event>, now: Arc<Snapshot>) -> Option<Change> {
        let is_change =
            |event: &Event| matches!(event, Event::Up(_) | Event::Update(_) | Event::Down(_));
        let events: Vec<Event> = events.into_iter().filter(is_change).collect();
        let first = events.first()?.kind();
        let is_uniform = events.iter().all(|event| event.kind() == first);
        Some(Change {
            kind: if is_uniform { first } else { "change" },
            events,
            now,
            service: service.to_owned(),
        })
    }

    /// Returns the environment variables for the command.
    pub fn env(&self) -> Vec<(String, String)> {
        let online = self.now.online();
        let addresses: Vec<&str> = online.iter().map(|i| i.address()).collect();
        let joined = addresses.join(" ");
        let mut env = vec![
            ("DISCOVER_SERVICE", self.service.clone()),
            ("DISCOVER_EVENT", self.kind.to_owned()),
            ("DISCOVER_COUNT", addresses.len().to_string()),
        ];
        // Addresses from the store may contain a zero byte, which no environment variable can.
        if joined.len() <= MAX_ADDRESSES_BYTES && !joined.contains('\0') {
            env.push(("DISCOVER_ADDRESSES", joined));
        }
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Returns the standard input for the command: the events, and the online instances after them.
    pub fn input(&self) -> Vec<u8> {
        let instances: Vec<Value> = self.now.online().iter().map(|i| json::value(i)).collect();
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|event| {
                let instance = event.instance().map(|i| json::value(i));
                json!({ "event": event.kind(), "instance": instance })
            })
            .collect();
        let text = json!({
            "service": self.service,
            "event": self.kind,
            "events": events,
            "instances": instances,
        });
        format!("{text}\n").into_bytes()
    }
}
