//! What must be so of all that the machine says and does.

use std::collections::BTreeSet;
use std::time::Duration;

use super::store_model::TTL;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{Call, OrderId, Time};
use crate::model::Grant;

pub(super) type Check = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Live,
    Lapsed,
    Replaced,
    Released,
}

/// What the owner and the store have seen of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// The value that the owner may rely on.
    pub(super) value: u32,
    /// When the last call that was confirmed began.
    confirmed: Time,
    /// The grant that it speaks of.
    grant: Grant,
    pub(super) unanswered: BTreeSet<OrderId>,
    given: OrderId,
    /// It was told that there is another owner.
    hands_off: bool,
    /// When it was put back last, without an order since.
    restored: Option<Time>,
    pub(super) lapses: u32,
}

impl Seen {
    pub(super) fn new(value: u32, grant: Grant) -> Seen {
        Seen {
            standing: Standing::Live,
            value,
            confirmed: Duration::ZERO,
            grant,
            unanswered: BTreeSet::new(),
            given: 0,
            hands_off: false,
            restored: None,
            lapses: 0,
        }
    }

    /// The name of a new order.
    pub(super) fn order(&mut self) -> OrderId {
        self.given += 1;
        self.unanswered.insert(self.given);
        self.restored = None;
        self.given
    }

    pub(super) fn released(&self) -> bool {
        self.standing == Standing::Released
    }

    /// The machine calls the store.
    pub(super) fn call(&self, call: &Call<u32>, manual: bool) -> Check {
        if self.released() {
            return Err(format!("{call:?} after the end"));
        }
        if self.hands_off {
            return Err(format!("{call:?} although another owner is there"));
        }
        match call {
            Call::Renew(grant) | Call::Update(_, grant) | Call::Settle(_, grant)
                if *grant != self.grant =>
            {
                Err(format!("{call:?}, and {:?} is what is held", self.grant))
            }
            Call::Renew(_) if manual && self.unanswered.is_empty() => {
                Err("renewed although the program did not say so".into())
            }
            _ => Ok(()),
        }
    }

    /// An answer comes to the machine.
    pub(super) fn answered(
        &mut self,
        call: &Call<u32>,
        since: Time,
        answer: &Result<Option<Grant>>,
    ) {
        match (call, answer) {
            (Call::Renew(_), Ok(_)) => self.confirmed = self.confirmed.max(since),
            (Call::RestoreOnly(_), Ok(grant)) => {
                self.grant = grant.unwrap_or(self.grant);
                self.confirmed = since;
            }
            (_, Err(error)) => self.told_of(error),
            _ => {}
        }
    }

    /// The grant was renewed without a call of the machine.
    pub(super) fn kept(&mut self, grant: Grant, now: Time) {
        if grant == self.grant {
            self.confirmed = now;
        }
    }

    pub(super) fn told_of(&mut self, error: &Error) {
        self.hands_off |= error.kind() == ErrorKind::Replaced;
    }

    pub(super) fn stands(&mut self, standing: Standing) -> Check {
        if self.released() || self.standing == standing {
            return Err(format!("{standing:?} after {:?}", self.standing));
        }
        if self.standing == Standing::Replaced && standing != Standing::Released {
            return Err(format!("{standing:?} after another owner came"));
        }
        if standing == Standing::Replaced && !self.hands_off {
            return Err("replaced by nobody".into());
        }
        self.lapses += u32::from(standing == Standing::Lapsed);
        self.standing = standing;
        Ok(())
    }

    /// Each order is answered once.
    pub(super) fn reply(&mut self, id: OrderId) -> Check {
        let first = self.unanswered.remove(&id);
        first
            .then_some(())
            .ok_or(format!("order {id} answered again"))
    }

    pub(super) fn restored(&mut self, now: Time) -> Check {
        let last = self.restored.replace(now);
        match last {
            Some(last) if now < last + Duration::from_secs(1) && self.unanswered.is_empty() => {
                Err(format!("put back at {last:?} and again at {now:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Believed alive implies confirmed within a TTL.
    pub(super) fn check_belief(&self, now: Time) -> Check {
        if self.standing == Standing::Live && now > self.confirmed + TTL {
            return Err(format!(
                "said live at {now:?}, confirmed at {:?}",
                self.confirmed
            ));
        }
        Ok(())
    }
}
