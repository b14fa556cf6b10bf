//! The documents that embassy reads and service-registrar writes: `PREFIX/ENVIRONMENT/NAME/PORT/HOST_PORT/HOSTNAME` contains
//! JSON about a container.
//!
//! The attributes `host`, `name`, `image`, `hostname`, `proto` and `port` (the one inside the container) are members of
//! the same name; the others are its environment, `env`. Any leaf below NAME is read, at any depth. A document needs only an
//! address and a port; a bare `ip:port` is accepted as well.

use crate::error::Result;
use crate::kv::{Entry, Key, Node, Prefix, V2Events};
use crate::layout::{Decoded, Folder, Layout, check_segment, json, registered_host, registrator};
use crate::model::{Attributes, Instance, MAX_ATTRIBUTES, Registration, ServiceName, check_host};
use crate::net::HostPort;

/// The layout of embassy.
pub struct Embassy {
    root: Folder,
}

const NAME: &str = "embassy";
/// The members that are attributes, with their default values.
const FIELDS: [&str; 6] = ["host", "name", "image", "hostname", "proto", "port"];
const KNOWN: [&str; 12] = [
    "id",
    "host",
    "ipaddress",
    "env",
    "tags",
    "name",
    "image",
    "hostname",
    "host_port",
    "proto",
    "port",
    "path",
];

impl Embassy {
    /// The default prefix.
    pub const PREFIX: &str = "/services";
    /// The default environment.
    pub const ENVIRONMENT: &str = "prod";

    /// Creates the layout with the services of `environment` under `prefix`.
    pub fn new(prefix: &str, environment: &str) -> Result<Embassy> {
        check_segment(NAME, "environment", environment)?;
        let root = Prefix::new(prefix)?.join(environment)?.as_prefix();
        let root = Folder(root);
        Ok(Embassy { root })
    }

    /// Returns the key of a document.
    fn key(&self, service: &ServiceName, document: &Document) -> Result<Key> {
        let Document { fields, .. } = document;
        let path = format!("{}/{}/{}", fields[5], document.port, document.leaf);
        self.prefix(service)?.join(&path)
    }
}

/// The contents of a document.
struct Document {
    id: String,
    host: String,
    port: u16,
    /// The last segment of the key.
    leaf: String,
    /// The values, in the order of `FIELDS`.
    fields: [String; 6],
    env: Attributes,
    tags: Vec<String>,
}

/// Returns the default values of the fields.
fn defaults(host: &str, port: u16, leaf: &str) -> [String; 6] {
    let port = port.to_string();
    [host, "", "", leaf, "tcp", &port].map(str::to_owned)
}

impl Document {
    fn of(registration: &Registration) -> Result<Document> {
        let host = registered_host(registration);
        let leaf = registration.id.as_deref().unwrap_or(host);
        check_segment(NAME, "id", leaf)?;
        let mut env = registration.attributes.clone();
        let mut fields = defaults(host, registration.port, leaf);
        for (name, field) in FIELDS.into_iter().zip(&mut fields) {
            if let Some(said) = env.remove(name) {
                *field = said;
            }
        }
        check_segment(NAME, "attribute port", &fields[5])?;
        Ok(Document {
            id: registration.instance_id(),
            host: host.to_owned(),
            port: registration.port,
            leaf: leaf.to_owned(),
            fields,
            env,
            tags: registration.tags.clone(),
        })
    }

    fn write(&self, key: &Key) -> Result<Vec<u8>> {
        let [host, name, image, hostname, proto, port] = &self.fields;
        let env: serde_json::Map<_, _> = self
            .env
            .iter()
            .map(|(k, v)| (k.clone(), v.clone().into()))
            .collect();
        json::Writer::new()
            .value("id", self.id.as_str())
            .value("host", host.as_str())
            .value("ipaddress", self.host.as_str())
            .value("env", env)
            .value("tags", self.tags.clone())
            .value("name", name.as_str())
            .value("image", image.as_str())
            .value("hostname", hostname.as_str())
            .value("host_port", self.port.to_string())
            .value("proto", proto.as_str())
            .value("port", port.as_str())
            .value("path", key.as_str())
            .finish()
    }

    /// Parses a document; none if it has no address and therefore belongs to another program.
    fn read(path: &str, value: &[u8]) -> Option<std::result::Result<Document, String>> {
        let leaf = path.rsplit('/').next().unwrap_or(path);
        if let Some((host, port)) = registrator::read(value) {
            return Some(Ok(Document {
                id: String::new(),
                host: host.to_owned(),
                port,
                leaf: leaf.to_owned(),
                fields: defaults(host, port, leaf),
                env: Attributes::new(),
                tags: Vec::new(),
            }));
        }
        match json::Object::parse(value) {
            Ok(object) if object.has("ipaddress") => Some(Document::read_object(leaf, &object)),
            Ok(_) => None,
            Err(why) => Some(Err(format!("{why}; and it is not ip:port"))),
        }
    }

    fn read_object(leaf: &str, object: &json::Object) -> std::result::Result<Document, String> {
        let host = object.text("ipaddress")?;
        let host = check_host(host).map_err(|e| format!("ipaddress: {e}"))?;
        let outside = object.get("host_port").or_else(|| object.get("port"));
        let port = outside
            .and_then(json::port)
            .ok_or("neither host_port nor port is a number from 1 to 65535")?;
        let mut fields = defaults(host, port, leaf);
        for (name, field) in FIELDS.into_iter().zip(&mut fields) {
            match object.get(name) {
                None => {}
                Some(serde_json::Value::String(said)) => field.clone_from(said),
                Some(other) => *field = other.to_string(),
            }
        }
        Ok(Document {
            id: object.text("id")?.to_owned(),
            host: host.to_owned(),
            port,
            leaf: leaf.to_owned(),
            fields,
            env: object.map("env")?,
            tags: object.list("tags")?,
        })
    }

    /// Returns the environment and the fields that differ from their defaults. A container may have more variables than an
    /// instance has attributes; the fields come first.
    fn attributes(&self) -> Attributes {
        let usual = defaults(&self.host, self.port, &self.leaf);
        let said = FIELDS.into_iter().zip(&self.fields).zip(&usual);
        let said = said.filter(|((_, field), usual)| field != usual);
        let mut all: Attributes = said
            .map(|((name, field), _)| (name.to_owned(), field.clone()))
            .collect();
        for (name, value) in &self.env {
            if all.len() < MAX_ATTRIBUTES && !name.is_empty() {
                all.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        all
    }
}

impl Layout for Embassy {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.root.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let document = Document::of(registration)?;
        let key = self.key(&registration.service, &document)?;
        let value = document.write(&key)?;
        Ok(vec![Entry::leased(key, value).v2_events(V2Events::Set)])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        let Some(path) = self.root.relative_path(service, node) else {
            return Decoded::Ignored;
        };
        let document = match Document::read(path, &node.value) {
            Some(Ok(document)) => document,
            Some(Err(why)) => return Decoded::Malformed(why),
            None => return Decoded::Ignored,
        };
        // A container with several ports has several documents, so its id alone is not unique.
        let address = HostPort::join(&document.host, document.port);
        let own = document.id == address || document.id == document.leaf;
        let id = if own { &document.id } else { path };
        Decoded::Instance(Instance::new(
            service.clone(),
            id,
            &document.host,
            document.port,
            document.attributes(),
            document.tags,
            node.created,
        ))
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{at, decoded, entry, reads, round_trips};

    fn layout() -> Embassy {
        Embassy::new(Embassy::PREFIX, Embassy::ENVIRONMENT).unwrap()
    }

    /// S3.20, S3.21: the path, the members in their order, the ports as texts.
    #[test]
    fn writes_what_service_registrar_writes() {
        let fields = [
            ("host", "fury"),
            ("name", "/trusting_shockley"),
            ("image", "eboraas/apache"),
            ("port", "80"),
            ("ENVIRONMENT", "prod"),
            ("NAME", "apache"),
        ];
        let apache = at("apache", "192.168.13.90:49161")
            .id("13532987eae2")
            .unwrap();
        let apache = apache.attributes(fields).unwrap();
        let (key, value) = entry(&layout(), &apache);
        assert_eq!(key, "/services/prod/apache/80/49161/13532987eae2");
        let document = r#"{"id":"13532987eae2","host":"fury","ipaddress":"192.168.13.90","env":{"ENVIRONMENT":"prod","NAME":"apache"},"tags":[],"name":"/trusting_shockley","image":"eboraas/apache","hostname":"13532987eae2","host_port":"49161","proto":"tcp","port":"80","path":"/services/prod/apache/80/49161/13532987eae2"}"#;
        assert_eq!(value, document);
        round_trips(&layout(), &apache);
        round_trips(&layout(), &at("apache", "[::1]:80").tags(["a,b"]).unwrap());
    }

    /// S3.14, S3.21, S3.23, S3.42: host_port before port, and one of them is enough.
    #[test]
    fn reads_documents_of_both_generations() {
        let full = br#"{"id":"13532987eae2831eb7d4","host":"fury","ipaddress":"192.168.13.90","env":{"HOME":"/"},"tags":["a"],"name":"/x","image":"i","hostname":"13532987eae2","host_port":"49161","proto":"tcp","port":"80","path":"p"}"#;
        let read = reads(
            &layout(),
            "apache",
            "/services/prod/apache/80/49161/13532987eae2",
            full,
        );
        assert_eq!(read.id(), "80/49161/13532987eae2");
        assert_eq!(
            (read.address(), read.tags()),
            ("192.168.13.90:49161", &["a".to_owned()][..])
        );
        let all: Vec<_> = read
            .attributes()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(
            all,
            ["HOME=/", "host=fury", "image=i", "name=/x", "port=80"]
        );
        for (minimal, address) in [
            (r#"{"ipaddress":"10.0.0.1","port":"80"}"#, "10.0.0.1:80"),
            (
                r#"{"ipaddress":"10.0.0.1","host_port":"81"}"#,
                "10.0.0.1:81",
            ),
            ("10.0.0.1:82", "10.0.0.1:82"),
        ] {
            let read = reads(
                &layout(),
                "apache",
                "/services/prod/apache/x",
                minimal.as_bytes(),
            );
            assert_eq!(
                (read.address(), read.attributes().len()),
                (address, 0),
                "{minimal}"
            );
        }
    }

    /// S3.14 and the collisions: a malformed leaf is reported, a document of another program is ignored.
    #[test]
    fn a_bad_leaf_hides_no_other() {
        let key = "/services/prod/apache/x";
        let read = |value: &str| decoded(&layout(), "apache", key, value.as_bytes());
        for bad in [
            "",
            "{",
            r#"{"ipaddress":"a b","port":"1"}"#,
            r#"{"ipaddress":"a","port":"0"}"#,
        ] {
            assert!(matches!(read(bad), Decoded::Malformed(_)), "{bad}");
        }
        assert_eq!(read(r#"{"service_version":"1.0"}"#), Decoded::Ignored);
    }

    #[test]
    fn more_variables_than_attributes_hide_no_field() {
        let env: Vec<String> = (0..99).map(|n| format!(r#""V{n}":"""#)).collect();
        let env = env.join(",");
        let value = format!(r#"{{"ipaddress":"a","port":"1","image":"i","env":{{{env}}}}}"#);
        let read = reads(
            &layout(),
            "apache",
            "/services/prod/apache/x",
            value.as_bytes(),
        );
        assert_eq!(read.attributes().len(), MAX_ATTRIBUTES);
        assert_eq!(read.attributes()["image"], "i");
    }
}
