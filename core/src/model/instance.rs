//! Instances as other programs see them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::metadata::{BindingCache, Eligibility, Metadata};
use crate::model::{Attributes, InstanceOrder, Redacted, ServiceName};
use crate::net::HostPort;

/// Running copy of a service, as other programs see it. Immutable; a change creates a new value.
pub struct Instance {
    service: ServiceName,
    /// Shares its text with the address if the id is the address.
    id: Arc<str>,
    /// Range of the host within the address.
    host: Range<usize>,
    port: u16,
    address: Arc<str>,
    /// Shared by all versions of this instance and by other instances with equal metadata.
    metadata: Arc<Metadata>,
    created: u64,
    /// Names of the layouts in which the instance was found.
    layouts: Arc<[String]>,
    suspect: bool,
    load: Load,
    binding_cache: BindingCache,
}

/// Number of calls in flight to an instance, shared by all its versions; see `ServiceSet::done`.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<AtomicU32>);

impl Load {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a call. The load never drops below zero, even after too many `done` calls.
    pub(crate) fn end(&self) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

impl Instance {
    /// Creates an instance as read from a store. `created` is the store revision at which it came online.
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

    /// Creates an instance with metadata that other instances may share.
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

    /// Restores what a program stored of an instance that it had read: the layouts in which it was found, and whether it
    /// was suspect.
    pub fn restored(self, layouts: Vec<String>, is_suspect: bool) -> Instance {
        Instance {
            layouts: layouts.into(),
            suspect: is_suspect,
            ..self
        }
    }

    /// Returns true if a text contains a NUL character, which ends a text in C, so that programs would read different
    /// values.
    pub(crate) fn contains_nul(&self) -> bool {
        self.metadata.contains_nul() || self.id.contains('\0') || self.address.contains('\0')
    }

    /// Returns the service name.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Returns the id, which is unique within the service.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the host: a name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        self.address.get(self.host.clone()).unwrap_or_default()
    }

    /// Returns the shared id.
    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// Returns the shared address.
    pub(crate) fn shared_address(&self) -> Arc<str> {
        self.address.clone()
    }

    /// Returns the port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address `host:port`, with IPv6 addresses in brackets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns all attributes.
    pub fn attributes(&self) -> &Attributes {
        self.metadata.attributes()
    }

    /// Returns all tags in the order given.
    pub fn tags(&self) -> &[String] {
        self.metadata.tags()
    }

    /// Returns attributes and tags. Instances that were listed together share this value if theirs are equal.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    pub(crate) fn set_metadata(&mut self, metadata: Arc<Metadata>) {
        self.metadata = metadata;
    }

    /// Returns the store revision at which the instance came online. The instance with the lowest one is the
    /// leader.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Returns the attribute `weight`; 1 if absent or malformed.
    pub fn weight(&self) -> u32 {
        self.metadata.weight()
    }

    /// Returns the attribute `zone`. It has no effect on `pick`; filter by it to prefer a zone.
    pub fn zone(&self) -> Option<&str> {
        self.attributes().get("zone").map(String::as_str)
    }

    /// Returns the names of the layouts in which the store has the instance, in the order of the URL; empty
    /// for backends without layouts.
    pub fn layouts(&self) -> &[String] {
        &self.layouts
    }

    /// Returns true if the store may have lost the instance by mistake, because it vanished in a mass expiry.
    /// Suspect instances are picked last and lead only if all are suspect. A suspect instance goes offline
    /// unless it registers again in time.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Returns a copy that is suspect.
    pub(crate) fn to_suspect(&self) -> Instance {
        let mut suspected = self.new_version();
        suspected.suspect = true;
        suspected
    }

    /// Returns the cache in which a language binding stores its object for this instance.
    pub fn binding_cache(&self) -> &BindingCache {
        &self.binding_cache
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Returns a copy to be changed.
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

    /// Merges the records of one instance in several layouts: adds missing attributes and tags, and takes the
    /// lowest `created`.
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

    /// Shares the calls in flight with an older version of the same instance.
    pub(crate) fn with_load_of(mut self, older: &Instance) -> Instance {
        self.load = older.load.clone();
        self
    }

    /// Returns true if this instance shares its calls in flight with `other`.
    pub(crate) fn has_load_of(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.load.0, &other.load.0)
    }

    /// Returns the sort key in a view: oldest first.
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
