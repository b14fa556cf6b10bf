//! What others see.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::model::check::{MAX_WEIGHT, address};
use crate::model::{Attributes, Seniority, ServiceName, Shown};

/// Among how many different attributes the same are looked for.
const SHARED: usize = 1024;

/// One running copy of a service, as others see it. Immutable; a change makes a new one.
pub struct Instance {
    service: ServiceName,
    /// The very text of the address, where that is the id.
    id: Arc<str>,
    /// Where in the address the host is.
    host: Range<usize>,
    port: u16,
    address: Arc<str>,
    /// Shared by all its versions that say the same.
    attributes: Arc<Attributes>,
    tags: Vec<String>,
    created: u64,
    weight: u32,
    fitness: Fitness,
    /// In which layouts it was found.
    layouts: Arc<[String]>,
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
        let fitness = fitness(&attributes);
        let weight = weight(&attributes);
        let address: Arc<str> = address(host, port).into();
        let begin = address.find(host).unwrap_or(0);
        let id = if *address == *id {
            address.clone()
        } else {
            id.into()
        };
        Instance {
            service,
            id,
            host: begin..begin + host.len(),
            port,
            address,
            attributes: attributes.into(),
            tags,
            created,
            fitness,
            weight,
            layouts: Arc::default(),
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
        self.address.get(self.host.clone()).unwrap_or_default()
    }

    /// The id, to be kept.
    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// The address, to be kept.
    pub(crate) fn shared_address(&self) -> Arc<str> {
        self.address.clone()
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

    /// The names of the layouts in whose form it is in the store, in the order of the URL; none where
    /// the backend knows no layouts.
    pub fn layouts(&self) -> &[String] {
        &self.layouts
    }

    /// Whether the store may have lost it by mistake: it vanished in a mass expiry. It is picked last, is
    /// no leader while another one can be, and goes unless it is back in time.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// The same, under suspicion.
    pub(crate) fn suspected(&self) -> Instance {
        let mut suspected = self.another();
        suspected.suspect = true;
        suspected
    }

    /// A place for what a language binding makes of this instance, so that it is made once.
    pub fn foreign(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.foreign
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// The same again, to be changed.
    pub(crate) fn another(&self) -> Instance {
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
            layouts: self.layouts.clone(),
            suspect: self.suspect,
            load: self.load.clone(),
            foreign: OnceLock::new(),
        }
    }

    /// What this record says of an instance, with what others add that say it too: attributes and tags
    /// that this one lacks, and that it is older.
    pub(crate) fn joined_by(&self, others: &[&Arc<Instance>]) -> Instance {
        let mut all = self.another();
        let mut layouts = self.layouts.to_vec();
        for other in others {
            for (name, value) in &*other.attributes {
                if !all.attributes.contains_key(name) {
                    let ours = Arc::make_mut(&mut all.attributes);
                    ours.insert(name.clone(), value.clone());
                }
            }
            if all.tags.is_empty() {
                all.tags.clone_from(&other.tags);
            }
            all.created = all.created.min(other.created);
            let more = other.layouts.iter().filter(|name| !layouts.contains(name));
            let more: Vec<String> = more.cloned().collect();
            layouts.extend(more);
        }
        all.weight = weight(&all.attributes);
        all.fitness = fitness(&all.attributes);
        all.with_layouts(layouts.into())
    }

    pub(crate) fn with_layouts(mut self, layouts: Arc<[String]>) -> Instance {
        self.layouts = layouts;
        self
    }

    pub(crate) fn created_at(mut self, created: u64) -> Instance {
        self.created = created;
        self
    }

    pub(crate) fn fitness(&self) -> Fitness {
        self.fitness
    }

    /// Takes over the calls in flight of an older version of the same instance.
    pub(crate) fn with_load_of(mut self, older: &Instance) -> Instance {
        self.load = older.load.clone();
        self
    }

    /// Whether it has the calls in flight of that one.
    pub(crate) fn has_load_of(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.load.0, &other.load.0)
    }

    /// What it says of itself is kept once where others say the very same.
    pub(crate) fn share(&mut self, said: &mut HashSet<Arc<Attributes>>) {
        match said.get(&self.attributes) {
            Some(same) => self.attributes = same.clone(),
            None if said.len() < SHARED => drop(said.insert(self.attributes.clone())),
            None => {}
        }
    }

    /// The place of the instance in a view: oldest first.
    pub(crate) fn seniority(&self) -> Seniority {
        Seniority {
            created: self.created,
            id: self.id.clone(),
        }
    }
}

fn fitness(attributes: &Attributes) -> Fitness {
    match attributes.get("health").map(String::as_str) {
        Some("critical" | "maintenance" | "draining") => Fitness::Unfit,
        Some("warning") => Fitness::Weak,
        _ => Fitness::Fit,
    }
}

/// Foreign data may say anything here; what is no weight counts as none.
fn weight(attributes: &Attributes) -> u32 {
    let said = attributes.get("weight").and_then(|w| w.parse().ok());
    said.unwrap_or(1).min(MAX_WEIGHT)
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        self.created == other.created
            && self.suspect == other.suspect
            && self.id == other.id
            && self.host == other.host
            && self.address == other.address
            && self.service == other.service
            && self.attributes == other.attributes
            && self.tags == other.tags
            && self.layouts == other.layouts
    }
}

impl Eq for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("service", &self.service)
            .field("id", &self.id)
            .field("address", &self.address)
            .field("attributes", &Shown(&self.attributes))
            .field("tags", &self.tags)
            .field("created", &self.created)
            .field("layouts", &self.layouts)
            .finish()
    }
}
