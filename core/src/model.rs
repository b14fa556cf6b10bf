//! The nouns: what a program registers, and what others see of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imbl::OrdMap;

use crate::error::{Error, Result};

/// The longest service name, instance id and host, in bytes.
pub const MAX_NAME: usize = 128;
/// The longest host name, as in DNS.
pub const MAX_HOST: usize = 253;
/// The most attributes of one instance.
pub const MAX_ATTRIBUTES: usize = 64;
/// The most bytes of all attribute names and values, and of all tags, together.
pub const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
/// The heaviest weight; an instance without a `weight` attribute weighs 1.
pub const MAX_WEIGHT: u32 = 65_535;
/// The shortest and the longest time to live.
pub const TTL_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Attributes of an instance, in the order of their names.
pub type Attributes = BTreeMap<String, String>;

/// The name under which instances of one kind find each other: 1 to 128 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks the name.
    pub fn new(name: &str) -> Result<ServiceName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "service name has {} bytes; it must have 1 to {MAX_NAME}",
                name.len()
            )));
        }
        if let Some(at) = name.bytes().position(|b| !allowed(b)) {
            return Err(Error::invalid(format!(
                "service name {name:?} has a character at byte {at} that is not one of A-Z a-z 0-9 . _ -"
            )));
        }
        if name == "." || name == ".." {
            return Err(Error::invalid(format!("service name {name:?} is reserved")));
        }
        Ok(ServiceName(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How a registration is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// By the library, until released or the process dies.
    Automatic,
    /// By the program, which must call `heartbeat` at least once in each TTL.
    Manual,
}

/// What a program asks for: "I am an instance of this service, and here I am".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub(crate) service: ServiceName,
    pub(crate) id: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) attributes: Attributes,
    pub(crate) tags: Vec<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) heartbeat: Heartbeat,
}

impl Registration {
    /// An instance of `service` on this machine that listens on `port` (1 to 65535).
    pub fn new(service: &str, port: impl Into<i64>) -> Result<Registration> {
        let port = port.into();
        let checked = u16::try_from(port).ok().filter(|port| *port > 0);
        Ok(Registration {
            service: ServiceName::new(service)?,
            id: None,
            host: None,
            port: checked
                .ok_or_else(|| Error::invalid(format!("port {port} is not in 1 to 65535")))?,
            attributes: Attributes::new(),
            tags: Vec::new(),
            ttl: None,
            heartbeat: Heartbeat::Automatic,
        })
    }

    /// The same from `host:port`, `[v6]:port` or `:port`.
    pub fn at(service: &str, address: &str) -> Result<Registration> {
        let (host, port) = split_address(address)?;
        let registration = Registration::new(service, port)?;
        if host.is_empty() {
            Ok(registration)
        } else {
            registration.host(host)
        }
    }

    /// The host others should use, a name or an IP address; by default this machine's own address.
    pub fn host(mut self, host: &str) -> Result<Registration> {
        self.host = Some(check_host(host)?.to_owned());
        Ok(self)
    }

    /// The id, unique within the service; by default the address.
    pub fn id(mut self, id: &str) -> Result<Registration> {
        check_text("id", id, MAX_NAME)?;
        self.id = Some(id.to_owned());
        Ok(self)
    }

    /// Sets all attributes. `weight` (0 to 65535) and `zone` have a meaning to `pick`.
    pub fn attributes<K: Into<String>, V: Into<String>>(
        mut self,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Registration> {
        self.attributes = attributes
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        check_attributes(&self.attributes, &self.tags)?;
        Ok(self)
    }

    /// Sets all tags.
    pub fn tags<T: Into<String>>(
        mut self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Registration> {
        self.tags = tags.into_iter().map(Into::into).collect();
        check_attributes(&self.attributes, &self.tags)?;
        Ok(self)
    }

    /// How long the instance outlives its last heartbeat; by default the client's `ttl`.
    pub fn ttl(mut self, ttl: Duration) -> Result<Registration> {
        self.ttl = Some(check_ttl(ttl)?);
        Ok(self)
    }

    /// Who calls `heartbeat`; by default the library.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Registration {
        self.heartbeat = heartbeat;
        self
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Replaces what was left open by the program with the client's own values.
    pub(crate) fn complete(mut self, host: &str, ttl: Duration) -> Registration {
        self.host.get_or_insert_with(|| host.to_owned());
        self.ttl.get_or_insert(ttl);
        self
    }

    /// `host:port`, IPv6 in brackets. A registration without a host is not complete yet.
    pub fn address(&self) -> String {
        address(self.host.as_deref().unwrap_or_default(), self.port)
    }

    /// The id given, else the address.
    pub fn instance_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.address())
    }

    /// The instance that others will see, once the store has said since when.
    pub fn instance(&self, created: u64) -> Instance {
        Instance::new(
            self.service.clone(),
            &self.instance_id(),
            self.host.as_deref().unwrap_or_default(),
            self.port,
            self.attributes.clone(),
            self.tags.clone(),
            created,
        )
    }
}

/// One running copy of a service, as others see it. Immutable; a change makes a new one.
pub struct Instance {
    service: ServiceName,
    id: Box<str>,
    host: Box<str>,
    port: u16,
    address: Box<str>,
    attributes: Attributes,
    tags: Vec<String>,
    created: u64,
    weight: u32,
    load: Load,
    foreign: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Calls in flight to an instance, shared by all its versions; see `ServiceSet::done`.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<AtomicU32>);

impl Load {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A `done` too many is forgiven: the load of an instance is never below zero.
    pub(crate) fn end(&self) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

impl Instance {
    /// An instance as read from a store. `created` is the store's revision at which it came online.
    pub fn new(
        service: ServiceName,
        id: &str,
        host: &str,
        port: u16,
        attributes: Attributes,
        tags: Vec<String>,
        created: u64,
    ) -> Instance {
        // Foreign data may say anything here; what is no weight counts as none.
        let weight = attributes
            .get("weight")
            .and_then(|w| w.parse().ok())
            .unwrap_or(1);
        Instance {
            service,
            id: id.into(),
            host: host.into(),
            port,
            address: address(host, port).into(),
            attributes,
            tags,
            created,
            weight: weight.min(MAX_WEIGHT),
            load: Load::default(),
            foreign: OnceLock::new(),
        }
    }

    /// The service it is an instance of.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Unique within the service.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, IPv6 in brackets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// All tags, in the order given.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The store's revision at which it came online. The lowest in a set is the leader.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// From the attribute `weight`, 1 without it.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// From the attribute `zone`.
    pub fn zone(&self) -> Option<&str> {
        self.attributes.get("zone").map(String::as_str)
    }

    /// A place for what a language binding makes of this instance, so that it is made once.
    pub fn foreign(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.foreign
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Takes over the calls in flight of an older version of the same instance.
    pub(crate) fn with_load_of(mut self, older: &Instance) -> Instance {
        self.load = older.load.clone();
        self
    }

    /// The place of the instance in a view: oldest first.
    pub(crate) fn seniority(&self) -> Seniority {
        Seniority {
            created: self.created,
            id: self.id.clone(),
        }
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        self.created == other.created
            && self.port == other.port
            && self.id == other.id
            && self.host == other.host
            && self.service == other.service
            && self.attributes == other.attributes
            && self.tags == other.tags
    }
}

impl Eq for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("service", &self.service)
            .field("id", &self.id)
            .field("address", &self.address)
            .field("attributes", &self.attributes)
            .field("tags", &self.tags)
            .field("created", &self.created)
            .finish()
    }
}

/// Orders instances by age; the same id with another `created` is another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seniority {
    /// The store's revision at which the instance came online.
    pub created: u64,
    /// Breaks ties.
    pub id: Box<str>,
}

/// The whole set of a service at one revision, oldest first.
///
/// Immutable; copies share their structure, so a change costs O(log n), and the difference of two
/// views costs what differs.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The revision of the store that this view equals; 0 where the store has none.
    pub revision: u64,
    /// The instances.
    pub instances: OrdMap<Seniority, Arc<Instance>>,
    /// How many records of the service could not be read.
    pub invalid: usize,
}

/// A backend's own number for a live promise, and how long it lasts without a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// A lease id in etcd; what the backend likes elsewhere.
    pub id: u64,
    /// What the store granted, which may be more than was asked for.
    pub ttl: Duration,
}

/// `host:port`, IPv6 in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Splits `host:port`, `[v6]:port` and `:port`; the host comes without brackets.
pub fn split_address(address: &str) -> Result<(&str, i64)> {
    let bad = |why: &str| {
        Error::invalid(format!(
            "address {address:?} {why}; write host:port, [ipv6]:port or :port"
        ))
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| bad("has an unclosed bracket"))?,
        None if host.contains(':') => return Err(bad("is IPv6 without brackets or has no port")),
        None => host,
    };
    let port = port
        .parse()
        .map_err(|_| bad("has a port that is not a number"))?;
    Ok((host, port))
}

/// Checks a change of attributes against the limits that a registration has.
pub(crate) fn check_attributes(attributes: &Attributes, tags: &[String]) -> Result<()> {
    if attributes.len() > MAX_ATTRIBUTES {
        let n = attributes.len();
        return Err(Error::invalid(format!(
            "{n} attributes; the limit is {MAX_ATTRIBUTES}"
        )));
    }
    let bytes = attributes
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum::<usize>()
        + tags.iter().map(String::len).sum::<usize>();
    if bytes > MAX_ATTRIBUTE_BYTES {
        return Err(Error::invalid(format!(
            "attributes and tags have {bytes} bytes; the limit is {MAX_ATTRIBUTE_BYTES}"
        )));
    }
    if attributes.keys().any(String::is_empty) {
        return Err(Error::invalid("an attribute has an empty name"));
    }
    if let Some(weight) = attributes.get("weight") {
        weight
            .parse::<u32>()
            .ok()
            .filter(|w| *w <= MAX_WEIGHT)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "attribute weight is {weight:?}; it must be 0 to {MAX_WEIGHT}"
                ))
            })?;
    }
    tags.iter()
        .try_for_each(|tag| check_text("tag", tag, MAX_NAME))
}

/// Checks a time to live.
pub(crate) fn check_ttl(ttl: Duration) -> Result<Duration> {
    if TTL_RANGE.contains(&ttl) {
        return Ok(ttl);
    }
    Err(Error::invalid(format!(
        "ttl is {ttl:?}; it must be 1s to 24h"
    )))
}

/// Checks a host and strips the brackets of an IPv6 address.
pub(crate) fn check_host(host: &str) -> Result<&str> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() || bare.len() > MAX_HOST {
        let n = bare.len();
        return Err(Error::invalid(format!(
            "host has {n} bytes; it must have 1 to {MAX_HOST}"
        )));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
    if !is_v6 && !bare.chars().all(is_name) {
        return Err(Error::invalid(format!(
            "host {host:?} is neither a host name nor an IP address"
        )));
    }
    Ok(bare)
}

fn check_text(what: &str, text: &str, limit: usize) -> Result<()> {
    if text.is_empty() || text.len() > limit {
        let n = text.len();
        return Err(Error::invalid(format!(
            "{what} has {n} bytes; it must have 1 to {limit}"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} {text:?} has a control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
