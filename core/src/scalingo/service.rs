//! The instances of a set in the terms of Scalingo's etcd-discovery.

use std::sync::Arc;

use super::host::{Host, UNFIT_RANK};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Instance, ServiceName};
use crate::set::{ServiceSet, Snapshot};

/// The instances of a set as the hosts of a service of Scalingo's etcd-discovery.
///
/// Contains the hosts that were online when it was created. Immutable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    name: String,
    hosts: Vec<Host>,
    /// The shard by which the hosts were selected.
    shard: Option<String>,
}

impl Service {
    /// Returns the instances that are online in `set` as the hosts of a service.
    pub fn from_set(set: &ServiceSet) -> Service {
        Service::from_snapshot(set.service(), &set.snapshot())
    }

    /// Returns the instances that are online in a snapshot of the set of `service` as its hosts.
    pub fn from_snapshot(service: &ServiceName, snapshot: &Snapshot) -> Service {
        Service::from_instances(service.as_str(), snapshot.online())
    }

    /// `online` is ordered by age, oldest first.
    fn from_instances(name: &str, online: &[Arc<Instance>]) -> Service {
        let hosts = online.iter().map(|instance| Host::from_instance(instance));
        Service {
            name: name.to_owned(),
            hosts: hosts.collect(),
            shard: None,
        }
    }

    /// Returns the service name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns all hosts, oldest first.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the oldest host, which is the leader.
    pub fn first(&self) -> Option<&Host> {
        self.hosts.first()
    }

    /// Returns a random host of those that can take calls: healthy hosts that are not suspect; if there are
    /// none, suspect or `warning` ones. Returns `None` if no host can take calls.
    pub fn one(&self) -> Option<&Host> {
        let eligible = self.hosts.iter().filter(|host| host.rank < UNFIT_RANK);
        let best = eligible.clone().map(|host| host.rank).min()?;
        let best: Vec<&Host> = eligible.filter(|host| host.rank == best).collect();
        fastrand::choice(best)
    }

    /// Returns the service with only the hosts of one shard.
    pub fn shard(&self, shard: &str) -> Service {
        let in_shard = self.hosts.iter().filter(|host| host.shard == shard);
        Service {
            name: self.name.clone(),
            hosts: in_shard.cloned().collect(),
            shard: Some(shard.to_owned()),
        }
    }

    /// Returns true if any host is public.
    pub fn is_public(&self) -> bool {
        self.hosts.iter().any(|host| host.is_public)
    }

    /// Returns true if any host is marked as critical.
    pub fn is_critical(&self) -> bool {
        self.hosts.iter().any(|host| host.is_critical)
    }

    /// Returns the URL of the service: that of the newest public host. If there is no public host, or the
    /// service was narrowed to a shard, the URL of a host that [`Service::one`] selects. Scheme and path
    /// have the meaning they have in [`Host::url`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no host is online, [`ErrorKind::InvalidArgument`] if the selected host has
    /// no public port for the scheme.
    pub fn url(&self, scheme: &str, path: &str) -> Result<String> {
        let public = || self.hosts.iter().rfind(|host| host.is_public);
        let host = match self.shard {
            None => public().or_else(|| self.one()),
            Some(_) => self.one(),
        };
        let not_found = || {
            let shard = self.shard.as_ref();
            let in_shard = shard.map_or(String::new(), |shard| format!(" in shard {shard:?}"));
            let text = format!("service {} has no host online{in_shard}", self.name);
            Error::new(ErrorKind::NotFound, text)
        };
        host.ok_or_else(not_found)?.url(scheme, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Registration;

    /// The address of a host, and its attributes.
    type HostSpec<'a> = (&'a str, &'a [(&'a str, &'a str)]);

    fn service(hosts: &[HostSpec<'_>]) -> Service {
        let instance = |(at, (address, fields)): (u64, &HostSpec<'_>)| {
            let host = Registration::at("api", address).unwrap();
            let host = host.attributes(fields.iter().copied()).unwrap();
            Arc::new(host.instance(at))
        };
        let online: Vec<_> = (1..).zip(hosts).map(instance).collect();
        Service::from_instances("api", &online)
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
    fn a_service_selects_all_hosts_one_host_or_the_hosts_of_a_shard() {
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
        // Host c is critical and can take no calls.
        assert_eq!(s2.one().unwrap().hostname, "b");
        assert_eq!(api.shard("s1").one(), api.first());
        assert_eq!(service(&[("c:80", &[("health", "critical")])]).one(), None);
    }

    /// S2.15, S2.54.
    #[test]
    fn the_url_of_a_service_is_that_of_its_newest_public_host_or_of_any_host() {
        let both = service(&[("a:80", &[("shard", "s1")]), ("b:8080", PUBLIC)]);
        let public = "https://u:p%40@api.dev:443/x";
        assert_eq!(both.url("https", "/x").unwrap(), public);
        assert_eq!(both.url("", "/x").unwrap(), public);
        let sharded = both.shard("s1").url("", "/x").unwrap();
        assert_eq!(sharded, "http://a:80/x");
        let not_found = both.shard("s2").url("", "").unwrap_err();
        assert_eq!(not_found.kind(), ErrorKind::NotFound);
        let text = not_found.to_string();
        assert!(
            text.contains("service api has no host online in shard"),
            "{text}"
        );
        let error = both.url("ftp", "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("it has https"), "{error}");
        assert_eq!(
            service(&[]).url("", "").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn invalid_ports_are_left_out() {
        let odd = service(&[("a:80", &[("ports.http", "99999"), ("ports.https", "443")])]);
        let host = odd.first().unwrap();
        assert_eq!(host.ports, [("https".to_owned(), 443)].into());
        assert_eq!(host.private_ports, [("http".to_owned(), 80)].into());
    }
}
