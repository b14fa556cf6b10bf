//! The layout of ContainerPilot 2: `PREFIX/NAME/ID` is a directory with a TTL, and its file `service` contains the record.
//!
//! Attributes are stored in the member `attributes`, which ContainerPilot ignores.

use crate::error::Result;
use crate::kv::{Entry, Lifetime, Node, Prefix};
use crate::layout::{Decoded, Folder, Layout, json, registered_host};
use crate::model::{Instance, Registration, ServiceName, check_host};

/// The layout of ContainerPilot 2.
pub struct ContainerPilot {
    root: Folder,
}

const NAME: &str = "containerpilot";
const FILE: &str = "service";
const KNOWN: [&str; 6] = ["id", "name", "address", "port", "tags", "attributes"];

impl ContainerPilot {
    /// The default prefix of ContainerPilot.
    pub const PREFIX: &str = "/containerpilot";

    /// Creates the layout with its services under `prefix`.
    pub fn new(prefix: &str) -> Result<ContainerPilot> {
        Folder::new(prefix).map(|root| ContainerPilot { root })
    }
}

impl Layout for ContainerPilot {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.root.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let id = registration.instance_id();
        let folder = self.root.key(NAME, &registration.service, &id)?.as_prefix();
        let tags = &registration.tags;
        let record = json::Writer::new()
            .value("id", id)
            .value("name", registration.service.as_str())
            .value("address", registered_host(registration))
            .value("port", registration.port)
            .value("tags", (!tags.is_empty()).then(|| tags.clone()))
            .optional_map("attributes", &registration.attributes);
        Ok(vec![Entry {
            lifetime: Lifetime::LeasedDirectory,
            ..Entry::leased(folder.join(FILE)?, record.finish()?)
        }])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let rest = self.root.relative_path(service, node);
        let path = rest.and_then(|rest| rest.split_once('/'));
        let Some((id, _)) = path.filter(|(_, file)| !file.contains('/')) else {
            return Decoded::Ignored;
        };
        read(service, id, node).into()
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }
}

fn read(service: &ServiceName, id: &str, node: &Node) -> std::result::Result<Instance, String> {
    let record = json::Object::parse(&node.value)?;
    let host = check_host(record.text("address")?).map_err(|e| format!("address: {e}"))?;
    let port = record.get("port").and_then(json::port);
    let attributes = record.map("attributes")?;
    json::check_count(&attributes)?;
    Ok(Instance::new(
        service.clone(),
        id,
        host,
        port.ok_or("port is not a number from 1 to 65535")?,
        attributes,
        record.list("tags")?,
        node.created,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};
    use crate::model::OnConflict;

    fn layout() -> ContainerPilot {
        ContainerPilot::new(ContainerPilot::PREFIX).unwrap()
    }

    fn app() -> Registration {
        let app = Registration::at("app", "192.168.1.1:8000").unwrap();
        app.id("app-host1").unwrap()
    }

    /// S0.30, S0.31, S0.33, S0.34: the key, the bytes, the TTL of the directory.
    #[test]
    fn writes_what_containerpilot_writes() {
        let (key, value) = entry(&layout(), &app());
        assert_eq!(key, "/containerpilot/app/app-host1/service");
        let record =
            r#"{"id":"app-host1","name":"app","address":"192.168.1.1","port":8000,"tags":null}"#;
        assert_eq!(value, record);
        let lifetime = layout().encode(&app()).unwrap()[0].lifetime;
        assert_eq!(lifetime, Lifetime::LeasedDirectory);
        round_trips(&layout(), &app());
    }

    /// S0.32, S0.51: tags are written and read, so that a filter by them works.
    #[test]
    fn tags_and_attributes_are_stored() {
        let full = app().tags(["a,b", "c"]).unwrap();
        let full = full.attributes([("zone", "eu")]).unwrap();
        let (_, value) = entry(&layout(), &full);
        assert!(value.ends_with(r#""tags":["a,b","c"],"attributes":{"zone":"eu"}}"#));
        round_trips(&layout(), &full);
        round_trips(&layout(), &Registration::at("app", "[::1]:80").unwrap());
    }

    /// S0.19, S0.63: any file in the directory of an instance is a record; a directory without one is ignored.
    #[test]
    fn reads_what_containerpilot_writes() {
        let record = br#"{"id":"x","name":"app","address":"10.0.0.1","port":80,"tags":["t"]}"#;
        let read = reads(&layout(), "app", "/containerpilot/app/x/service", record);
        assert_eq!((read.id(), read.address()), ("x", "10.0.0.1:80"));
        assert_eq!(read.tags(), ["t"]);
        for key in ["/containerpilot/app/x", "/containerpilot/app/x/a/b"] {
            assert_eq!(decoded(&layout(), "app", key, record), Decoded::Ignored);
        }
        for bad in [
            "",
            "[]",
            r#"{"address":"a"}"#,
            r#"{"address":"a","port":0}"#,
        ] {
            let key = "/containerpilot/app/x/service";
            let read = decoded(&layout(), "app", key, bad.as_bytes());
            assert!(matches!(read, Decoded::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn unknown_members_survive_a_rewrite() {
        let entry = &layout().encode(&app()).unwrap()[0];
        let before = br#"{"id":"old","port":1,"owner":"ops"}"#;
        let kept = layout()
            .merge_existing(entry, before, OnConflict::Replace)
            .unwrap();
        assert!(kept.ends_with(br#""tags":null,"owner":"ops"}"#));
        let kept = layout().merge_existing(entry, b"rubbish", OnConflict::Replace);
        assert_eq!(kept.as_ref(), Some(&entry.value));
    }

    #[test]
    fn an_id_with_a_slash_is_refused() {
        let error = layout().encode(&at("app", "h:1").id("a/b").unwrap());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("one segment of the key")
        );
    }
}
