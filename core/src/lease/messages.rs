//! What the machine that keeps a registration is told, and what it says.

use crate::error::{Error, Result};
use crate::model::Grant;

/// Names an order of the owner.
pub(crate) type OrderId = u64;

/// A value that can take over what the service says to all.
pub(crate) trait Adopt: Clone {
    /// If that changed anything: what there was before, to go back to should the store refuse it.
    fn adopt(&mut self, said: Self) -> Option<Self>;
}

/// What the owner asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order<V> {
    Heartbeat,
    Update(V),
    Unregister,
    /// Not of the owner: the service says this to all of its registrations.
    Adopt(V),
}

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call<V> {
    /// Write it again, unless somebody else is there.
    RestoreOnly(V),
    Renew(Grant),
    Update(V, Grant),
    /// Write what holds where another value may be. That says nothing new to anybody.
    Settle(V, Grant),
    Unregister(Grant),
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input<V> {
    Order(OrderId, Order<V>),
    /// The owner is gone.
    Dropped,
    /// The service says this to all of its registrations.
    Heard(V),
    /// The answer to the call; with the new grant, if it was to put back.
    Done(Result<Option<Grant>>),
    /// The store told by itself that this grant does not hold any more.
    Guard(Grant, Error),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Output<V> {
    Call(Call<V>),
    /// Watch over this grant, and over no other.
    Guard(Option<Grant>),
    Reply(OrderId, Result<()>),
    Live,
    Lapsed(Error),
    Replaced(Error),
    /// This is the value now: the store has it, the owner's update or what was taken over.
    Value(V),
    /// What was to be taken over is refused, and the value before it holds.
    Refused(Error),
    /// Unregistered; nothing follows.
    Released,
    /// It was lost and is back; how often that was so within a short time.
    Restored(u32),
}
