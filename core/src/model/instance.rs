//! What others see.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::metadata::{BindingCache, Eligibility, Metadata};
use crate::model::{Attributes, InstanceOrder, Redacted, ServiceName};
use crate::net::HostPort;

/// One running copy of a service, as others see it. Immutable; a change makes a new one.
pub struct Instance {
    service: ServiceName,
    /// The very text of the address, where that is the id.
    id: Arc<str>,
    /// Where in the address the host is.
    host: Range<usize>,
    port: u16,
    address: Arc<str>,
    /// SharedAttributes with its other versions, and with others, that say the same.
    metadata: Arc<Metadata>,
    created: u64,
    /// In which layouts it was found.
    layouts: Arc<[String]>,
    suspect: bool,
    load: Load,
    binding_cache: BindingCache,
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
        let metadata = Metadata::new(attributes, tags).into();
        Instance::with_metadata(metadata, service, id, host, port, created)
    }

    /// The same, who says what others may say too.
    pub(crate) fn with_metadata(
        metadata: Arc<Metadata>,
        service: ServiceName,
        id: &str,
        host: &str,
        port: u16,
        created: u64,
    ) -> Instance {
        let address: Arc<str> = HostPort::join(host, port).into();
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
            metadata,
            created,
            layouts: Arc::default(),
            suspect: false,
            load: Load::default(),
            binding_cache: BindingCache::new(),
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
        self.metadata.attributes()
    }

    /// All tags, in the order given.
    pub fn tags(&self) -> &[String] {
        self.metadata.tags()
    }

    /// Attributes and tags: as a rule the very same of all instances that were listed together and say the
    /// same.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    pub(crate) fn set_metadata(&mut self, metadata: Arc<Metadata>) {
        self.metadata = metadata;
    }

    /// The store's revision at which it came online. The lowest in a set is the leader.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// From the attribute `weight`, 1 without it.
    pub fn weight(&self) -> u32 {
        self.metadata.weight()
    }

    /// From the attribute `zone`.
    pub fn zone(&self) -> Option<&str> {
        self.attributes().get("zone").map(String::as_str)
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
    pub(crate) fn into_suspect(&self) -> Instance {
        let mut suspected = self.new_version();
        suspected.suspect = true;
        suspected
    }

    /// A place for what a language binding makes of this instance, so that it is made once.
    pub fn binding_cache(&self) -> &BindingCache {
        &self.binding_cache
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// The same again, to be changed.
    pub(crate) fn new_version(&self) -> Instance {
        Instance {
            service: self.service.clone(),
            id: self.id.clone(),
            host: self.host.clone(),
            port: self.port,
            address: self.address.clone(),
            metadata: self.metadata.clone(),
            created: self.created,
            layouts: self.layouts.clone(),
            suspect: self.suspect,
            load: self.load.clone(),
            binding_cache: BindingCache::new(),
        }
    }

    /// What this record says of an instance, with what others add that say it too: attributes and tags
    /// that this one lacks, and that it is older.
    pub(crate) fn merged_with(&self, others: &[&Arc<Instance>]) -> Instance {
        let mut all = self.new_version();
        let mut layouts = self.layouts.to_vec();
        for other in others {
            all.created = all.created.min(other.created);
            let more = other.layouts.iter().filter(|name| !layouts.contains(name));
            let more: Vec<String> = more.cloned().collect();
            layouts.extend(more);
        }
        let others = others.iter().map(|other| &*other.metadata);
        all.metadata = self.metadata.merged_with(others).into();
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

    pub(crate) fn eligibility(&self) -> Eligibility {
        self.metadata.eligibility()
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

    /// The place of the instance in a view: oldest first.
    pub(crate) fn order(&self) -> InstanceOrder {
        InstanceOrder {
            created: self.created,
            id: self.id.clone(),
        }
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        self.created == other.created
            && self.suspect == other.suspect
            && self.id == other.id
            && self.host == other.host
            && self.address == other.address
            && self.service == other.service
            && (Arc::ptr_eq(&self.metadata, &other.metadata) || self.metadata == other.metadata)
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
            .field("attributes", &Redacted(self.attributes()))
            .field("tags", &self.tags())
            .field("created", &self.created)
            .field("layouts", &self.layouts)
            .finish()
    }
}
