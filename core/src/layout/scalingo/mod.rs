//! The layout of Scalingo's etcd-discovery: `/services/NAME/UUID` contains a host, `/services_infos/NAME` the service
//! description shared by all hosts: the public address and the credentials.
//!
//! The address of an instance is the private one. The attributes `public`, `hostname`, `ports.SCHEME`,
//! `private_ports.SCHEME`, `scheme`, `user`, `password`, `critical` and `shard` are members of the host; all others are
//! stored in its member `attributes`, the tags in `tags`.

mod host_record;
mod service_record;

use crate::error::{Error, Result};
use crate::kv::{Entry, Key, Node, Prefix, V2Events};
use crate::layout::{Decoded, Folder, Layout, json, parse_endpoint};
use crate::model::{Instance, OnConflict, Registration, ServiceName, SharedAttributes};
use crate::net::HostPort;
pub(crate) use host_record::{HTTP, HTTPS, HostRecord, parse_port};
use service_record::ServiceRecord;

/// The layout of Scalingo's etcd-discovery.
pub struct Scalingo {
    hosts: Folder,
    infos: Prefix,
}

const NAME: &str = "scalingo";
const KNOWN: [&str; 13] = [
    "name",
    "service_name",
    "ports",
    "user",
    "password",
    "public",
    "private_hostname",
    "private_ports",
    "critical",
    "shard",
    "uuid",
    "attributes",
    "tags",
];

impl Scalingo {
    /// The default prefix of the hosts.
    pub const PREFIX: &str = "/services";
    /// The default prefix of the service descriptions.
    pub const INFOS: &str = "/services_infos";

    /// Creates the layout with the hosts under `hosts` and the service descriptions under `infos`.
    pub fn new(hosts: &str, infos: &str) -> Result<Scalingo> {
        let (hosts, infos) = (Prefix::new(hosts)?, Prefix::new(infos)?);
        if hosts == infos {
            return Err(Error::invalid(format!(
                "layout scalingo: hosts and services are both under {hosts}; give two folders"
            )));
        }
        let hosts = Folder(hosts);
        Ok(Scalingo { hosts, infos })
    }

    fn info_key(&self, service: &ServiceName) -> Result<Key> {
        self.infos.join(service.as_str())
    }
}

impl Layout for Scalingo {
    fn name(&self) -> &str {
        NAME
    }

    fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
        self.hosts.prefix(service)
    }

    fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
        let host = HostRecord::from_registration(registration)?;
        let info_key = self.info_key(&registration.service)?;
        let key = self.hosts.key(NAME, &registration.service, &host.uuid)?;
        Ok(vec![
            Entry::persistent(info_key, ServiceRecord::from_host(&host).write()?),
            Entry::leased(key, host.write()?).v2_events(V2Events::Create),
        ])
    }

    fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
        // Deeper keys and other records belong to other programs that use this directory.
        let name = self.hosts.child_name(service, node);
        let Some(name) = name.filter(|_| !is_bare(&node.value)) else {
            return Decoded::Ignored;
        };
        let record = match json::Object::parse(&node.value) {
            Ok(record) => record,
            Err(why) => return Decoded::Malformed(why),
        };
        let is_host = record.has("name") || record.has("private_hostname");
        if !is_host || record.has("ipaddress") {
            return Decoded::Ignored;
        }
        read(service, name, node.created, &record).into()
    }

    fn known_fields(&self) -> &[&str] {
        &KNOWN
    }

    /// Keeps a service description that has more than the host, and one that is newer than a restored host.
    fn merge_existing(
        &self,
        entry: &Entry,
        before: &[u8],
        on_conflict: OnConflict,
    ) -> Option<Vec<u8>> {
        if entry.key.strip_prefix(&self.infos).is_some() {
            return service_record::merge(&entry.value, before, on_conflict);
        }
        let kept = json::keep_unknown(&entry.value, before, &KNOWN);
        Some(kept.unwrap_or_else(|| entry.value.clone()))
    }

    fn shared(&self, registration: &Registration) -> Result<Option<Key>> {
        let public = HostRecord::from_registration(registration)?.public;
        public
            .then(|| self.info_key(&registration.service))
            .transpose()
    }

    fn decode_shared(&self, value: Option<&[u8]>) -> SharedAttributes {
        let info = value.and_then(|value| ServiceRecord::parse(value).ok());
        match info.filter(|info| info.public) {
            Some(info) => SharedAttributes::Present(info.credentials()),
            None => SharedAttributes::Absent,
        }
    }
}

/// Returns true for the record of another registry in this directory.
fn is_bare(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| parse_endpoint(text.trim()).is_some())
}

fn read(
    service: &ServiceName,
    name: &str,
    created: u64,
    record: &json::Object,
) -> std::result::Result<Instance, String> {
    let host = HostRecord::parse(record)?;
    let (private, port) = host.place().ok_or("no port is a number from 1 to 65535")?;
    let own = name == host_record::uuid(service.as_str(), private, port);
    let address = HostPort::join(private, port);
    let mut attributes = host.fields();
    attributes.extend(record.map("attributes")?);
    json::check_count(&attributes)?;
    Ok(Instance::new(
        service.clone(),
        if own { &address } else { name },
        private,
        port,
        attributes,
        record.list("tags")?,
        created,
    ))
}

#[cfg(test)]
mod tests;
