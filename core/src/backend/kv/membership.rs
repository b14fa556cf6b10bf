//! Changes of the membership of a set, which the view builder reports to the mass-expiry guard.

use std::sync::Arc;

use crate::model::Instance;

/// An instance that joined or left.
pub(super) enum MembershipChange {
    Joined(Arc<Instance>),
    /// With its grant.
    Left(Arc<Instance>, u64),
}
