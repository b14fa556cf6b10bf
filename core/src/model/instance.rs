//! What others see.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::model::check::{MAX_WEIGHT, address};
use crate::model::{Attributes, Seniority, ServiceName};

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
    fitness: Fitness,
    suspect: bool,
    load: Load,
    foreign: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// How fit for calls an instance is, by its attribute `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// `passing`; or a word that means nothing to us, or none.
    Fit,
    /// `warning`
    Weak,
    /// `critical`, `maintenance` and `draining`
    Unfit,
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
        let fitness = match attributes.get("health").map(String::as_str) {
            Some("critical" | "maintenance" | "draining") => Fitness::Unfit,
            Some("warning") => Fitness::Weak,
            _ => Fitness::Fit,
        };
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
            fitness,
            suspect: false,
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

    /// Whether the store may have lost it by mistake: it vanished in a mass expiry. It is picked last, is
    /// no leader while another one can be, and goes unless it is back in time.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// The same, under suspicion.
    pub(crate) fn suspected(&self) -> Instance {
        Instance {
            service: self.service.clone(),
            id: self.id.clone(),
            host: self.host.clone(),
            port: self.port,
            address: self.address.clone(),
            attributes: self.attributes.clone(),
            tags: self.tags.clone(),
            created: self.created,
            weight: self.weight,
            fitness: self.fitness,
            suspect: true,
            load: self.load.clone(),
            foreign: OnceLock::new(),
        }
    }

    /// A place for what a language binding makes of this instance, so that it is made once.
    pub fn foreign(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.foreign
    }

    pub(crate) fn fitness(&self) -> Fitness {
        self.fitness
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
            && self.suspect == other.suspect
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
