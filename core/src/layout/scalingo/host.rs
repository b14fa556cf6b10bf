//! A host of a service: its record, and the same as a view of an instance.

use std::fmt;

use crate::error::{Error, Result};
use crate::layout::json;
use crate::model::{Attributes, Instance, Registration, check_host};

/// What Scalingo's etcd-discovery knows of a host; of an instance that was read in another way, what
/// its attributes say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Where the public finds it; without a public address the private one.
    pub hostname: String,
    /// The service.
    pub service_name: String,
    /// The public ports, by scheme.
    pub ports: Attributes,
    /// The credentials, which all public hosts of a service share.
    pub user: String,
    /// See `user`.
    pub password: String,
    /// Whether the public finds it.
    pub public: bool,
    /// Where the others in its network find it.
    pub private_hostname: String,
    /// The private ports, by scheme.
    pub private_ports: Attributes,
    /// Whether it must not be missing.
    pub critical: bool,
    /// The shard that it serves.
    pub shard: String,
    /// Unique within the service.
    pub uuid: String,
    pub(super) attributes: Attributes,
    pub(super) tags: Vec<String>,
}

const PORTS: &str = "ports.";
const PRIVATE_PORTS: &str = "private_ports.";
const HTTP: &str = "http";
const HTTPS: &str = "https";

impl Host {
    /// What an instance says as a host.
    pub fn of(instance: &Instance) -> Host {
        let all = instance.attributes();
        let place = (instance.host(), instance.port());
        // An instance that was read may say anything; what is no flag is not set.
        let flag = |name: &str| all.get(name).is_some_and(|said| said == "true");
        let (public, critical) = (flag("public"), flag("critical"));
        Host {
            public,
            critical,
            ..Host::said(instance.service().as_str(), place, instance.id(), all)
        }
    }

    pub(super) fn of_registration(registration: &Registration) -> Result<Host> {
        let (service, all) = (registration.service.as_str(), &registration.attributes);
        let flag = |name: &str| match all.get(name).map(String::as_str) {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Error::invalid(format!(
                "attribute {name} is {other:?}: layout scalingo takes \"true\"; leave it out else"
            ))),
        };
        let place = (crate::layout::host(registration), registration.port);
        let own = || uuid(service, place.0, place.1);
        let id = registration.id.clone().unwrap_or_else(own);
        let host = Host {
            public: flag("public")?,
            critical: flag("critical")?,
            ..Host::said(service, place, &id, all)
        };
        // What the members do not say, as a rule because it goes without saying, rides along.
        let fields = host.fields();
        let rest = all.iter().filter(|(k, v)| fields.get(*k) != Some(*v));
        let attributes = rest.map(|(k, v)| (k.clone(), v.clone())).collect();
        let tags = registration.tags.clone();
        Ok(Host {
            attributes,
            tags,
            ..host
        })
    }

    fn said(service: &str, (private, port): (&str, u16), id: &str, all: &Attributes) -> Host {
        let text = |name: &str| all.get(name).cloned().unwrap_or_default();
        let scheme = all.get("scheme").map_or(HTTP, String::as_str);
        let mut private_ports = by_scheme(PRIVATE_PORTS, all);
        private_ports.insert(scheme.to_owned(), port.to_string());
        let ports = by_scheme(PORTS, all);
        Host {
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
            ..Host::default()
        }
    }

    /// Where the public finds it: `scheme://user:password@host:port` and the path. Without a scheme
    /// `http`, else `https`, whichever there is.
    pub fn url(&self, scheme: &str, path: &str) -> Result<String> {
        self.url_at(&self.hostname, &self.ports, scheme, path)
    }

    /// The same within its network.
    pub fn private_url(&self, scheme: &str, path: &str) -> Result<String> {
        if self.private_hostname.is_empty() {
            return self.url(scheme, path);
        }
        let ports = match self.private_ports.is_empty() {
            true => &self.ports,
            false => &self.private_ports,
        };
        self.url_at(&self.private_hostname, ports, scheme, path)
    }

    fn url_at(&self, host: &str, ports: &Attributes, scheme: &str, path: &str) -> Result<String> {
        let guess = || [HTTP, HTTPS].into_iter().find(|s| ports.contains_key(*s));
        let scheme = if scheme.is_empty() {
            guess().unwrap_or(HTTP)
        } else {
            scheme
        };
        let port = ports.get(scheme).ok_or_else(|| {
            let known: Vec<&str> = ports.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Error::invalid(format!(
                "{host} has no port for the scheme {scheme:?}; it has {known}"
            ))
        })?;
        let login = match self.user.as_str() {
            "" => String::new(),
            user => format!("{}:{}@", escape(user), escape(&self.password)),
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        Ok(format!("{scheme}://{login}{host}:{port}{path}"))
    }

    /// Private host and port of the scheme that counts: `http`, else `https`, else the first one.
    pub(super) fn place(&self) -> Option<(&str, u16)> {
        let ports = or_map(&self.private_ports, &self.ports);
        let private = or(&self.private_hostname, &self.hostname);
        let scheme = main_scheme(ports)?;
        Some((private, number(ports.get(scheme)?)?))
    }

    /// What the members say that goes beyond the address, as attributes.
    pub(super) fn fields(&self) -> Attributes {
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

    pub(super) fn write(&self) -> Result<Vec<u8>> {
        json::Writer::new()
            .value("name", self.hostname.as_str())
            .value("service_name", self.service_name.as_str())
            .map("ports", &self.ports)
            .some_text("user", &self.user)
            .some_text("password", &self.password)
            .some_flag("public", self.public)
            .some_text("private_hostname", &self.private_hostname)
            .some_map("private_ports", &self.private_ports)
            .some_flag("critical", self.critical)
            .some_text("shard", &self.shard)
            .some_text("uuid", &self.uuid)
            .some_map("attributes", &self.attributes)
            .some_list("tags", &self.tags)
            .finish()
    }

    pub(super) fn read(record: &json::Object) -> std::result::Result<Host, String> {
        let text = |name: &str| record.text(name).map(str::to_owned);
        let host = Host {
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
            ..Host::default()
        };
        let private = or(&host.private_hostname, &host.hostname);
        check_host(private).map_err(|e| e.to_string())?;
        Ok(host)
    }
}

/// A password belongs in no log.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_empty() { "" } else { "***" };
        f.debug_struct("Host")
            .field("hostname", &self.hostname)
            .field("service_name", &self.service_name)
            .field("ports", &self.ports)
            .field("user", &self.user)
            .field("password", &password)
            .field("public", &self.public)
            .field("private_hostname", &self.private_hostname)
            .field("private_ports", &self.private_ports)
            .field("critical", &self.critical)
            .field("shard", &self.shard)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}

/// The attributes that begin with `prefix`, without it.
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
            .is_some_and(|port| number(port).is_some())
    };
    let usual = [HTTP, HTTPS].into_iter();
    usual.chain(ports.keys().map(String::as_str)).find(is_port)
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port > 0)
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn or_map<'a>(map: &'a Attributes, other: &'a Attributes) -> &'a Attributes {
    if map.is_empty() { other } else { map }
}

/// A part of a login in a URL.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The name of a host that has none: a version 4 UUID to look at, the same each time for the same
/// place, and the host after it.
pub(super) fn uuid(service: &str, host: &str, port: u16) -> String {
    // FNV-1a of 128 bits: names that differ are to differ, nothing else.
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
