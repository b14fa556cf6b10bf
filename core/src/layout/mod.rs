//! Layouts: the data formats in which instances are stored. Pure conversions without I/O.

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

/// A data format: the keys and values that represent instances in a key-value store.
///
/// Implement it to share a store with programs that use another format, and read and write it with
/// [`KvBackend`](crate::KvBackend). A layout does no I/O. All methods may be called from any thread.
///
/// An implementation must guarantee:
///
/// - Of the entries that `encode` returns, exactly one lies under the `prefix` of the service, and `decode`
///   returns the registered instance for it.
/// - `encode` refuses a registration that the layout cannot express, instead of changing it.
/// - `decode` never panics, whatever the bytes.
pub trait Layout: Send + Sync + 'static {
    /// Returns the name of the layout, as it appears in URLs and in [`Instance::layouts`].
    fn name(&self) -> &str;

    /// Returns the directory that contains the instances of `service`, at any depth.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the service name makes no valid key.
    fn prefix(&self, service: &ServiceName) -> Result<Prefix>;

    /// Returns the directory in which each service has a subdirectory of its own name. Returns `None`, the
    /// default, if the layout has no such directory; then its services cannot be listed.
    fn root(&self) -> Option<Prefix> {
        None
    }

    /// Returns the entries to write for a complete registration. The same registration always gives the same
    /// entries.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the layout cannot express the
    /// registration.
    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>>;

    /// Decodes one node under `prefix`. An unreadable record is [`Decoded::Malformed`], not an error.
    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded;

    /// Decodes one node of a list. `interner` holds the metadata of the nodes decoded before, so that identical
    /// metadata is stored once. The default calls `decode` and interns the result; override it to skip parsing
    /// of identical values.
    fn decode_among(
        &self,
        service: &ServiceName,
        node: &Node,
        interner: &mut MetadataInterner,
    ) -> Decoded {
        let mut decoded = self.decode(service, node);
        if let Decoded::Instance(instance) = &mut decoded {
            interner.intern(instance);
        }
        decoded
    }

    /// Returns the member names of the layout's JSON records. When a record is overwritten, members of other
    /// names, which other programs keep there, are preserved.
    ///
    /// Returns an empty list, the default, if records are not JSON objects; then `merge_existing` is called for
    /// shared records only, and the own records of a registration are overwritten without being read first.
    fn known_fields(&self) -> &[&str] {
        &[]
    }

    /// Returns the value to write for `entry` where the key already holds `before`; `None` leaves the key as it
    /// is. The default is the value of the entry with the unknown members of `before`.
    fn merge_existing(
        &self,
        entry: &Entry,
        before: &[u8],
        _on_conflict: OnConflict,
    ) -> Option<Vec<u8>> {
        let merged = match self.known_fields() {
            [] => None,
            known => json::keep_unknown(&entry.value, before, known),
        };
        Some(merged.unwrap_or_else(|| entry.value.clone()))
    }

    /// Returns the key of a record that the registrations of the service share and that this one follows.
    /// Returns `None`, the default, if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the layout cannot express the
    /// registration.
    fn shared(&self, _registration: &Registration) -> Result<Option<Key>> {
        Ok(None)
    }

    /// Decodes the value of the shared record; `None` means that the record does not exist. An unreadable
    /// record is [`SharedAttributes::Absent`]. The default is no shared attributes.
    fn decode_shared(&self, _value: Option<&[u8]>) -> SharedAttributes {
        SharedAttributes::Present(Default::default())
    }
}

/// The result of decoding a node.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// An instance.
    Instance(Instance),
    /// A node that is no record of this layout, such as a record of another layout in the same directory.
    Ignored,
    /// A record that cannot be decoded, with the reason. It is counted as invalid and hides no other record.
    Malformed(String),
}

/// Encodes a registration. Refuses it if decoding the entries would give another instance.
pub(crate) fn check(layout: &dyn Layout, registration: &Registration) -> Result<Vec<Entry>> {
    let prefix = layout.prefix(&registration.service)?;
    let expected = registration.instance(1);
    let entries = layout.encode(registration)?;
    let in_prefix = entries
        .iter()
        .filter(|entry| entry.key.strip_prefix(&prefix).is_some());
    let mut decoded = in_prefix.map(|entry| {
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
    match decoded.find(|decoded| *decoded != Decoded::Ignored) {
        Some(Decoded::Instance(read)) => match difference(&expected, &read) {
            None => Ok(entries),
            Some(what) => refuse(&format!("{what} would be read back with another value")),
        },
        Some(Decoded::Malformed(why)) => refuse(&why),
        Some(Decoded::Ignored) | None => refuse("its entry would not be read back as an instance"),
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

/// A directory with one subdirectory for each service, `ROOT/NAME/`.
struct Folder(Prefix);

impl Folder {
    fn new(path: &str) -> Result<Folder> {
        Prefix::new(path).map(Folder)
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        Ok(self.0.join(service.as_str())?.as_prefix())
    }

    /// Returns the key of an instance whose id is one path segment.
    fn key(&self, layout: &str, service: &ServiceName, id: &str) -> Result<Key> {
        check_segment(layout, "id", id)?;
        self.prefix(service)?.join(id)
    }

    /// Returns the path of the node below the directory of the service, if the node is in it.
    fn relative_path<'a>(&self, service: &ServiceName, node: &'a Node) -> Option<&'a str> {
        path_in_service(self.0.as_str(), service, &node.key)
    }

    /// Returns the name of a node directly below the directory of the service. Deeper keys belong to other
    /// programs.
    fn child_name<'a>(&self, service: &ServiceName, node: &'a Node) -> Option<&'a str> {
        self.relative_path(service, node)
            .filter(|name| !name.contains('/'))
    }
}

/// Returns the rest of a key that starts with `ROOTSERVICE/`.
fn path_in_service<'a>(root: &str, service: &ServiceName, key: &'a Key) -> Option<&'a str> {
    let rest = key.as_str().strip_prefix(root)?;
    rest.strip_prefix(service.as_str())?.strip_prefix('/')
}

/// Checks that a text is usable as one segment of a key.
fn check_segment(layout: &str, what: &str, text: &str) -> Result<()> {
    if text.contains('/') || text.is_empty() {
        return Err(Error::invalid(format!(
            "{what} {text:?}: layout {layout} uses it as one segment of the key; it must not be empty or contain a slash"
        )));
    }
    Ok(())
}

/// Parses `host:port` with a valid host and a port from 1 to 65535.
fn parse_endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = HostPort::split(text).ok()?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some((check_host(host).ok()?, port))
}

/// Returns the host of a complete registration.
fn registered_host(registration: &Registration) -> &str {
    registration.host.as_deref().unwrap_or_default()
}
