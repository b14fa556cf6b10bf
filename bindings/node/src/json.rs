//! Encoding of notifications as one JSON string: the cheapest transfer to JavaScript for any number of events.

use std::collections::HashMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{
    Attributes, Error, Event, Instance, Metadata, Metrics, OfflineInstance, Snapshot,
    eligible_indices,
};
use serde::Serialize;
use serde_json::{Value, json};

/// Encodes events. `are_more` tells the receiver to drain again.
pub fn events(events: &[Event], are_more: bool) -> String {
    text(|to| {
        let mut shared = SharedFieldsTable::default();
        write!(to, r#"{{"more":{are_more},"events":"#)?;
        list(to, events, |to, it| event(to, it, &mut shared))?;
        shared.write(to)
    })
}

/// Encodes a snapshot as its difference to the previous one: the status, the events of the instances online, and
/// all offline instances unless they are the same as before.
pub fn snapshot(now: &Snapshot, changes: &[Event], offline: Option<&[OfflineInstance]>) -> String {
    let status = json!({
        "state": now.state().name(),
        "error": now.fault().map(|fault| failure(&fault.error)),
        "since": now.fault().map(|fault| millis(fault.since)),
        "version": now.version(),
        "revision": now.revision(),
        "epoch": now.epoch(),
        "invalid": now.invalid(),
    });
    let eligible = json!(eligible_indices(now));
    text(|to| {
        let mut shared = SharedFieldsTable::default();
        write!(
            to,
            r#"{{"status":{status},"eligible":{eligible},"offline":"#
        )?;
        match offline {
            Some(offline) => list(to, offline, |to, it| offline_instance(to, it, &mut shared))?,
            None => to.extend(b"null"),
        }
        to.extend(br#","events":"#);
        list(to, changes, |to, it| event(to, it, &mut shared))?;
        shared.write(to)
    })
}

/// Returns the text that `write` produces.
fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut to = Vec::new();
    // Writing to memory does not fail, and JSON is UTF-8.
    let _ = write(&mut to);
    String::from_utf8(to).unwrap_or_default()
}

fn list<'a, T>(
    to: &mut Vec<u8>,
    items: &'a [T],
    mut write: impl FnMut(&mut Vec<u8>, &'a T) -> std::io::Result<()>,
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

fn event<'a>(
    to: &mut Vec<u8>,
    event: &'a Event,
    shared: &mut SharedFieldsTable<'a>,
) -> std::io::Result<()> {
    write!(to, r#"{{"kind":"{}""#, event.kind())?;
    match (event.instance(), event.error()) {
        (Some(it), _) => {
            to.extend(br#","instance":"#);
            instance(to, it, shared)?;
        }
        (None, Some(error)) => write!(to, r#","error":{}"#, failure(error))?,
        (None, None) if matches!(event, Event::Leader(_)) => to.extend(br#","instance":null"#),
        (None, None) => {}
    }
    to.push(b'}');
    Ok(())
}

fn offline_instance<'a>(
    to: &mut Vec<u8>,
    offline: &'a OfflineInstance,
    shared: &mut SharedFieldsTable<'a>,
) -> std::io::Result<()> {
    let (at, reason) = (millis(offline.at), offline.reason.name());
    write!(to, r#"{{"at":{at},"reason":"{reason}","instance":"#)?;
    instance(to, &offline.instance, shared)?;
    to.push(b'}');
    Ok(())
}

/// Encodes the counters, by their names in Rust.
pub fn metrics(metrics: &Metrics) -> String {
    let fields = metrics.fields().into_iter();
    let fields = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(fields.collect()).to_string()
}

/// Encodes the state of a connection or the standing of a lease.
pub fn state(state: &str, error: Option<&Error>) -> String {
    json!({ "state": state, "error": error.map(failure) }).to_string()
}

/// Encodes an error. `ts/errors.ts` converts it into a `DiscoverError`.
pub fn failure(error: &Error) -> Value {
    json!({ "code": error.kind().name(), "message": error.report() })
}

/// The fields that instances of one set have in common. Each combination is encoded once.
#[derive(Default)]
struct SharedFieldsTable<'a> {
    indices: HashMap<(*const Metadata, *const String), usize>,
    first: Vec<&'a Instance>,
}

impl<'a> SharedFieldsTable<'a> {
    /// Returns the index of the shared fields of an instance.
    fn index_of(&mut self, it: &'a Instance) -> usize {
        let key = (&raw const **it.metadata(), it.layouts().as_ptr());
        *self.indices.entry(key).or_insert_with(|| {
            self.first.push(it);
            self.first.len() - 1
        })
    }

    /// Encodes the table as the last member of a message.
    fn write(self, to: &mut Vec<u8>) -> std::io::Result<()> {
        to.extend(br#","shared":"#);
        list(to, &self.first, |to, it| {
            let fields = SharedFields {
                service: it.service().as_str(),
                attributes: it.attributes(),
                tags: it.tags(),
                layouts: it.layouts(),
                zone: it.zone(),
            };
            Ok(serde_json::to_writer(to, &fields)?)
        })?;
        to.push(b'}');
        Ok(())
    }
}

#[derive(Serialize)]
struct SharedFields<'a> {
    service: &'a str,
    attributes: &'a Attributes,
    tags: &'a [String],
    layouts: &'a [String],
    zone: Option<&'a str>,
}

/// An instance with all its members, so that JavaScript creates an object of the final shape at once. The shared
/// fields are null, except `attributes`, which is the index of these in the table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceFields<'a> {
    service: (),
    /// `None` if the id equals the address.
    id: Option<&'a str>,
    host: &'a str,
    port: u16,
    address: &'a str,
    attributes: String,
    tags: (),
    layouts: (),
    weight: u32,
    zone: (),
    created: u64,
    is_suspect: bool,
}

fn instance<'a>(
    to: &mut Vec<u8>,
    it: &'a Instance,
    shared: &mut SharedFieldsTable<'a>,
) -> std::io::Result<()> {
    let fields = InstanceFields {
        service: (),
        id: (it.id() != it.address()).then(|| it.id()),
        host: it.host(),
        port: it.port(),
        address: it.address(),
        attributes: shared.index_of(it).to_string(),
        tags: (),
        layouts: (),
        weight: it.weight(),
        zone: (),
        created: it.created(),
        is_suspect: it.is_suspect(),
    };
    Ok(serde_json::to_writer(to, &fields)?)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
