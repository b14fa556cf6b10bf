//! One instance in the terms of Scalingo's etcd-discovery.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::layout::scalingo::{HTTP, HTTPS, HostRecord, parse_port};
use crate::model::{Attributes, Eligibility, Instance};
use crate::net::HostPort;

/// An instance as a host of Scalingo's etcd-discovery: public and private addresses, ports by scheme, and
/// credentials.
///
/// A host can be made of an instance of any layout; fields without a value are empty or false. Immutable.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Host {
    /// The public hostname; the private one if the host has no public hostname.
    pub hostname: String,
    /// The name of the service.
    pub service_name: String,
    /// The public ports, by scheme.
    pub ports: BTreeMap<String, u16>,
    /// The user name of the credentials, which all public hosts of a service share.
    pub user: String,
    /// The password of the credentials.
    pub password: String,
    /// True if the host is reachable at its public hostname.
    pub is_public: bool,
    /// The hostname inside the network.
    pub private_hostname: String,
    /// The ports inside the network, by scheme.
    pub private_ports: BTreeMap<String, u16>,
    /// True if the host is marked as critical, by the attribute `critical`.
    pub is_critical: bool,
    /// The shard that the host serves.
    pub shard: String,
    /// The instance id, unique within the service.
    pub uuid: String,
    /// The order of preference for [`Service::one`](super::Service::one): the lowest first.
    pub(super) rank: u8,
}

/// The rank of hosts that report that they can take no calls.
pub(super) const UNFIT_RANK: u8 = 2;

impl Host {
    /// Returns an instance as a host, in whichever layout the instance is stored.
    pub fn from_instance(instance: &Instance) -> Host {
        let record = HostRecord::from_instance(instance);
        Host {
            hostname: record.hostname,
            service_name: record.service_name,
            ports: valid_ports(&record.ports),
            user: record.user,
            password: record.password,
            is_public: record.public,
            private_hostname: record.private_hostname,
            private_ports: valid_ports(&record.private_ports),
            is_critical: record.critical,
            shard: record.shard,
            uuid: record.uuid,
            rank: match instance.eligibility() {
                Eligibility::Ineligible => UNFIT_RANK,
                Eligibility::Eligible if !instance.is_suspect() => 0,
                Eligibility::Eligible | Eligibility::LastResort => 1,
            },
        }
    }

    /// Returns the public URL, `scheme://user:password@host:port` followed by `path`. The login is left out
    /// if the host has no user, and is percent-encoded otherwise.
    ///
    /// An empty scheme selects `http` if the host has a port for it, else `https`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the host has no public port for
    /// the scheme.
    pub fn url(&self, scheme: &str, path: &str) -> Result<String> {
        self.url_at(&self.hostname, &self.ports, scheme, path)
    }

    /// Returns the URL inside the network, in the form of [`Host::url`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the host has no private port for
    /// the scheme.
    pub fn private_url(&self, scheme: &str, path: &str) -> Result<String> {
        self.url_at(&self.private_hostname, &self.private_ports, scheme, path)
    }

    fn url_at(
        &self,
        host: &str,
        ports: &BTreeMap<String, u16>,
        scheme: &str,
        path: &str,
    ) -> Result<String> {
        let guess = || [HTTP, HTTPS].into_iter().find(|s| ports.contains_key(*s));
        let scheme = match scheme {
            "" => guess().unwrap_or(HTTP),
            scheme => scheme,
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
        let address = HostPort::join(host, *port);
        Ok(format!("{scheme}://{login}{address}{path}"))
    }
}

/// Converts ports to numbers. A text that is no valid port is left out; the attributes still contain it.
fn valid_ports(ports: &Attributes) -> BTreeMap<String, u16> {
    let port = |(scheme, port): (&String, &String)| Some((scheme.clone(), parse_port(port)?));
    ports.iter().filter_map(port).collect()
}

/// Percent-encodes the user name or the password of a URL.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Masks the password, which must not appear in logs.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_empty() { "" } else { "***" };
        f.debug_struct("Host")
            .field("hostname", &self.hostname)
            .field("service_name", &self.service_name)
            .field("ports", &self.ports)
            .field("user", &self.user)
            .field("password", &password)
            .field("is_public", &self.is_public)
            .field("private_hostname", &self.private_hostname)
            .field("private_ports", &self.private_ports)
            .field("is_critical", &self.is_critical)
            .field("shard", &self.shard)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}
