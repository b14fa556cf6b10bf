//! The key of a registration.

use discover_core::ServiceName;

/// A service and the id of one of its instances.
pub type InstanceKey = (ServiceName, String);

/// Maximum length of an instance id, in bytes: that of the longest host and port.
pub const MAX_ID_BYTES: usize = 260;
