//! Registrations: what a program registers.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::validate::{
    MAX_NAME, check_advertised_host, check_attributes, check_text, check_ttl,
};
use crate::model::{Attributes, Instance, Redacted, ServiceName};
use crate::net::HostPort;

/// Sender of the heartbeats of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The library, until the lease is released or the process dies.
    Automatic,
    /// The program, which must call `heartbeat` at least once per TTL.
    Manual,
}

/// Registration of an instance of a service.
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
    /// Whether the attributes were adopted from the shared attributes of the service, so that they are not
    /// written there again.
    pub(crate) adopted: bool,
    /// Attributes of the first registration, if they have changed since.
    pub(crate) first: Option<Attributes>,
    /// Attributes in force before an update of the owner. What other registrations share is written only if it differs.
    pub(crate) before: Option<Attributes>,
    /// Whether a shared record that exists stays as it is when this is registered.
    pub(crate) keeps_shared: bool,
}

impl Registration {
    /// Creates a registration of `service` on this machine with `port` (1 to 65535).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the service name or the port is not valid.
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
            before: None,
            keeps_shared: false,
        })
    }

    /// Creates a registration from an address `host:port`, `[v6]:port` or `:port`.
    pub fn at(service: &str, address: &str) -> Result<Registration> {
        let (host, port) = HostPort::split(address)?;
        let registration = Registration::new(service, port)?;
        if host.is_empty() {
            Ok(registration)
        } else {
            registration.host(host)
        }
    }

    /// Returns the registration with other attributes, as if it were new.
    pub(crate) fn with_attributes(&self, attributes: Attributes) -> Registration {
        Registration {
            attributes,
            first: None,
            before: None,
            ..self.clone()
        }
    }

    /// Leaves what the registrations of the service share, such as the credentials with `layout=scalingo`, as it is in
    /// the store: for a registration that is made again. It adopts them.
    pub fn keep_shared(mut self) -> Registration {
        self.keeps_shared = true;
        self
    }

    /// Sets the host under which other programs reach the instance: a name or an IP address. The default is
    /// the address of this machine.
    pub fn host(mut self, host: &str) -> Result<Registration> {
        self.host = Some(check_advertised_host(host)?);
        Ok(self)
    }

    /// Sets the id, unique within the service. The default is the address.
    pub fn id(mut self, id: &str) -> Result<Registration> {
        check_text("id", id, MAX_NAME)?;
        self.id = Some(id.to_owned());
        Ok(self)
    }

    /// Sets all attributes. `weight` (0 to 65535) affects `pick`; `zone` has no effect on it.
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

    /// Sets the TTL: how long the instance stays registered after its last heartbeat. The default is the
    /// `ttl` of the client.
    pub fn ttl(mut self, ttl: Duration) -> Result<Registration> {
        self.ttl = Some(check_ttl(ttl)?);
        Ok(self)
    }

    /// Sets the sender of the heartbeats. The default is the library.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Registration {
        self.heartbeat = heartbeat;
        self
    }

    /// Returns the service name.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Fills in the defaults of the client.
    pub(crate) fn complete(mut self, host: &str, ttl: Duration) -> Registration {
        self.host.get_or_insert_with(|| host.to_owned());
        self.ttl.get_or_insert(ttl);
        self
    }

    /// Returns a copy without tags, for layouts that cannot store them.
    pub(crate) fn without_tags(&self) -> Registration {
        Registration {
            tags: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns a copy without attributes and tags, for layouts that cannot store them.
    pub(crate) fn without_attributes(&self) -> Registration {
        Registration {
            attributes: Attributes::new(),
            tags: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns the address `host:port`, with IPv6 addresses in brackets. Without a host, the registration is
    /// not complete.
    pub fn address(&self) -> String {
        HostPort::join(self.host.as_deref().unwrap_or_default(), self.port)
    }

    /// Returns the id, or the address if no id is set.
    pub fn instance_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.address())
    }

    /// Returns the instance that other programs see. `created` is the store revision at which it came online.
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

/// Masks secret attributes.
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
