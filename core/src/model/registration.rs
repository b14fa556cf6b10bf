//! What a program asks for.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::validate::{MAX_NAME, check_attributes, check_host, check_text, check_ttl};
use crate::model::{Attributes, Instance, Redacted, ServiceName};
use crate::net::HostPort;

/// How a registration is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// By the library, until released or the process dies.
    Automatic,
    /// By the program, which must call `heartbeat` at least once in each TTL.
    Manual,
}

/// What a program asks for: "I am an instance of this service, and here I am".
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    pub(crate) service: ServiceName,
    pub(crate) id: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) attributes: Attributes,
    pub(crate) tags: Vec<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) heartbeat: Heartbeat,
    /// Whether what it says was taken over from what its service says, so that it says nothing new.
    pub(crate) adopted: bool,
    /// The attributes that it was registered with first, where those above came after.
    pub(crate) first: Option<Attributes>,
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
            adopted: false,
            first: None,
        })
    }

    /// The same from `host:port`, `[v6]:port` or `:port`.
    pub fn at(service: &str, address: &str) -> Result<Registration> {
        let (host, port) = HostPort::split(address)?;
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

    /// The same without tags, for which few layouts have a place of their own.
    pub(crate) fn without_tags(&self) -> Registration {
        Registration {
            tags: Vec::new(),
            ..self.clone()
        }
    }

    /// The same without what not every layout has room for.
    pub(crate) fn without_attributes(&self) -> Registration {
        Registration {
            attributes: Attributes::new(),
            tags: Vec::new(),
            ..self.clone()
        }
    }

    /// `host:port`, IPv6 in brackets. A registration without a host is not complete yet.
    pub fn address(&self) -> String {
        HostPort::join(self.host.as_deref().unwrap_or_default(), self.port)
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

/// What is secret is not shown.
impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("service", &self.service)
            .field("id", &self.id)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("attributes", &Redacted(&self.attributes))
            .field("tags", &self.tags)
            .field("ttl", &self.ttl)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
