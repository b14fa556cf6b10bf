//! The layout of go-micro's registry in etcd: `/micro/registry/NAME/ID` holds the service with one node.
//!
//! The attribute `version` is the service's version, the others and the tags are the node's metadata.

use serde_json::Value;

use crate::error::Result;
use crate::layout::{Decoded, Layout, endpoint, json, tags};
use crate::model::{Instance, Registration, ServiceName};
use crate::tree::{Entry, Lifetime, Node, Prefix};

/// See the module.
pub struct GoMicro {
    root: Prefix,
}

const NAME: &str = "go-micro";
const VERSION: &str = "version";

impl GoMicro {
    /// Where go-micro has its services.
    pub const PREFIX: &str = "/micro/registry";

    /// With its services under `prefix`.
    pub fn new(prefix: &str) -> Result<GoMicro> {
        let root = Prefix::new(prefix)?;
        Ok(GoMicro { root })
    }
}

impl Layout for GoMicro {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        Ok(self.root.join(service.as_str())?.beneath())
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let id = registration.instance_id();
        let mut metadata = registration.attributes.clone();
        let version = metadata.remove(VERSION).unwrap_or_default();
        let metadata = tags::join(NAME, &metadata, &registration.tags)?;
        let node = json::Writer::new()
            .value("id", id.as_str())
            .value("address", registration.address())
            .map("metadata", &metadata);
        let record = json::Writer::new()
            .value("name", registration.service.as_str())
            .value(VERSION, version)
            .value("metadata", Value::Null)
            .value("endpoints", Value::Null)
            .list_of("nodes", node);
        Ok(vec![Entry {
            key: self.prefix(&registration.service)?.join(&key_of(&id))?,
            value: record.finish()?,
            lifetime: Lifetime::Leased,
        }])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let prefix = self.prefix(service).ok();
        let name = prefix.and_then(|prefix| node.key.under(&prefix));
        let Some(name) = name.filter(|name| !name.contains('/')) else {
            return Decoded::Ignored;
        };
        match read(service, name, node) {
            Ok(instance) => Decoded::Instance(instance),
            Err(why) => Decoded::Malformed(why),
        }
    }
}

/// As go-micro has it: an id with slashes is one name all the same.
fn key_of(id: &str) -> String {
    id.replace('/', "-")
}

fn read(service: &ServiceName, name: &str, node: &Node) -> std::result::Result<Instance, String> {
    let record = json::Object::parse(&node.value)?;
    let nodes = record.get("nodes").and_then(Value::as_array);
    let first = nodes.and_then(|nodes| json::Object::of(nodes.first()?));
    let first = first.ok_or("there is no node")?;
    let (host, port) = endpoint(first.text("address")?).ok_or("address is not host:port")?;
    // What the service says goes for its node, unless that says something else.
    let mut attributes = record.map("metadata")?;
    attributes.extend(first.map("metadata")?);
    let tags = tags::split(&mut attributes);
    let version = record.text(VERSION)?;
    if !version.is_empty() {
        attributes.insert(VERSION.to_owned(), version.to_owned());
    }
    json::check_count(&attributes)?;
    let id = Some(first.text("id")?).filter(|id| key_of(id) == name);
    Ok(Instance::new(
        service.clone(),
        id.unwrap_or(name),
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
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};

    fn layout() -> GoMicro {
        GoMicro::new(GoMicro::PREFIX).unwrap()
    }

    #[test]
    fn writes_what_go_micro_reads() {
        let plain = at("greeter", "10.0.0.1:80").id("greeter/1").unwrap();
        let bytes = r#"{"name":"greeter","version":"","metadata":null,"endpoints":null,"nodes":[{"id":"greeter/1","address":"10.0.0.1:80","metadata":null}]}"#;
        let expected = (
            "/micro/registry/greeter/greeter-1".to_owned(),
            bytes.to_owned(),
        );
        assert_eq!(entry(&layout(), &plain), expected);
        let full = plain.attributes([("version", "latest"), ("zone", "<eu>")]);
        let full = full.unwrap().tags(["a"]).unwrap();
        assert!(
            entry(&layout(), &full)
                .1
                .contains(r#""zone":"\u003ceu\u003e""#)
        );
        round_trips(&layout(), &full);
    }

    #[test]
    fn reads_what_go_micro_writes() {
        let key = "/micro/registry/greeter/greeter-1f";
        let value = br#"{"name":"greeter","version":"latest","metadata":{"a":"1","b":"1"},"endpoints":[{"name":"Say.Hello"}],"nodes":[{"metadata":{"b":"2","protocol":"mucp"},"id":"greeter-1f","address":"10.0.0.9:33421"}]}"#;
        let read = reads(&layout(), "greeter", key, value);
        assert_eq!(
            (read.id(), read.address()),
            ("greeter-1f", "10.0.0.9:33421")
        );
        let all: Vec<_> = read
            .attributes()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(all, ["a=1", "b=2", "protocol=mucp", "version=latest"]);
        for bad in [
            "{}",
            r#"{"nodes":[]}"#,
            r#"{"nodes":[{"address":"x"}]}"#,
            "null",
        ] {
            let read = decoded(&layout(), "greeter", key, bad.as_bytes());
            assert!(matches!(read, Decoded::Malformed(_)), "{bad}");
        }
    }
}
