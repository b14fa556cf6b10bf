//! Conversion between the record of a host and the attributes of an instance.

use crate::error::{Error, Result};
use crate::layout::json;
use crate::model::{Attributes, Instance, Registration, check_host};

/// The contents of a record. Ports are strings, as in the record.
#[derive(Default)]
pub(crate) struct HostRecord {
    pub(crate) hostname: String,
    pub(crate) service_name: String,
    pub(crate) ports: Attributes,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) public: bool,
    pub(crate) private_hostname: String,
    pub(crate) private_ports: Attributes,
    pub(crate) critical: bool,
    pub(crate) shard: String,
    pub(crate) uuid: String,
    attributes: Attributes,
    tags: Vec<String>,
}

const PORTS: &str = "ports.";
const PRIVATE_PORTS: &str = "private_ports.";
pub(crate) const HTTP: &str = "http";
pub(crate) const HTTPS: &str = "https";

impl HostRecord {
    /// Converts an instance to a host.
    pub(crate) fn from_instance(instance: &Instance) -> HostRecord {
        let all = instance.attributes();
        let place = (instance.host(), instance.port());
        // An instance that was read may contain any text; a value that is not a boolean counts as false.
        let flag = |name: &str| all.get(name).is_some_and(|said| said == "true");
        let (public, critical) = (flag("public"), flag("critical"));
        HostRecord {
            public,
            critical,
            ..HostRecord::from_attributes(instance.service().as_str(), place, instance.id(), all)
        }
    }

    pub(crate) fn from_registration(registration: &Registration) -> Result<HostRecord> {
        let (service, all) = (registration.service.as_str(), &registration.attributes);
        let flag = |name: &str| match all.get(name).map(String::as_str) {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Error::invalid(format!(
                "attribute {name} is {other:?}: layout scalingo takes \"true\"; leave it out else"
            ))),
        };
        let place = (
            crate::layout::registered_host(registration),
            registration.port,
        );
        let own = || uuid(service, place.0, place.1);
        let id = registration.id.clone().unwrap_or_else(own);
        let host = HostRecord {
            public: flag("public")?,
            critical: flag("critical")?,
            ..HostRecord::from_attributes(service, place, &id, all)
        };
        // Attributes that the members cannot express, usually default values, are stored in `attributes`.
        let fields = host.fields();
        let rest = all.iter().filter(|(k, v)| fields.get(*k) != Some(*v));
        let attributes = rest.map(|(k, v)| (k.clone(), v.clone())).collect();
        let tags = registration.tags.clone();
        Ok(HostRecord {
            attributes,
            tags,
            ..host
        })
    }

    fn from_attributes(
        service: &str,
        (private, port): (&str, u16),
        id: &str,
        all: &Attributes,
    ) -> HostRecord {
        let text = |name: &str| all.get(name).cloned().unwrap_or_default();
        let scheme = all.get("scheme").map_or(HTTP, String::as_str);
        let mut private_ports = by_scheme(PRIVATE_PORTS, all);
        private_ports.insert(scheme.to_owned(), port.to_string());
        let ports = by_scheme(PORTS, all);
        HostRecord {
            hostname: or(&text("hostname"), private).to_owned(),
            service_name: service.to_owned(),
            ports: if ports.is_empty() {
                private_ports.clone()
            } else {
                ports
            },
            user: text("user"),
            password: text("password"),
            private_hostname: private.to_owned(),
            private_ports,
            shard: text("shard"),
            uuid: id.to_owned(),
            ..HostRecord::default()
        }
    }

    /// Returns the private host and port of the preferred scheme: `http`, else `https`, else the first one.
    pub(crate) fn place(&self) -> Option<(&str, u16)> {
        let ports = or_map(&self.private_ports, &self.ports);
        let private = or(&self.private_hostname, &self.hostname);
        let scheme = main_scheme(ports)?;
        Some((private, parse_port(ports.get(scheme)?)?))
    }

    /// Returns the contents of the members, except the address, as attributes.
    pub(crate) fn fields(&self) -> Attributes {
        let mut all = Attributes::new();
        let mut say = |name: &str, value: &str| {
            if !value.is_empty() {
                all.insert(name.to_owned(), value.to_owned());
            }
        };
        let private = or(&self.private_hostname, &self.hostname);
        let private_ports = or_map(&self.private_ports, &self.ports);
        let main = main_scheme(private_ports).unwrap_or(HTTP);
        say("user", &self.user);
        say("password", &self.password);
        say("shard", &self.shard);
        say("public", if self.public { "true" } else { "" });
        say("critical", if self.critical { "true" } else { "" });
        say(
            "hostname",
            if self.hostname == private {
                ""
            } else {
                &self.hostname
            },
        );
        say("scheme", if main == HTTP { "" } else { main });
        for (scheme, port) in private_ports.iter().filter(|(scheme, _)| *scheme != main) {
            say(&format!("{PRIVATE_PORTS}{scheme}"), port);
        }
        for (scheme, port) in self.ports.iter().filter(|_| self.ports != *private_ports) {
            say(&format!("{PORTS}{scheme}"), port);
        }
        all
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        json::Writer::new()
            .value("name", self.hostname.as_str())
            .value("service_name", self.service_name.as_str())
            .map("ports", &self.ports)
            .optional_string("user", &self.user)
            .optional_string("password", &self.password)
            .optional_bool("public", self.public)
            .optional_string("private_hostname", &self.private_hostname)
            .optional_map("private_ports", &self.private_ports)
            .optional_bool("critical", self.critical)
            .optional_string("shard", &self.shard)
            .optional_string("uuid", &self.uuid)
            .optional_map("attributes", &self.attributes)
            .optional_list("tags", &self.tags)
            .finish()
    }

    pub(super) fn parse(record: &json::Object) -> std::result::Result<HostRecord, String> {
        let text = |name: &str| record.text(name).map(str::to_owned);
        let host = HostRecord {
            hostname: text("name")?,
            service_name: text("service_name")?,
            ports: record.map("ports")?,
            user: text("user")?,
            password: text("password")?,
            public: record.flag("public")?,
            private_hostname: text("private_hostname")?,
            private_ports: record.map("private_ports")?,
            critical: record.flag("critical")?,
            shard: text("shard")?,
            uuid: text("uuid")?,
            ..HostRecord::default()
        };
        let private = or(&host.private_hostname, &host.hostname);
        check_host(private).map_err(|e| e.to_string())?;
        Ok(host)
    }
}

/// Returns the attributes that begin with `prefix`, without the prefix.
fn by_scheme(prefix: &str, all: &Attributes) -> Attributes {
    let named = |(name, port): (&String, &String)| {
        Some((name.strip_prefix(prefix)?.to_owned(), port.clone()))
    };
    all.iter().filter_map(named).collect()
}

fn main_scheme(ports: &Attributes) -> Option<&str> {
    let is_port = |scheme: &&str| {
        ports
            .get(*scheme)
            .is_some_and(|port| parse_port(port).is_some())
    };
    let usual = [HTTP, HTTPS].into_iter();
    usual.chain(ports.keys().map(String::as_str)).find(is_port)
}

/// Parses a valid port.
pub(crate) fn parse_port(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port > 0)
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn or_map<'a>(map: &'a Attributes, other: &'a Attributes) -> &'a Attributes {
    if map.is_empty() { other } else { map }
}

/// Returns the name of a host without an id: a UUID in the form of version 4, derived from the address, followed by the
/// host.
pub(crate) fn uuid(service: &str, host: &str, port: u16) -> String {
    // FNV-1a with 128 bits: different addresses only need different names.
    let step = |sum: u128, byte: u8| {
        (sum ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    let text = format!("{service} {host} {port}");
    let sum = text
        .bytes()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step);
    let hex = format!("{sum:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..],
    );
    format!("{a}-{b}-4{c}-a{d}-{e}-{host}")
}
