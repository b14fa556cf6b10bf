//! The layout of gRPC's resolver in etcd (`naming/endpoints`): the target is `PREFIX/NAME`, and each key under it contains
//! `{"Op":0,"Addr":"host:port","Metadata":…}`.
//!
//! Attributes and tags are the metadata. Metadata of other programs may have another shape: a value that is not a string
//! appears as JSON, and metadata that is not an object as the attribute `metadata`.

use serde_json::Value;

use crate::error::Result;
use crate::kv::{Entry, Node, Prefix};
use crate::layout::{Decoded, Folder, Layout, json, parse_endpoint, tags};
use crate::model::{Attributes, Instance, Registration, ServiceName};

/// The layout of gRPC's etcd resolver.
pub struct Grpc {
    root: Folder,
}

const NAME: &str = "grpc";
const KNOWN: [&str; 3] = ["Op", "Addr", "Metadata"];

impl Grpc {
    /// The default prefix of the targets.
    pub const PREFIX: &str = "/grpc";

    /// Creates the layout with its targets under `prefix`.
    pub fn new(prefix: &str) -> Result<Grpc> {
        Folder::new(prefix).map(|root| Grpc { root })
    }
}

impl Layout for Grpc {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.root.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let id = registration.instance_id();
        let metadata = tags::join(NAME, &registration.attributes, &registration.tags)?;
        let record = json::Writer::new()
            .value("Op", 0)
            .value("Addr", registration.address())
            .map("Metadata", &metadata);
        let key = self.root.key(NAME, &registration.service, &id)?;
        Ok(vec![Entry::leased(key, record.finish()?)])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let Some(id) = self.root.relative_path(service, node) else {
            return Decoded::Ignored;
        };
        let record = match json::Object::parse(&node.value) {
            Ok(record) => record,
            Err(why) => return Decoded::Malformed(why),
        };
        // A record marked as deleted, or without an address, is not an instance.
        let op = record.get("Op").and_then(Value::as_u64).unwrap_or(0);
        if op != 0 || !record.has("Addr") {
            return Decoded::Ignored;
        }
        read(service, id, node, &record).into()
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }
}

fn read(
    service: &ServiceName,
    id: &str,
    node: &Node,
    record: &json::Object,
) -> std::result::Result<Instance, String> {
    let (host, port) = parse_endpoint(record.text("Addr")?).ok_or("Addr is not host:port")?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut attributes: Attributes = match record.get("Metadata") {
        None => Attributes::new(),
        Some(Value::Object(all)) => all.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
        Some(other) => [("metadata".to_owned(), text(other))].into(),
    };
    let tags = tags::split(&mut attributes);
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
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};

    fn layout() -> Grpc {
        Grpc::new(Grpc::PREFIX).unwrap()
    }

    #[test]
    fn writes_what_the_endpoint_manager_writes() {
        let plain = at("web", "10.0.0.1:80");
        let bytes = r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#;
        let expected = ("/grpc/web/10.0.0.1:80".to_owned(), bytes.to_owned());
        assert_eq!(entry(&layout(), &plain), expected);
        let full = plain.attributes([("b", "<2>"), ("a", "1")]).unwrap();
        let full = full.tags(["x", "y"]).unwrap();
        let bytes = r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"a":"1","b":"\u003c2\u003e","tags":"x,y"}}"#;
        assert_eq!(entry(&layout(), &full).1, bytes);
        round_trips(&layout(), &full);
        round_trips(&layout(), &at("web", "[::1]:80").id("mine").unwrap());
    }

    #[test]
    fn reads_metadata_of_any_shape() {
        let meta = |meta: &str| {
            let value = format!(r#"{{"Op":0,"Addr":"h:1","Metadata":{meta}}}"#);
            let read = reads(&layout(), "web", "/grpc/web/deep/1", value.as_bytes());
            assert_eq!(read.id(), "deep/1");
            let all = read.attributes().iter();
            all.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
        };
        assert_eq!(meta("null"), [""; 0]);
        assert_eq!(meta(r#""v1""#), ["metadata=v1"]);
        assert_eq!(meta(r#"{"w":3,"z":"eu"}"#), ["w=3", "z=eu"]);
        assert_eq!(meta("[1]"), ["metadata=[1]"]);
    }

    #[test]
    fn deleted_records_are_ignored_and_malformed_ones_reported() {
        let read = |value: &str| decoded(&layout(), "web", "/grpc/web/1", value.as_bytes());
        assert_eq!(read(r#"{"Op":1,"Addr":"h:1"}"#), Decoded::Ignored);
        assert_eq!(read(r#"{"Op":0}"#), Decoded::Ignored);
        for bad in ["", "h:1", r#"{"Addr":"h"}"#, r#"{"Addr":7}"#] {
            assert!(matches!(read(bad), Decoded::Malformed(_)), "{bad}");
        }
    }
}
