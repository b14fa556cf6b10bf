//! News as one string: the cheapest way across, however many events there are.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{Departed, Error, Event, Instance, Metrics, Snapshot, able};
use serde_json::{Value, json};

pub fn events(events: &[Event]) -> String {
    list(events.iter().map(event))
}

/// A snapshot as what changed since the one before: events for those online, and the whole of the
/// rest, but for those offline where they are the same.
pub fn snapshot(now: &Snapshot, changes: &[Event], offline: Option<&[Departed]>) -> String {
    let offline = match offline {
        Some(departed) => list(departed.iter().map(gone)),
        None => "null".to_owned(),
    };
    let rest = json!({
        "state": now.state().name(),
        "error": now.fault().map(|fault| failure(&fault.error)),
        "since": now.fault().map(|fault| millis(fault.since)),
        "version": now.version(),
        "revision": now.revision(),
        "epoch": now.epoch(),
        "invalid": now.invalid(),
    });
    let (events, able) = (events(changes), json!(able(now)));
    format!(r#"{{"status":{rest},"offline":{offline},"able":{able},"events":{events}}}"#)
}

fn event(event: &Event) -> String {
    let about = match (event.instance(), event.error()) {
        (Some(it), _) => format!(r#","instance":{}"#, instance(it)),
        (None, Some(error)) => format!(r#","error":{}"#, failure(error)),
        (None, None) if matches!(event, Event::Leader(_)) => r#","instance":null"#.to_owned(),
        (None, None) => String::new(),
    };
    format!(r#"{{"kind":"{}"{about}}}"#, event.kind())
}

fn gone(departed: &Departed) -> String {
    let (at, reason) = (millis(departed.at), departed.reason.name());
    let instance = instance(&departed.instance);
    format!(r#"{{"instance":{instance},"at":{at},"reason":"{reason}"}}"#)
}

/// The counters, by the names that they have in Rust.
pub fn metrics(metrics: &Metrics) -> String {
    let fields = metrics.fields().into_iter();
    let fields = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(fields.collect()).to_string()
}

/// How a connection or a registration fares.
pub fn condition(state: &str, error: Option<&Error>) -> String {
    json!({ "state": state, "error": error.map(failure) }).to_string()
}

/// What `ts/errors.ts` makes a `DiscoverError` of.
pub fn failure(error: &Error) -> Value {
    json!({ "code": error.kind().name(), "message": error.message() })
}

/// Made once for each instance, however many listeners hear of it.
fn instance(instance: &Instance) -> Cow<'_, str> {
    let made = instance.foreign().get_or_init(|| Box::new(write(instance)));
    match made.downcast_ref::<String>() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(write(instance)),
    }
}

fn write(instance: &Instance) -> String {
    json!({
        "service": instance.service().as_str(),
        "id": instance.id(),
        "host": instance.host(),
        "port": instance.port(),
        "address": instance.address(),
        "attributes": instance.attributes(),
        "tags": instance.tags(),
        "layouts": instance.layouts(),
        "weight": instance.weight(),
        "zone": instance.zone(),
        "created": instance.created(),
        "isSuspect": instance.is_suspect(),
    })
    .to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(","))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
