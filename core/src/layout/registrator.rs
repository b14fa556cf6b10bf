//! The layout of gliderlabs' registrator: `PREFIX/NAME/HOST:CONTAINER:PORT` contains only `ip:port`.
//!
//! The format has no room for attributes and tags. Without an id the key is `HOST:NAME:PORT`.

use crate::error::{Error, Result};
use crate::kv::{Entry, Node, Prefix, V2Events};
use crate::layout::{Decoded, Folder, Layout, parse_endpoint, registered_host};
use crate::model::{Attributes, Instance, Registration, ServiceName};
use crate::net::HostPort;

/// The layout of registrator.
pub struct Registrator {
    root: Folder,
}

const NAME: &str = "registrator";

impl Registrator {
    /// The default prefix of the services.
    pub const PREFIX: &str = "/services";

    /// Creates the layout with its services under `prefix`.
    pub fn new(prefix: &str) -> Result<Registrator> {
        Folder::new(prefix).map(|root| Registrator { root })
    }
}

impl Layout for Registrator {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.root.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        if !registration.attributes.is_empty() || !registration.tags.is_empty() {
            return Err(Error::invalid(
                "layout registrator keeps an address and nothing else; leave attributes and tags out, \
                 or write another layout as well: layout=registrator,native",
            ));
        }
        let name = match &registration.id {
            Some(id) => id.clone(),
            None => name_of(
                &registration.service,
                registered_host(registration),
                registration.port,
            ),
        };
        let key = self.root.key(NAME, &registration.service, &name)?;
        let entry = Entry::leased(key, registration.address());
        Ok(vec![entry.v2_events(V2Events::Set)])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        // Deeper keys and documents belong to other programs that use this directory.
        let name = self.root.child_name(service, node);
        let Some(name) = name.filter(|_| !node.value.starts_with(b"{")) else {
            return Decoded::Ignored;
        };
        match read(&node.value) {
            Some((host, port)) => {
                let own = name == name_of(service, host, port);
                let address = HostPort::join(host, port);
                let id = if own { &address } else { name };
                let (attributes, tags) = (Attributes::new(), Vec::new());
                let created = node.created;
                let service = service.clone();
                Decoded::Instance(Instance::new(
                    service, id, host, port, attributes, tags, created,
                ))
            }
            None => Decoded::Malformed("the value is not ip:port".to_owned()),
        }
    }
}

/// Parses a bare `ip:port`.
pub(super) fn read(value: &[u8]) -> Option<(&str, u16)> {
    parse_endpoint(std::str::from_utf8(value).ok()?.trim())
}

/// Returns `HOST:SERVICE:PORT`, the name of an instance without a container.
fn name_of(service: &ServiceName, host: &str, port: u16) -> String {
    format!("{host}:{service}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};

    fn layout() -> Registrator {
        Registrator::new(Registrator::PREFIX).unwrap()
    }

    /// S3.24.
    #[test]
    fn writes_what_registrator_writes() {
        let named = at("redis", "10.0.0.1:49161")
            .id("host1:cache:6379")
            .unwrap();
        let expected = ("/services/redis/host1:cache:6379", "10.0.0.1:49161");
        let written = entry(&layout(), &named);
        assert_eq!((written.0.as_str(), written.1.as_str()), expected);
        round_trips(&layout(), &named);
        let plain = at("redis", "[::1]:80");
        let written = entry(&layout(), &plain);
        assert_eq!(
            (written.0.as_str(), written.1.as_str()),
            ("/services/redis/::1:redis:80", "[::1]:80")
        );
        round_trips(&layout(), &plain);
    }

    #[test]
    fn attributes_and_tags_are_refused() {
        for full in [
            at("web", "h:1").tags(["a"]).unwrap(),
            at("web", "h:1").attributes([("a", "b")]).unwrap(),
            at("web", "h:1").id("a/b").unwrap(),
        ] {
            assert!(layout().encode(&full).is_err());
        }
    }

    /// S3.24, and the collisions under /services: documents and deeper keys belong to other programs.
    #[test]
    fn reads_bare_values_and_ignores_other_records() {
        let key = "/services/redis/host1:cache:6379";
        let read = reads(&layout(), "redis", key, b"10.0.0.1:49161\n");
        assert_eq!(
            (read.id(), read.address()),
            ("host1:cache:6379", "10.0.0.1:49161")
        );
        let read = |key: &str, value: &str| decoded(&layout(), "redis", key, value.as_bytes());
        for (key, value) in [
            (key, r#"{"name":"n","ports":{"http":"80"}}"#),
            ("/services/redis/80/49161/1353", "10.0.0.1:1"),
            ("/services/redis/instances/1/state", "{}"),
        ] {
            assert_eq!(read(key, value), Decoded::Ignored);
        }
        assert!(matches!(read(key, "10.0.0.1"), Decoded::Malformed(_)));
    }
}
