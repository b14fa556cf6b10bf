//! The nouns: what a program registers, and what others see of it.

mod connection_state;
mod instance;
mod metadata;
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

pub use connection_state::{ConnectionState, Metrics};
pub use instance::Instance;
pub(crate) use metadata::Eligibility;
pub use metadata::{BindingCache, Metadata, MetadataInterner};
pub(crate) use redact::Redacted;
pub use redact::redact;
pub use registration::{Heartbeat, Registration};
pub use validate::{MAX_ATTRIBUTES, MAX_NAME};
pub(crate) use validate::{check_attributes, check_host, check_ttl};

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

/// For looking a name up where there is only its text.
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

/// Orders instances by age; the same id with another `created` is another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceOrder {
    /// The store's revision at which the instance came online.
    pub created: u64,
    /// Breaks ties.
    pub id: Arc<str>,
}

/// The whole set of a service at one revision, oldest first.
///
/// Immutable; copies share their structure, so a change costs O(log n), and the difference of two
/// views costs what differs.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Which history of the store the revision belongs to; only a higher one may have a lower revision.
    pub epoch: u64,
    /// The revision of the store that this view equals; 0 where the store has none.
    pub revision: u64,
    /// The instances.
    pub instances: OrdMap<InstanceOrder, Arc<Instance>>,
    /// How many records of the service could not be read.
    pub invalid: usize,
}

/// What to do about another owner of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Take over: the program says that it is this instance now.
    Replace,
    /// Fail with `Replaced`: we only put back what was ours.
    RestoreOnly,
}

/// What a service says to all its registrations, in a place that they share.
#[derive(Clone, PartialEq, Eq)]
pub enum SharedAttributes {
    /// These attributes hold for each of them.
    Present(Attributes),
    /// Nothing, or what nobody can read: who knows better says it again.
    Absent,
}

/// A backend's own number for a live promise, and how long it lasts without a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// A lease id in etcd; what the backend likes elsewhere.
    pub id: u64,
    /// What the store granted, which may be more than was asked for.
    pub ttl: Duration,
}

impl Grant {
    /// How long after it was last confirmed a grant is to be seen to by who holds it, should it be one that
    /// is renewed together with others. That leaves a third of its time to find out why it was not.
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
