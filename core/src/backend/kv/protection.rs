//! The choice of which expired instances stay visible as suspect.

use std::time::Duration;

use crate::backend::kv::mass_expiry::MassExpiryGuard;

/// Which instances whose leases expired stay visible as suspect, for a grace period or until they return.
///
/// A deleted instance goes offline at once in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// None: an expired instance goes offline at once.
    Off,
    /// Those of a mass expiry that the store caused: it was unreachable, elected a leader, or was rolled back within the
    /// last TTL. Also those whose expiry would empty the service.
    StoreFaults {
        /// The time for which they stay visible.
        grace: Duration,
    },
    /// Those of every mass expiry, although the store was healthy.
    Expiries {
        /// The time for which they stay visible.
        grace: Duration,
    },
}

impl Protection {
    /// The default grace period.
    pub const GRACE: Duration = Duration::from_secs(30);

    pub(super) fn guard(self) -> Option<MassExpiryGuard> {
        match self {
            Protection::Off => None,
            Protection::StoreFaults { grace } => Some(MassExpiryGuard::new(grace, false)),
            Protection::Expiries { grace } => Some(MassExpiryGuard::new(grace, true)),
        }
    }
}

impl Default for Protection {
    fn default() -> Protection {
        Protection::StoreFaults {
            grace: Protection::GRACE,
        }
    }
}
