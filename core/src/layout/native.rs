//! The layout of Flynn's go-discover: `/discover/services/NAME/HOST:PORT` contains a JSON object of string attributes, or
//! `null` if there are none.
//!
//! The address is the id. Tags are stored in the attribute `tags`, joined by commas.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kv::{Entry, MAX_VALUE_BYTES, Node, Prefix, V2Events};
use crate::layout::{Decoded, Layout, json, parse_endpoint, path_in_service, tags};
use crate::model::{Attributes, Instance, Metadata, MetadataInterner, Registration, ServiceName};

/// The native layout.
pub struct Native;

const ROOT: &str = "/discover/services/";
const NAME: &str = "native";

impl Layout for Native {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        Prefix::new(&format!("{ROOT}{service}"))
    }

    fn root(&self) -> Option<Prefix> {
        Prefix::new(ROOT).ok()
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let address = registration.address();
        let id = registration.instance_id();
        if id != address {
            return Err(Error::invalid(format!(
                "id {id:?}: layout native names an instance by its address, {address}; leave the id out"
            )));
        }
        let key = self.prefix(&registration.service)?.join(&address)?;
        let value = write(&registration.attributes, &registration.tags)?;
        Ok(vec![
            Entry::leased(key, value).v2_events(V2Events::ChangedValue),
        ])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        decoded(service, node, || read(&node.value).map(Arc::new))
    }

    /// Decodes a record once per distinct value: most records contain nothing specific to one instance.
    fn decode_among(
        &self,
        service: &ServiceName,
        node: &Node,
        others: &mut MetadataInterner,
    ) -> Decoded {
        decoded(service, node, || others.get_or_parse(&node.value, read))
    }
}

fn decoded(
    service: &ServiceName,
    node: &Node,
    said: impl FnOnce() -> std::result::Result<Arc<Metadata>, String>,
) -> Decoded {
    let name = path_in_service(ROOT, service, &node.key);
    // Deeper keys, and keys that are not an address, belong to other programs.
    let Some((name, (host, port))) = name.and_then(|name| Some((name, parse_endpoint(name)?)))
    else {
        return Decoded::Ignored;
    };
    let instance =
        |said| Instance::with_metadata(said, service.clone(), name, host, port, node.created);
    said().map(instance).into()
}

fn write(attributes: &Attributes, tags: &[String]) -> Result<Vec<u8>> {
    let all = tags::join(NAME, attributes, tags)?;
    json::encode(&json::map_or_null(&all).to_string())
}

fn read(value: &[u8]) -> std::result::Result<Metadata, String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!(
            "the value has {} bytes; the limit is {MAX_VALUE_BYTES}",
            value.len()
        ));
    }
    let parsed: Option<Attributes> = serde_json::from_slice(value)
        .map_err(|e| format!("the value is not a JSON object of strings, or null: {e}"))?;
    let mut attributes = parsed.unwrap_or_default();
    let tags = tags::split(&mut attributes);
    json::check_count(&attributes)?;
    Ok(Metadata::new(attributes, tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn node(key: &str, value: &[u8]) -> Node {
        Node {
            key: crate::kv::Key::new(key).unwrap(),
            value: value.into(),
            created: 7,
            modified: 7,
            owner: 0,
        }
    }

    /// Row S1.20 of the specification of the older system, byte for byte.
    #[test]
    fn writes_what_go_discover_writes() {
        let plain = Registration::at("web", "127.0.0.1:9876").unwrap();
        let with = plain.clone().attributes([("id", "cache1")]).unwrap();
        let entry = |r: &Registration| Native.encode(r).unwrap().remove(0);
        assert_eq!(
            entry(&plain).key.as_str(),
            "/discover/services/web/127.0.0.1:9876"
        );
        assert_eq!(entry(&plain).value, b"null");
        assert_eq!(entry(&with).value, br#"{"id":"cache1"}"#);
    }

    #[test]
    fn unsupported_registrations_are_refused() {
        let web = || Registration::at("web", "h:1").unwrap();
        for (registration, names) in [
            (web().id("mine").unwrap(), "id"),
            (web().tags(["a,b"]).unwrap(), "tag"),
            (web().attributes([("tags", "a")]).unwrap(), "attribute"),
        ] {
            let error = Native.encode(&registration).unwrap_err().to_string();
            assert!(error.starts_with(names), "{error}");
        }
    }

    #[test]
    fn an_accepted_registration_at_the_limits_can_be_read() {
        let all = (0..64).map(|n| (n.to_string(), "v"));
        let full = Registration::at("web", "h:1")
            .unwrap()
            .attributes(all)
            .unwrap();
        let full = full.tags(["t"]).unwrap();
        let entry = Native.encode(&full).unwrap().remove(0);
        let node = node(entry.key.as_str(), &entry.value);
        assert_eq!(
            Native.decode(&web(), &node),
            Decoded::Instance(full.instance(7))
        );
        // An escape turns one byte into six.
        let long = [("k", "\x01".repeat(60_000))];
        let long = Registration::at("web", "h:1")
            .unwrap()
            .attributes(long)
            .unwrap();
        assert!(
            Native
                .encode(&long)
                .unwrap_err()
                .to_string()
                .contains("262144")
        );
    }

    #[test]
    fn a_bad_record_is_malformed_and_a_foreign_key_is_ignored() {
        let at = "/discover/services/web/h:1";
        for value in [
            &b""[..],
            b"{",
            b"[]",
            br#"{"a":1}"#,
            b"\xff",
            &[b'['; 100_000],
        ] {
            assert!(matches!(
                Native.decode(&web(), &node(at, value)),
                Decoded::Malformed(_)
            ));
        }
        for key in [
            "/discover/services/web/h",
            "/discover/services/web/a/h:1",
            "/other/h:1",
        ] {
            assert_eq!(
                Native.decode(&web(), &node(key, b"null")),
                Decoded::Ignored,
                "{key}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_written_record_is_read_back(
            host in "[a-z]{1,8}|::1|10\\.0\\.0\\.[0-9]",
            port in 1u16..,
            attributes in proptest::collection::btree_map("[^t\\x00]{1,9}", "[^\\x00]{0,9}", 0..5),
            tags in proptest::collection::vec("[a-z]{1,5}", 0..4),
        ) {
            prop_assume!(!attributes.contains_key("weight"));
            let made = Registration::new("web", port).unwrap().host(&host).unwrap()
                .attributes(attributes).unwrap().tags(tags).unwrap();
            let entry = Native.encode(&made).unwrap().remove(0);
            prop_assert!(entry.key.strip_prefix(&Native.prefix(&web()).unwrap()).is_some());
            let read = Native.decode(&web(), &node(entry.key.as_str(), &entry.value));
            prop_assert_eq!(read, Decoded::Instance(made.instance(7)));
        }

        #[test]
        fn decoding_never_panics(name in "[^/]{1,20}", value: Vec<u8>) {
            let _ = Native.decode(&web(), &node(&format!("/discover/services/web/{name}"), &value));
        }
    }
}
