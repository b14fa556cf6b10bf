//! Safety properties of the outputs of the lease machine.

use std::collections::BTreeSet;
use std::time::Duration;

use super::harness::MERGED;
use super::store_model::TTL;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{RequestId, StoreCall, Time};
use crate::model::Grant;

pub(super) type Check = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Live,
    Lapsed,
    Replaced,
    Released,
}

/// The outputs of the machine as the owner and the store observed them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Observed {
    pub(super) standing: Standing,
    /// The value in force.
    pub(super) value: u32,
    /// The start of the last confirmed call.
    confirmed: Time,
    /// The current grant.
    grant: Grant,
    pub(super) unanswered: BTreeSet<RequestId>,
    request_count: RequestId,
    /// True once the machine received `Replaced`.
    replaced_reported: bool,
    /// The time of the last restore, if no request followed.
    restored: Option<Time>,
    pub(super) lapses: u32,
}

impl Observed {
    pub(super) fn new(value: u32, grant: Grant) -> Observed {
        Observed {
            standing: Standing::Live,
            value,
            confirmed: Duration::ZERO,
            grant,
            unanswered: BTreeSet::new(),
            request_count: 0,
            replaced_reported: false,
            restored: None,
            lapses: 0,
        }
    }

    /// Records the value in force. No update of the owner undoes a merge, of which each is newer than the one before.
    pub(super) fn value_written(&mut self, value: u32) -> Check {
        if value & MERGED < self.value & MERGED {
            return Err(format!("{value:#x} undoes a merge in {:#x}", self.value));
        }
        self.value = value;
        Ok(())
    }

    /// Records that an update of the owner succeeded.
    pub(super) fn updated(&self, value: u32) -> Check {
        match self.value & !MERGED == value & !MERGED {
            true => Ok(()),
            false => Err(format!("{value:#x} is not in force, but {:#x}", self.value)),
        }
    }

    /// Returns the number of a new request.
    pub(super) fn next_request(&mut self) -> RequestId {
        self.request_count += 1;
        self.unanswered.insert(self.request_count);
        self.restored = None;
        self.request_count
    }

    pub(super) fn released(&self) -> bool {
        self.standing == Standing::Released
    }

    /// Checks a call to the store.
    pub(super) fn call(&self, call: &StoreCall<u32>, manual: bool) -> Check {
        if self.released() {
            return Err(format!("{call:?} after the release"));
        }
        if self.replaced_reported {
            return Err(format!("{call:?} although another owner holds the id"));
        }
        match call {
            StoreCall::Renew(grant)
            | StoreCall::Update { grant, .. }
            | StoreCall::Rewrite(_, grant)
                if *grant != self.grant =>
            {
                Err(format!(
                    "{call:?}, but the current grant is {:?}",
                    self.grant
                ))
            }
            StoreCall::Renew(_) if manual && self.unanswered.is_empty() => {
                Err("renewed without a heartbeat of the program".into())
            }
            _ => Ok(()),
        }
    }

    /// Records an answer that the machine receives.
    pub(super) fn answered(
        &mut self,
        call: &StoreCall<u32>,
        since: Time,
        answer: &Result<Option<Grant>>,
    ) {
        match (call, answer) {
            (StoreCall::Renew(_), Ok(_)) => self.confirmed = self.confirmed.max(since),
            (StoreCall::Restore(_), Ok(grant)) => {
                self.grant = grant.unwrap_or(self.grant);
                self.confirmed = since;
            }
            (_, Err(error)) => self.error_delivered(error),
            _ => {}
        }
    }

    /// Records a shared renewal.
    pub(super) fn shared_renewal(&mut self, grant: Grant, now: Time) {
        if grant == self.grant {
            self.confirmed = now;
        }
    }

    pub(super) fn error_delivered(&mut self, error: &Error) {
        self.replaced_reported |= error.kind() == ErrorKind::Replaced;
    }

    pub(super) fn standing_reported(&mut self, standing: Standing) -> Check {
        if self.released() || self.standing == standing {
            return Err(format!("{standing:?} after {:?}", self.standing));
        }
        if self.standing == Standing::Replaced && standing != Standing::Released {
            return Err(format!("{standing:?} after `replaced`"));
        }
        if standing == Standing::Replaced && !self.replaced_reported {
            return Err("replaced without another owner".into());
        }
        self.lapses += u32::from(standing == Standing::Lapsed);
        self.standing = standing;
        Ok(())
    }

    /// Checks that each request is answered once.
    pub(super) fn reply(&mut self, id: RequestId) -> Check {
        let first = self.unanswered.remove(&id);
        first
            .then_some(())
            .ok_or(format!("request {id} answered again"))
    }

    pub(super) fn restored(&mut self, now: Time) -> Check {
        let last = self.restored.replace(now);
        match last {
            Some(last) if now < last + Duration::from_secs(1) && self.unanswered.is_empty() => {
                Err(format!("restored at {last:?} and again at {now:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that `live` implies a confirmation within one TTL.
    pub(super) fn check_liveness(&self, now: Time) -> Check {
        if self.standing == Standing::Live && now > self.confirmed + TTL {
            return Err(format!(
                "live at {now:?}, confirmed at {:?}",
                self.confirmed
            ));
        }
        Ok(())
    }
}
