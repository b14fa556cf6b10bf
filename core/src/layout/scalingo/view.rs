//! What a program sees of a fleet of etcd-discovery: the service, and each of its hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::host::{HTTP, HTTPS, Record, number};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Attributes, Eligibility, Instance};
use crate::net::HostPort;

/// What Scalingo's etcd-discovery knows of a host; of an instance that was read in another layout, what
/// its attributes say. Immutable, as the instance is.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Host {
    /// Where the public finds it; without a public address the private one.
    pub hostname: String,
    /// The service.
    pub service_name: String,
    /// The public ports, by scheme.
    pub ports: BTreeMap<String, u16>,
    /// The credentials, which all public hosts of a service share.
    pub user: String,
    /// See `user`.
    pub password: String,
    /// Whether the public finds it.
    pub is_public: bool,
    /// Where the others in its network find it.
    pub private_hostname: String,
    /// The private ports, by scheme.
    pub private_ports: BTreeMap<String, u16>,
    /// Whether it must not be missing.
    pub is_critical: bool,
    /// The shard that it serves.
    pub shard: String,
    /// Unique within the service: the id of the instance.
    pub uuid: String,
    /// Whom to choose first: the lowest.
    rank: u8,
}

/// The rank of those that say that they can take no calls.
const UNFIT: u8 = 2;

impl Host {
    /// What an instance says as a host.
    pub fn of(instance: &Instance) -> Host {
        let said = Record::of(instance);
        Host {
            hostname: said.hostname,
            service_name: said.service_name,
            ports: typed(&said.ports),
            user: said.user,
            password: said.password,
            is_public: said.public,
            private_hostname: said.private_hostname,
            private_ports: typed(&said.private_ports),
            is_critical: said.critical,
            shard: said.shard,
            uuid: said.uuid,
            rank: match instance.eligibility() {
                Eligibility::Ineligible => UNFIT,
                Eligibility::Eligible if !instance.is_suspect() => 0,
                Eligibility::Eligible | Eligibility::LastResort => 1,
            },
        }
    }

    /// Where the public finds it: `scheme://user:password@host:port` and the path. Without a scheme
    /// `http`, else `https`, whichever there is.
    pub fn url(&self, scheme: &str, path: &str) -> Result<String> {
        self.url_at(&self.hostname, &self.ports, scheme, path)
    }

    /// The same within its network.
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

/// The ports that are ports; what else is said there, the attributes say.
fn typed(ports: &Attributes) -> BTreeMap<String, u16> {
    let port = |(scheme, port): (&String, &String)| Some((scheme.clone(), number(port)?));
    ports.iter().filter_map(port).collect()
}

/// A part of a login in a URL.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
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
            .field("is_public", &self.is_public)
            .field("private_hostname", &self.private_hostname)
            .field("private_ports", &self.private_ports)
            .field("is_critical", &self.is_critical)
            .field("shard", &self.shard)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}

/// A service as etcd-discovery knows it: the hosts that were online when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    name: String,
    hosts: Vec<Host>,
    /// The shard that all of them serve, if it was asked for.
    shard: Option<String>,
}

impl Service {
    /// What these say, which are online, oldest first.
    pub(crate) fn of(name: &str, online: &[Arc<Instance>]) -> Service {
        Service {
            name: name.to_owned(),
            hosts: online.iter().map(|instance| Host::of(instance)).collect(),
            shard: None,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All its hosts, oldest first.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// The oldest host, which is the leader.
    pub fn first(&self) -> Option<&Host> {
        self.hosts.first()
    }

    /// Any host at random, of those that are fit for calls.
    pub fn one(&self) -> Option<&Host> {
        let able = self.hosts.iter().filter(|host| host.rank < UNFIT);
        let best = able.clone().map(|host| host.rank).min()?;
        let best: Vec<&Host> = able.filter(|host| host.rank == best).collect();
        fastrand::choice(best)
    }

    /// The same with the hosts of one shard alone.
    pub fn shard(&self, shard: &str) -> Service {
        let of_shard = self.hosts.iter().filter(|host| host.shard == shard);
        Service {
            name: self.name.clone(),
            hosts: of_shard.cloned().collect(),
            shard: Some(shard.to_owned()),
        }
    }

    /// Whether the public finds it: any host is public.
    pub fn is_public(&self) -> bool {
        self.hosts.iter().any(|host| host.is_public)
    }

    /// Whether it must not be missing: any host is critical.
    pub fn is_critical(&self) -> bool {
        self.hosts.iter().any(|host| host.is_critical)
    }

    /// Where it is found: at the public address that the last of its public hosts brought; where there is
    /// none, or a shard is asked for, that of one host. Scheme and path as for [`Host::url`].
    pub fn url(&self, scheme: &str, path: &str) -> Result<String> {
        let public = || self.hosts.iter().rfind(|host| host.is_public);
        let host = match self.shard {
            None => public().or_else(|| self.one()),
            Some(_) => self.one(),
        };
        let nobody = || {
            let shard = self.shard.as_ref();
            let of = shard.map_or(String::new(), |shard| format!(" of shard {shard:?}"));
            let text = format!("no host{of} of service {} is online", self.name);
            Error::new(ErrorKind::NotFound, text)
        };
        host.ok_or_else(nobody)?.url(scheme, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::at;

    /// Where a host is, and its attributes.
    type Metadata<'a> = (&'a str, &'a [(&'a str, &'a str)]);

    fn service(hosts: &[Metadata<'_>]) -> Service {
        let instance = |(at, (address, fields)): (u64, &Metadata<'_>)| {
            let host = self::at("api", address);
            let host = host.attributes(fields.iter().copied()).unwrap();
            Arc::new(host.instance(at))
        };
        let online: Vec<_> = (1..).zip(hosts).map(instance).collect();
        Service::of("api", &online)
    }

    const PUBLIC: &[(&str, &str)] = &[
        ("public", "true"),
        ("hostname", "api.dev"),
        ("ports.https", "443"),
        ("user", "u"),
        ("password", "p@"),
    ];

    /// S2.12 to S2.14.
    #[test]
    fn a_service_is_its_hosts_all_one_or_those_of_a_shard() {
        let api = service(&[
            ("a:80", &[("shard", "s1")]),
            ("b:80", &[("shard", "s2"), ("critical", "true")]),
            ("c:80", &[("shard", "s2"), ("health", "critical")]),
        ]);
        assert_eq!((api.name(), api.all().len()), ("api", 3));
        assert!(api.is_critical() && !api.is_public());
        assert_eq!(api.first().unwrap().hostname, "a");
        let s2 = api.shard("s2");
        let names: Vec<&str> = s2.all().iter().map(|h| h.hostname.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        // The other can take no calls.
        assert_eq!(s2.one().unwrap().hostname, "b");
        assert_eq!(api.shard("s1").one(), api.first());
        assert_eq!(service(&[("c:80", &[("health", "critical")])]).one(), None);
    }

    /// S2.15, S2.54.
    #[test]
    fn the_url_of_a_service_is_its_public_one_or_that_of_a_host() {
        let both = service(&[("a:80", &[("shard", "s1")]), ("b:8080", PUBLIC)]);
        let public = "https://u:p%40@api.dev:443/x";
        assert_eq!(both.url("https", "/x").unwrap(), public);
        assert_eq!(both.url("", "/x").unwrap(), public);
        let sharded = both.shard("s1").url("", "/x").unwrap();
        assert_eq!(sharded, "http://a:80/x");
        let nobody = both.shard("s2").url("", "").unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
        let text = nobody.to_string();
        assert!(text.contains("of shard \"s2\" of service api"), "{text}");
        let error = both.url("ftp", "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("it has https"), "{error}");
        assert_eq!(
            service(&[]).url("", "").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn ports_are_numbers_and_what_is_none_is_left_to_the_attributes() {
        let odd = service(&[("a:80", &[("ports.http", "99999"), ("ports.https", "443")])]);
        let host = odd.first().unwrap();
        assert_eq!(host.ports, [("https".to_owned(), 443)].into());
        assert_eq!(host.private_ports, [("http".to_owned(), 80)].into());
    }
}
