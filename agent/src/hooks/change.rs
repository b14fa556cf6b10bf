//! What a command is told of a change. Pure.

use std::sync::Arc;

use discover_core::{Event, Snapshot};
use serde_json::{Value, json};

use crate::api::v1::json;

/// The longest list of addresses that is put into the environment, in bytes; the kernel has a limit.
const LONGEST: usize = 32 * 1024;

/// What happened to one service since its command was run last.
pub struct Change {
    /// `up`, `down` or `update`; `change` where there were several.
    pub kind: &'static str,
    events: Vec<Event>,
    now: Arc<Snapshot>,
    service: String,
}

impl Change {
    /// None where nothing came, went, or became another: who leads, and how fresh the set is, is no
    /// change. Nobody there to begin with is none either.
    pub fn of(service: &str, events: Vec<Event>, now: Arc<Snapshot>) -> Option<Change> {
        let told =
            |event: &Event| matches!(event, Event::Up(_) | Event::Update(_) | Event::Down(_));
        let events: Vec<Event> = events.into_iter().filter(told).collect();
        let first = events.first()?.kind();
        let same = events.iter().all(|event| event.kind() == first);
        Some(Change {
            kind: if same { first } else { "change" },
            events,
            now,
            service: service.to_owned(),
        })
    }

    /// For the environment of the command.
    pub fn env(&self) -> Vec<(String, String)> {
        let online = self.now.online();
        let addresses: Vec<&str> = online.iter().map(|i| i.address()).collect();
        let joined = addresses.join(" ");
        let mut env = vec![
            ("DISCOVER_SERVICE", self.service.clone()),
            ("DISCOVER_EVENT", self.kind.to_owned()),
            ("DISCOVER_COUNT", addresses.len().to_string()),
        ];
        // Strangers wrote the addresses, and an environment holds no zero bytes.
        if joined.len() <= LONGEST && !joined.contains('\0') {
            env.push(("DISCOVER_ADDRESSES", joined));
        }
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// For its standard input: what happened, and who is there now.
    pub fn input(&self) -> Vec<u8> {
        let instances: Vec<Value> = self.now.online().iter().map(|i| json::value(i)).collect();
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|event| {
                let of = event.instance().map(|i| json::value(i));
                json!({ "event": event.kind(), "instance": of })
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
