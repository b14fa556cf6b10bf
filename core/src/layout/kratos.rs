//! The layout of Kratos' registry in etcd: `/microservices/NAME/ID` contains the `ServiceInstance`.
//!
//! The attribute `version` is its version; the other attributes and the tags are its metadata. The address is that of the first
//! endpoint, by default `http://HOST:PORT`. Other endpoints or schemes are given in the attribute `endpoints`, separated by
//! commas.

use crate::error::Result;
use crate::kv::{Entry, Node, Prefix};
use crate::layout::{Decoded, Folder, Layout, json, parse_endpoint, tags};
use crate::model::{Attributes, Instance, Registration, ServiceName};
use crate::net::HostPort;

/// The layout of Kratos.
pub struct Kratos {
    root: Folder,
}

const NAME: &str = "kratos";
const VERSION: &str = "version";
const ENDPOINTS: &str = "endpoints";
const KNOWN: [&str; 5] = ["id", "name", VERSION, "metadata", ENDPOINTS];

impl Kratos {
    /// The default namespace.
    pub const PREFIX: &str = "/microservices";

    /// Creates the layout with the namespace `prefix`.
    pub fn new(prefix: &str) -> Result<Kratos> {
        Folder::new(prefix).map(|root| Kratos { root })
    }
}

impl Layout for Kratos {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.root.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let id = registration.instance_id();
        let mut metadata = registration.attributes.clone();
        let version = metadata.remove(VERSION).unwrap_or_default();
        let endpoints = match metadata.remove(ENDPOINTS) {
            Some(all) => all.split(',').map(str::to_owned).collect(),
            None => vec![default_endpoint(&registration.address())],
        };
        let metadata = tags::join(NAME, &metadata, &registration.tags)?;
        let record = json::Writer::new()
            .value("id", id.as_str())
            .value("name", registration.service.as_str())
            .value(VERSION, version)
            .map("metadata", &metadata)
            .value(ENDPOINTS, endpoints);
        let key = self.root.key(NAME, &registration.service, &id)?;
        Ok(vec![Entry::leased(key, record.finish()?)])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let Some(id) = self.root.child_name(service, node) else {
            return Decoded::Ignored;
        };
        read(service, id, node).into()
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }
}

/// Returns the default endpoint of an address.
fn default_endpoint(address: &str) -> String {
    format!("http://{address}")
}

/// Returns host and port of `scheme://host:port/…?…`.
fn address_of(url: &str) -> Option<(&str, u16)> {
    let (_, rest) = url.split_once("://")?;
    parse_endpoint(rest.split(['/', '?']).next()?)
}

fn read(service: &ServiceName, id: &str, node: &Node) -> std::result::Result<Instance, String> {
    let record = json::Object::parse(&node.value)?;
    let endpoints = record.list(ENDPOINTS)?;
    let (host, port) = endpoints
        .iter()
        .find_map(|url| address_of(url))
        .ok_or("no endpoint is scheme://host:port")?;
    let mut attributes: Attributes = record.map("metadata")?;
    let tags = tags::split(&mut attributes);
    let version = record.text(VERSION)?;
    if !version.is_empty() {
        attributes.insert(VERSION.to_owned(), version.to_owned());
    }
    if endpoints != [default_endpoint(&HostPort::join(host, port))] {
        attributes.insert(ENDPOINTS.to_owned(), endpoints.join(","));
    }
    json::check_count(&attributes)?;
    Ok(Instance::new(
        service.clone(),
        id,
        host,
        port,
        attributes,
        tags,
        node.created,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::check;
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};

    fn layout() -> Kratos {
        Kratos::new(Kratos::PREFIX).unwrap()
    }

    #[test]
    fn writes_what_kratos_writes() {
        let plain = at("hello", "127.0.0.1:8000").id("7f3a").unwrap();
        let bytes = r#"{"id":"7f3a","name":"hello","version":"","metadata":null,"endpoints":["http://127.0.0.1:8000"]}"#;
        let expected = ("/microservices/hello/7f3a".to_owned(), bytes.to_owned());
        assert_eq!(entry(&layout(), &plain), expected);
        let both = "grpc://127.0.0.1:8000?isSecure=false,http://127.0.0.1:80";
        let full = [("version", "v1"), ("zone", "eu"), ("endpoints", both)];
        let full = plain.attributes(full).unwrap().tags(["a"]).unwrap();
        let bytes = r#"{"id":"7f3a","name":"hello","version":"v1","metadata":{"tags":"a","zone":"eu"},"endpoints":["grpc://127.0.0.1:8000?isSecure=false","http://127.0.0.1:80"]}"#;
        assert_eq!(entry(&layout(), &full).1, bytes);
        round_trips(&layout(), &full);
    }

    #[test]
    fn an_endpoint_elsewhere_is_refused() {
        let other = at("hello", "h:1").attributes([("endpoints", "http://h:2")]);
        let error = check(&layout(), &other.unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("the address would be read back with another value"),
            "{error}"
        );
    }

    #[test]
    fn reads_what_kratos_writes() {
        let value = br#"{"id":"x","name":"hello","version":"","metadata":{"k":"v"},"endpoints":["grpc://10.0.0.1:9000"]}"#;
        let read = reads(&layout(), "hello", "/microservices/hello/x", value);
        assert_eq!((read.id(), read.address()), ("x", "10.0.0.1:9000"));
        assert_eq!(read.attributes()["endpoints"], "grpc://10.0.0.1:9000");
        assert_eq!(read.attributes()["k"], "v");
        let deeper = decoded(&layout(), "hello", "/microservices/hello/x/y", value);
        assert_eq!(deeper, Decoded::Ignored);
        let bad = decoded(&layout(), "hello", "/microservices/hello/x", b"{}");
        assert!(matches!(bad, Decoded::Malformed(_)));
    }
}
