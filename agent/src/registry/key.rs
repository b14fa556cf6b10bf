//! The key of a registration.

use discover_core::ServiceName;

/// A service and the id of one of its instances.
pub type InstanceKey = (ServiceName, String);
