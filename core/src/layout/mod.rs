//! How instances are written in a tree. Pure text in, values out; no layout knows a store.

mod containerpilot;
mod embassy;
mod gomicro;
mod grpc;
mod json;
mod kratos;
mod native;
mod registrator;
pub(crate) mod scalingo;
mod tags;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::kv::{Entry, Key, Node, Prefix};
use crate::model::{
    Instance, MetadataInterner, OnConflict, Registration, ServiceName, SharedAttributes, check_host,
};
use crate::net::HostPort;

pub use containerpilot::ContainerPilot;
pub use embassy::Embassy;
pub use gomicro::GoMicro;
pub use grpc::Grpc;
pub use kratos::Kratos;
pub use native::Native;
pub use registrator::Registrator;
pub use scalingo::Scalingo;

/// A way to write instances in a tree.
///
/// Laws: of the entries of `encode`, one lies under `prefix` of its service, and decoding it gives back
/// the registration; `decode` never panics, whatever the bytes; a registration that the layout cannot
/// express is refused by `encode`, not mangled.
pub trait Layout: Send + Sync + 'static {
    /// What it is called: in URLs, and on the instances that are read in it.
    fn name(&self) -> &str;

    /// The folder in which the instances of `service` are, at any depth.
    fn prefix(&self, service: &ServiceName) -> Result<Prefix>;

    /// The folder whose folders are those of all services, each of the service's own name; none where
    /// the layout has no such folder.
    fn root(&self) -> Option<Prefix> {
        None
    }

    /// The entries that make a complete registration known; the same ones for the same registration.
    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>>;

    /// Reads one node under `prefix`.
    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded;

    /// The same of a node in a list: what others in it said as well is held once.
    fn decode_among(
        &self,
        service: &ServiceName,
        node: &Node,
        others: &mut MetadataInterner,
    ) -> Decoded {
        let mut decoded = self.decode(service, node);
        if let Decoded::Instance(instance) = &mut decoded {
            others.share(instance);
        }
        decoded
    }

    /// Where records are JSON objects, the members that it knows: others' members stay in a record that
    /// is written over. None where records have no room for any; `rewrite` is then asked for what is shared
    /// alone, and not for the records of a registration itself.
    fn known_fields(&self) -> &[&str] {
        &[]
    }

    /// What is written where `before` is the value already: as a rule that of the entry, with what
    /// others keep in the record. None: what is there stays.
    fn merge_existing(&self, entry: &Entry, before: &[u8], _claim: OnConflict) -> Option<Vec<u8>> {
        let kept = match self.known_fields() {
            [] => None,
            known => json::keep_unknown(&entry.value, before, known),
        };
        Some(kept.unwrap_or_else(|| entry.value.clone()))
    }

    /// A record that all registrations of the service share, and that this one follows.
    fn shared(&self, _registration: &Registration) -> Result<Option<Key>> {
        Ok(None)
    }

    /// What that record says; `None` is its absence.
    fn decode_shared(&self, _value: Option<&[u8]>) -> SharedAttributes {
        SharedAttributes::Present(Default::default())
    }
}

/// What a node turned out to be. Malformed is a value: another program's bad record must not end our
/// stream.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// An instance.
    Instance(Instance),
    /// Something else that belongs there.
    Ignored,
    /// A record that cannot be read, and why.
    Malformed(String),
}

/// The entries of a registration; refused if it would be read back as another one than it is.
pub(crate) fn check(layout: &dyn Layout, registration: &Registration) -> Result<Vec<Entry>> {
    let prefix = layout.prefix(&registration.service)?;
    let expected = registration.instance(1);
    let entries = layout.encode(registration)?;
    let read = entries
        .iter()
        .filter(|entry| entry.key.strip_prefix(&prefix).is_some());
    let mut read = read.map(|entry| {
        let node = Node {
            key: entry.key.clone(),
            value: entry.value[..].into(),
            created: 1,
            modified: 1,
            owner: 0,
        };
        layout.decode(&registration.service, &node)
    });
    let name = layout.name();
    let refuse = |why: &str| {
        Err(Error::invalid(format!(
            "layout {name} cannot express this registration: {why}"
        )))
    };
    match read.find(|decoded| *decoded != Decoded::Ignored) {
        Some(Decoded::Instance(read)) => match difference(&expected, &read) {
            None => Ok(entries),
            Some(what) => refuse(&format!("{what} would be read as another")),
        },
        Some(Decoded::Malformed(why)) => refuse(&why),
        Some(Decoded::Ignored) | None => refuse("it would not be read at all"),
    }
}

fn difference(expected: &Instance, read: &Instance) -> Option<&'static str> {
    [
        ("the address", expected.address() != read.address()),
        ("the id", expected.id() != read.id()),
        ("the attributes", expected.attributes() != read.attributes()),
        ("the tags", expected.tags() != read.tags()),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

impl From<std::result::Result<Instance, String>> for Decoded {
    fn from(read: std::result::Result<Instance, String>) -> Decoded {
        match read {
            Ok(instance) => Decoded::Instance(instance),
            Err(why) => Decoded::Malformed(why),
        }
    }
}

/// A folder that has one for each service, `ROOT/NAME/`: so do most systems begin.
struct Folder(Prefix);

impl Folder {
    fn new(path: &str) -> Result<Folder> {
        Prefix::new(path).map(Folder)
    }

    fn of(&self, service: &ServiceName) -> Result<Prefix> {
        Ok(self.0.join(service.as_str())?.as_prefix())
    }

    /// The key of an instance, whose id is one segment.
    fn key(&self, layout: &str, service: &ServiceName, id: &str) -> Result<Key> {
        segment(layout, "id", id)?;
        self.of(service)?.join(id)
    }

    /// What follows the folder of the service, if the node is in it.
    fn rest<'a>(&self, service: &ServiceName, node: &'a Node) -> Option<&'a str> {
        under(self.0.as_str(), service, &node.key)
    }

    /// The same where it is one segment: deeper keys belong to somebody else.
    fn name<'a>(&self, service: &ServiceName, node: &'a Node) -> Option<&'a str> {
        self.rest(service, node).filter(|name| !name.contains('/'))
    }
}

/// What follows `ROOTSERVICE/` in a key that lies there.
fn under<'a>(root: &str, service: &ServiceName, key: &'a Key) -> Option<&'a str> {
    let rest = key.as_str().strip_prefix(root)?;
    rest.strip_prefix(service.as_str())?.strip_prefix('/')
}

/// A name that is one segment of a key.
fn segment(layout: &str, what: &str, text: &str) -> Result<()> {
    if text.contains('/') || text.is_empty() {
        return Err(Error::invalid(format!(
            "{what} {text:?}: in layout {layout} it is a part of the key, and has no slash"
        )));
    }
    Ok(())
}

/// Host and port of `host:port`, if that is what the text is.
fn endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = HostPort::split(text).ok()?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some((check_host(host).ok()?, port))
}

/// The host of a registration that is complete.
fn host(registration: &Registration) -> &str {
    registration.host.as_deref().unwrap_or_default()
}
