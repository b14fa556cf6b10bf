//! The layout of go-micro's registry in etcd: `/micro/registry/NAME/ID` contains the service with one node.
//!
//! The attribute `version` is the service's version; the other attributes and the tags are the node's metadata.

use serde_json::Value;

use crate::error::Result;
use crate::kv::{Entry, Node, Prefix};
use crate::layout::{Decoded, Folder, Layout, json, parse_endpoint, tags};
use crate::model::{Instance, OnConflict, Registration, ServiceName};

/// The layout of go-micro.
pub struct GoMicro {
    root: Folder,
}

const NAME: &str = "go-micro";
const VERSION: &str = "version";
const ENDPOINTS: &str = "endpoints";
const KNOWN: [&str; 5] = ["name", VERSION, "metadata", ENDPOINTS, "nodes"];

impl GoMicro {
    /// The default prefix of go-micro.
    pub const PREFIX: &str = "/micro/registry";

    /// Creates the layout with its services under `prefix`.
    pub fn new(prefix: &str) -> Result<GoMicro> {
        Folder::new(prefix).map(|root| GoMicro { root })
    }
}

impl Layout for GoMicro {
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
        let metadata = tags::join(NAME, &metadata, &registration.tags)?;
        let node = json::Writer::new()
            .value("id", id.as_str())
            .value("address", registration.address())
            .map("metadata", &metadata);
        let record = json::Writer::new()
            .value("name", registration.service.as_str())
            .value(VERSION, version)
            .value("metadata", Value::Null)
            .value(ENDPOINTS, Value::Null)
            .list_of("nodes", node);
        let key = self.root.key(NAME, &registration.service, &key_of(&id))?;
        Ok(vec![Entry::leased(key, record.finish()?)])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let Some(name) = self.root.child_name(service, node) else {
            return Decoded::Ignored;
        };
        read(service, name, node).into()
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }

    /// Keeps the endpoints, which describe the service's methods and are unknown to its node.
    fn merge_existing(&self, entry: &Entry, before: &[u8], _: OnConflict) -> Option<Vec<u8>> {
        let kept = json::keep_unknown(&entry.value, before, &KNOWN);
        let mut text = String::from_utf8(kept.unwrap_or_else(|| entry.value.clone())).ok()?;
        let before = json::Object::parse(before).ok();
        if let Some(endpoints) = before.as_ref().and_then(|before| before.get(ENDPOINTS)) {
            // Quotes are escaped inside strings, so this text occurs only as the member.
            let member = |value: &Value| format!(r#","{ENDPOINTS}":{value},"#);
            text = text.replacen(&member(&Value::Null), &member(endpoints), 1);
        }
        // A record that would be too large is written without the endpoints.
        Some(json::encode(&text).unwrap_or_else(|_| entry.value.clone()))
    }
}

/// Returns the key of an id as go-micro does: an id with slashes is one segment.
fn key_of(id: &str) -> String {
    id.replace('/', "-")
}

fn read(service: &ServiceName, name: &str, node: &Node) -> std::result::Result<Instance, String> {
    let record = json::Object::parse(&node.value)?;
    let nodes = record.get("nodes").and_then(Value::as_array);
    let first = nodes.and_then(|nodes| json::Object::of(nodes.first()?));
    let first = first.ok_or("there is no node")?;
    let (host, port) = parse_endpoint(first.text("address")?).ok_or("address is not host:port")?;
    // The service's values apply to its node, unless the node overrides them.
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

    #[test]
    fn unknown_members_survive_a_rewrite() {
        let odd = r#"a,"endpoints":null,b"#;
        let greeter = at("greeter", "h:1").attributes([("version", odd)]).unwrap();
        let entry = &layout().encode(&greeter).unwrap()[0];
        let before = br#"{"name":"greeter","version":"1","metadata":{"a":"b"},"endpoints":[{"name":"Say<>"}],"nodes":[],"owner":"ops"}"#;
        let kept = layout()
            .merge_existing(entry, before, OnConflict::Replace)
            .unwrap();
        let kept = String::from_utf8(kept).unwrap();
        let end = r#""metadata":null,"endpoints":[{"name":"Say\u003c\u003e"}],"nodes":[{"id":"h:1","address":"h:1","metadata":null}],"owner":"ops"}"#;
        assert!(kept.ends_with(end), "{kept}");
        let key = entry.key.as_str();
        let read = reads(&layout(), "greeter", key, kept.as_bytes());
        assert_eq!(read, greeter.instance(7));
        let kept = layout().merge_existing(entry, b"rubbish", OnConflict::Replace);
        assert_eq!(kept.as_ref(), Some(&entry.value));
    }
}
