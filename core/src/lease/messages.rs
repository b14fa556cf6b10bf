//! Inputs and outputs of the lease machine.

use crate::error::{Error, Result};
use crate::model::Grant;

/// Identifies a request of the owner; unique within one lease.
pub(crate) type RequestId = u64;

/// A registered value into which updates from a source other than the owner can be merged.
pub(crate) trait Merge: Clone {
    /// Merges `update` into this value. Returns the value before the merge, to be restored if the store
    /// refuses the merged one; `None` if the update changed nothing.
    fn merge(&mut self, update: Self) -> Option<Self>;

    /// Keeps what was merged: where this value of the owner is still `previous`, the owner's value before it, the value
    /// in force applies. The owner may not have seen the merge when it made this value.
    fn rebase(&mut self, previous: &Self, in_force: &Self);
}

/// An operation that the lease machine performs, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request<V> {
    Heartbeat,
    Update(V),
    Unregister,
    /// Merge an update that does not come from the owner.
    Merge(V),
}

/// A call to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StoreCall<V> {
    /// Register again, unless another owner holds the id.
    Restore(V),
    Renew(Grant),
    Update {
        value: V,
        /// The value in force before an update of the owner; `None` after a merge.
        before: Option<V>,
        grant: Grant,
    },
    /// Write the value in force where the store may hold another one. Other clients receive no event.
    Rewrite(V, Grant),
    Unregister(Grant),
}

/// An event for the lease machine.
#[derive(Clone, Debug)]
pub(crate) enum Input<V> {
    /// The owner made a request.
    Request(RequestId, Request<V>),
    /// The owner dropped the lease.
    OwnerDropped,
    /// An update that does not come from the owner is to be merged.
    ExternalUpdate(V),
    /// The active call ended; after `Restore`, with the new grant.
    CallCompleted(Result<Option<Grant>>),
    /// The store notified that this grant is lost.
    LeaseLost(Grant, Error),
    /// The time of `next_wake` is reached.
    Tick,
}

/// An instruction of the lease machine.
#[derive(Clone, Debug)]
pub(crate) enum Output<V> {
    /// Start this call. There is never more than one active call.
    Call(StoreCall<V>),
    /// Watch for the loss of this grant and of no other.
    WatchGrant(Option<Grant>),
    /// Answer the request of this number.
    Reply(RequestId, Result<()>),
    /// The standing is `live`.
    Live,
    /// The standing is `lapsed`.
    Lapsed(Error),
    /// The standing is `replaced`.
    Replaced(Error),
    /// The store holds this value now, by an update of the owner or by a merge.
    ValueWritten(V),
    /// The store refused a merged value for good; the value before the merge is in force.
    MergeRefused(Error),
    /// Unregistered. No output follows.
    Released,
    /// The registration was restored, for this many times in a row.
    Restored(u32),
}
