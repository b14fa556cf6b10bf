//! News as one string: the cheapest way across, however many events there are.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{Attributes, Departed, Error, Event, Instance, Metrics, Snapshot, able};
use serde::Serialize;
use serde_json::{Value, json};

pub fn events(events: &[Event]) -> String {
    text(|to| list(to, events, event))
}

/// A snapshot as what changed since the one before: events for those online, and the whole of the
/// rest, but for those offline where they are the same.
pub fn snapshot(now: &Snapshot, changes: &[Event], offline: Option<&[Departed]>) -> String {
    let status = json!({
        "state": now.state().name(),
        "error": now.fault().map(|fault| failure(&fault.error)),
        "since": now.fault().map(|fault| millis(fault.since)),
        "version": now.version(),
        "revision": now.revision(),
        "epoch": now.epoch(),
        "invalid": now.invalid(),
    });
    let able = json!(able(now));
    text(|to| {
        write!(to, r#"{{"status":{status},"able":{able},"offline":"#)?;
        match offline {
            Some(departed) => list(to, departed, gone)?,
            None => to.extend(b"null"),
        }
        to.extend(br#","events":"#);
        list(to, changes, event)?;
        to.push(b'}');
        Ok(())
    })
}

/// What is written, all of it into one place.
fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut to = Vec::new();
    // Memory takes everything, and JSON is UTF-8.
    let _ = write(&mut to);
    String::from_utf8(to).unwrap_or_default()
}

fn list<T>(
    to: &mut Vec<u8>,
    items: &[T],
    write: impl Fn(&mut Vec<u8>, &T) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut sign = b'[';
    for item in items {
        to.push(sign);
        write(to, item)?;
        sign = b',';
    }
    if items.is_empty() {
        to.push(sign);
    }
    to.push(b']');
    Ok(())
}

fn event(to: &mut Vec<u8>, event: &Event) -> std::io::Result<()> {
    write!(to, r#"{{"kind":"{}""#, event.kind())?;
    match (event.instance(), event.error()) {
        (Some(it), _) => {
            to.extend(br#","instance":"#);
            instance(to, it)?;
        }
        (None, Some(error)) => write!(to, r#","error":{}"#, failure(error))?,
        (None, None) if matches!(event, Event::Leader(_)) => to.extend(br#","instance":null"#),
        (None, None) => {}
    }
    to.push(b'}');
    Ok(())
}

fn gone(to: &mut Vec<u8>, departed: &Departed) -> std::io::Result<()> {
    let (at, reason) = (millis(departed.at), departed.reason.name());
    write!(to, r#"{{"at":{at},"reason":"{reason}","instance":"#)?;
    instance(to, &departed.instance)?;
    to.push(b'}');
    Ok(())
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    service: &'a str,
    id: &'a str,
    host: &'a str,
    port: u16,
    address: &'a str,
    attributes: &'a Attributes,
    tags: &'a [String],
    layouts: &'a [String],
    weight: u32,
    zone: Option<&'a str>,
    created: u64,
    is_suspect: bool,
}

fn instance(to: &mut Vec<u8>, it: &Instance) -> std::io::Result<()> {
    let told = Told {
        service: it.service().as_str(),
        id: it.id(),
        host: it.host(),
        port: it.port(),
        address: it.address(),
        attributes: it.attributes(),
        tags: it.tags(),
        layouts: it.layouts(),
        weight: it.weight(),
        zone: it.zone(),
        created: it.created(),
        is_suspect: it.is_suspect(),
    };
    Ok(serde_json::to_writer(to, &told)?)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
