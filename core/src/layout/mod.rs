//! How instances are written in a tree. Pure text in, values out; no layout knows a store.

mod native;

use crate::error::Result;
use crate::model::{Instance, Registration, ServiceName};
use crate::tree::{Entry, Node, Prefix};

pub use native::Native;

/// A way to write instances in a tree.
///
/// Laws: every entry that `encode` leases lies under `prefix` of its service; decoding it gives back
/// the registration; `decode` never panics, whatever the bytes; a registration that the layout cannot
/// express is refused by `encode`, not mangled.
pub trait Layout: Send + Sync + 'static {
    /// The folder in which the instances of `service` are.
    fn prefix(&self, service: &ServiceName) -> Result<Prefix>;

    /// The folder whose folders are those of all services, each of the service's own name; none where
    /// the layout has no such folder.
    fn root(&self) -> Option<Prefix> {
        None
    }

    /// The entries that make a complete registration known.
    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>>;

    /// Reads one node under `prefix`.
    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded;
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
