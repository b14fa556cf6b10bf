//! Data model: registrations, instances, views, grants, and their limits.

mod connection_state;
mod instance;
mod metadata;
mod metrics;
mod redact;
mod registration;
#[cfg(test)]
mod tests;
mod validate;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;

use crate::error::{Error, Result};

pub use connection_state::ConnectionState;
pub use instance::Instance;
pub(crate) use metadata::Eligibility;
pub use metadata::{BindingCache, Metadata, MetadataInterner};
pub use metrics::Metrics;
pub(crate) use redact::Redacted;
pub use redact::redact;
pub use registration::{Heartbeat, Registration};
pub use validate::{MAX_ATTRIBUTES, MAX_NAME};
pub(crate) use validate::{check_advertised_host, check_attributes, check_host, check_ttl};

/// Attributes of an instance, ordered by name.
pub type Attributes = BTreeMap<String, String>;

/// Service name: 1 to 128 bytes of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks and creates a service name.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name is empty, too long, reserved (`.` and `..`) or contains other
    /// characters.
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

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Allows map lookups by text.
impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
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

/// Sort key of instances: oldest first. The same id with another `created` is another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceOrder {
    /// Revision of the store at which the instance came online.
    pub created: u64,
    /// Instance id; orders instances of the same revision.
    pub id: Arc<str>,
}

/// Complete set of a service at one revision, oldest instance first.
///
/// Immutable; copies share their structure. A change costs O(log n), and the difference of two views costs
/// O(differences).
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Epoch of the store. Only a higher epoch may have a lower revision.
    pub epoch: u64,
    /// Revision of the store that this view equals; 0 for stores without revisions.
    pub revision: u64,
    /// Instances by sort key.
    pub instances: OrdMap<InstanceOrder, Arc<Instance>>,
    /// Number of malformed records of the service.
    pub invalid: usize,
}

/// What a registration does if another owner holds the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Replaces the other owner.
    Replace,
    /// Fails with `Replaced`. Used to restore a lost registration.
    RestoreOnly,
}

/// Attributes that a service shares with all its registrations.
#[derive(Clone, PartialEq, Eq)]
pub enum SharedAttributes {
    /// Attributes of every registration of the service.
    Present(Attributes),
    /// No shared record, or a malformed one; a registration that knows the attributes writes them again.
    Absent,
}

/// Lease of a backend: its number and TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Lease id in etcd; chosen by the backend elsewhere.
    pub id: u64,
    /// TTL granted by the store, which may exceed the requested one.
    pub ttl: Duration,
}

impl Grant {
    /// Returns how long after its last confirmation a grant that is renewed in a batch counts as overdue. One
    /// third of the TTL remains to find out why it was not renewed.
    pub(crate) fn overdue_after(ttl: Duration) -> Duration {
        ttl * 2 / 3
    }
}

impl fmt::Debug for SharedAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SharedAttributes::Present(said) => {
                f.debug_tuple("Present").field(&Redacted(said)).finish()
            }
            SharedAttributes::Absent => f.write_str("Absent"),
        }
    }
}
