//! News as one string: the cheapest way across, however many events there are.

use std::collections::HashMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{
    Attributes, Error, Event, Instance, Metadata, Metrics, OfflineInstance, Snapshot,
    eligible_indices,
};
use serde::Serialize;
use serde_json::{Value, json};

pub fn events(events: &[Event], are_more: bool) -> String {
    text(|to| {
        let mut words = Words::default();
        write!(to, r#"{{"more":{are_more},"events":"#)?;
        list(to, events, |to, it| event(to, it, &mut words))?;
        words.write(to)
    })
}

/// A snapshot as what changed since the one before: events for those online, and the whole of the
/// rest, but for those offline where they are the same.
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
    let able = json!(eligible_indices(now));
    text(|to| {
        let mut words = Words::default();
        write!(to, r#"{{"status":{status},"able":{able},"offline":"#)?;
        match offline {
            Some(departed) => list(to, departed, |to, it| gone(to, it, &mut words))?,
            None => to.extend(b"null"),
        }
        to.extend(br#","events":"#);
        list(to, changes, |to, it| event(to, it, &mut words))?;
        words.write(to)
    })
}

/// What is written, all of it into one place.
fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut to = Vec::new();
    // Memory takes everything, and JSON is UTF-8.
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

fn event<'a>(to: &mut Vec<u8>, event: &'a Event, words: &mut Words<'a>) -> std::io::Result<()> {
    write!(to, r#"{{"kind":"{}""#, event.kind())?;
    match (event.instance(), event.error()) {
        (Some(it), _) => {
            to.extend(br#","instance":"#);
            instance(to, it, words)?;
        }
        (None, Some(error)) => write!(to, r#","error":{}"#, failure(error))?,
        (None, None) if matches!(event, Event::Leader(_)) => to.extend(br#","instance":null"#),
        (None, None) => {}
    }
    to.push(b'}');
    Ok(())
}

fn gone<'a>(
    to: &mut Vec<u8>,
    departed: &'a OfflineInstance,
    words: &mut Words<'a>,
) -> std::io::Result<()> {
    let (at, reason) = (millis(departed.at), departed.reason.name());
    write!(to, r#"{{"at":{at},"reason":"{reason}","instance":"#)?;
    instance(to, &departed.instance, words)?;
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
    json!({ "code": error.kind().name(), "message": error.report() })
}

/// What instances of one set say alike, told once for all of them.
#[derive(Default)]
struct Words<'a> {
    places: HashMap<(*const Metadata, *const String), usize>,
    first: Vec<&'a Instance>,
}

impl<'a> Words<'a> {
    /// Where the words of this instance are.
    fn place(&mut self, it: &'a Instance) -> usize {
        let known = (&raw const **it.metadata(), it.layouts().as_ptr());
        *self.places.entry(known).or_insert_with(|| {
            self.first.push(it);
            self.first.len() - 1
        })
    }

    /// The last member of a message.
    fn write(self, to: &mut Vec<u8>) -> std::io::Result<()> {
        to.extend(br#","words":"#);
        list(to, &self.first, |to, it| {
            let words = Alike {
                service: it.service().as_str(),
                attributes: it.attributes(),
                tags: it.tags(),
                layouts: it.layouts(),
                zone: it.zone(),
            };
            Ok(serde_json::to_writer(to, &words)?)
        })?;
        to.push(b'}');
        Ok(())
    }
}

#[derive(Serialize)]
struct Alike<'a> {
    service: &'a str,
    attributes: &'a Attributes,
    tags: &'a [String],
    layouts: &'a [String],
    zone: Option<&'a str>,
}

/// An instance with all its members, so that JavaScript makes an object of the right form at once: what is
/// told once for many is null, but for one, which says where that is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    service: (),
    /// None where it is the address.
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

fn instance<'a>(to: &mut Vec<u8>, it: &'a Instance, words: &mut Words<'a>) -> std::io::Result<()> {
    let told = Told {
        service: (),
        id: (it.id() != it.address()).then(|| it.id()),
        host: it.host(),
        port: it.port(),
        address: it.address(),
        attributes: words.place(it).to_string(),
        tags: (),
        layouts: (),
        weight: it.weight(),
        zone: (),
        created: it.created(),
        is_suspect: it.is_suspect(),
    };
    Ok(serde_json::to_writer(to, &told)?)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
