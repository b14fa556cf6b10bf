//! Sans-I/O state machine that keeps one registration alive.
//!
//! The machine has no I/O, clock or randomness. Inputs are timestamped events; outputs are calls to the
//! store, one at a time, and notifications to the owner.
//!
//! ```text
//!   Held ──renew every ttl/3──▶ Held              Replaced: another owner; never written to again
//!     │ lease lost                ▲
//!     ▼                           │ at most once a second
//!   Lost ──restore unless another owner holds the id──▶ unregister the rest of the old grant
//! ```
//!
//! Invariants:
//!
//! - After an update without an answer, the value in force is written again before the next renewal.
//! - A lost registration is restored with the last value requested.
//! - `unregister` is performed before any scheduled renewal or restore. If it fails, it is repeated until the store
//!   confirms it or another owner holds the id; nothing else is written meanwhile.
//! - No output follows `Released`.
//! - The standing is `live` only if the store confirmed the registration within one TTL.
//!
//! If the store renews grants by itself, several at once, the caller passes the time of the last such
//! renewal before each step (`record_shared_renewal`) and does not step the machine while renewals are all
//! there is to do (`idle_grant`).

mod call_results;
mod external_update;
mod liveness;

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Grant;
use crate::mutants::mutant;

/// A point in time, as the duration since a fixed start.
pub(crate) type Time = Duration;

/// The longest wait before a failed call is tried again.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two restores.
const MIN_RESTORE_INTERVAL: Duration = Duration::from_secs(1);
/// Restores within this time of each other are counted as consecutive.
const CONSECUTIVE_RESTORE_WINDOW: Duration = Duration::from_secs(10);
/// A time that is never reached.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

pub(crate) use crate::lease::messages::{Input, Merge, Output, Request, RequestId, StoreCall};

/// Who holds the id in the store, as far as the store reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ownership {
    /// This lease, with the desired value.
    Held(Grant),
    /// This lease, but the store may hold another value than the desired one.
    ValueUncertain(Grant),
    /// Not this lease. The grant is the lost one, of which the store may still hold something.
    Lost(Option<Grant>),
    /// Another owner.
    Replaced,
}

/// The standing that the owner was last notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ReportedStanding {
    Live,
    Lapsed,
    Replaced,
}

/// The call to the store that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ActiveCall<V> {
    action: Action,
    started_at: Time,
    /// The request to answer when the call ends.
    request: Option<RequestId>,
    /// The values before an update of the owner, which are in force again if the update fails.
    value_before: Option<ValueBefore<V>>,
}

/// The values before an update of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ValueBefore<V> {
    desired: V,
    owned: V,
}

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Renew,
    /// Write the desired value where the store may hold another one, then renew.
    Rewrite,
    Update,
    Restore,
    /// Unregister the rest of an old grant after a restore.
    ClearOldGrant(Grant),
    /// Unregister because no manual heartbeat arrived within the TTL.
    Expire,
    Release,
}

/// The state machine. `V` is the registered value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseMachine<V> {
    desired: V,
    /// The last value of the owner, into which nothing was merged.
    owned: V,
    /// The desired value before a merge that the store has not confirmed yet.
    value_before_merge: Option<V>,
    manual: bool,
    ownership: Ownership,
    ttl: Duration,
    /// The start of the last call that the store confirmed.
    confirmed_at: Time,
    /// The time of the next scheduled call.
    next_call_at: Time,
    backoff: Backoff,
    reported: ReportedStanding,
    active_call: Option<ActiveCall<V>>,
    requests: VecDeque<(Option<RequestId>, Request<V>)>,
    last_restore: Option<Time>,
    consecutive_restores: u32,
    /// True after an unregistration that failed; it is repeated.
    is_releasing: bool,
    released: bool,
}

impl<V: Merge> LeaseMachine<V> {
    /// Creates the machine of a new registration, whose call started at `now`. `seed` seeds the jitter of
    /// the backoff.
    pub(crate) fn new(
        desired: V,
        manual: bool,
        grant: Grant,
        seed: u64,
        now: Time,
    ) -> LeaseMachine<V> {
        let base = Duration::from_millis(100);
        let mut machine = LeaseMachine {
            owned: desired.clone(),
            desired,
            value_before_merge: None,
            manual,
            ownership: Ownership::Held(grant),
            ttl: grant.ttl,
            confirmed_at: now,
            next_call_at: now,
            backoff: Backoff::with_seed(base, MAX_RETRY_INTERVAL.min(grant.ttl / 3), seed),
            reported: ReportedStanding::Live,
            active_call: None,
            requests: VecDeque::new(),
            last_restore: None,
            consecutive_restores: 0,
            is_releasing: false,
            released: false,
        };
        machine.schedule_renewal(now);
        machine
    }

    /// Returns the time at which `step` must be called with `Tick` at the latest.
    pub(crate) fn next_wake(&self) -> Option<Time> {
        let idle = self.active_call.is_none() && self.ownership != Ownership::Replaced;
        let call = idle.then_some(self.next_call_at);
        let is_live = self.reported == ReportedStanding::Live;
        let lapse = is_live.then_some(self.confirmed_at + self.ttl);
        call.into_iter()
            .chain(lapse)
            .filter(|_| !self.released)
            .min()
    }

    /// Returns true if an unregistration failed and is repeated.
    pub(crate) fn is_releasing(&self) -> bool {
        self.is_releasing
    }

    /// Returns the grant under which this lease holds the id.
    pub(crate) fn current_grant(&self) -> Option<Grant> {
        match self.ownership {
            Ownership::Held(grant) | Ownership::ValueUncertain(grant) => Some(grant),
            Ownership::Lost(_) | Ownership::Replaced => None,
        }
    }

    /// Applies an event and returns what the caller must do, in order.
    pub(crate) fn step(&mut self, input: Input<V>, now: Time) -> Vec<Output<V>> {
        let mut out = Vec::new();
        if self.released {
            return out;
        }
        match input {
            Input::Request(id, request) => self.requests.push_back((Some(id), request)),
            Input::ExternalUpdate(update) => {
                self.requests.push_back((None, Request::Merge(update)));
            }
            Input::OwnerDropped => self.requests.push_back((None, Request::Unregister)),
            Input::CallCompleted(answer) => {
                if let Some(call) = self.active_call.take() {
                    self.complete_call(call, answer, now, &mut out);
                }
            }
            Input::LeaseLost(grant, error) => self.lose_grant(grant, error, now, &mut out),
            Input::Tick => self.check_expiry(now, &mut out),
        }
        // Requests take precedence over scheduled renewals and restores.
        while self.active_call.is_none() && !self.released {
            match self.requests.pop_front() {
                Some((id, request)) => self.start_request(id, request, now, &mut out),
                None if now >= self.next_call_at => self.start_scheduled_call(now, &mut out),
                None => break,
            }
        }
        out
    }

    fn start_request(
        &mut self,
        id: Option<RequestId>,
        request: Request<V>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let request = match request {
            Request::Merge(_) if self.is_releasing => return,
            Request::Heartbeat | Request::Update(_) if self.is_releasing => {
                return reply(id, Err(releasing_error()), out);
            }
            Request::Merge(update) => return self.merge_external(update, now, out),
            other => other,
        };
        let action = match (&request, self.ownership) {
            (Request::Unregister, Ownership::Held(_) | Ownership::ValueUncertain(_)) => {
                Action::Release
            }
            (Request::Unregister, Ownership::Lost(Some(_))) => {
                mutant!(unregister_after_loss_restores: Action::Restore, Action::Release)
            }
            (Request::Unregister, Ownership::Lost(None) | Ownership::Replaced) => {
                return self.release(id, Ok(()), out);
            }
            (_, Ownership::Replaced) => return reply(id, Err(replaced_error()), out),
            (_, Ownership::Lost(_)) => Action::Restore,
            (Request::Heartbeat, Ownership::Held(_)) => Action::Renew,
            (Request::Heartbeat, Ownership::ValueUncertain(_)) => Action::Rewrite,
            (Request::Update(_) | Request::Merge(_), _) => Action::Update,
        };
        let value_before = match request {
            Request::Update(value) => {
                let value = mutant!(restore_ignores_the_update: match self.ownership {
                    Ownership::Lost(_) => self.desired.clone(),
                    _ => value,
                }, value);
                Some(self.replace_value(value))
            }
            _ => None,
        };
        self.begin_call(action, id, value_before, now, out);
    }

    /// Makes a value of the owner the desired one; returns the values before it.
    fn replace_value(&mut self, mut value: V) -> ValueBefore<V> {
        let owned = std::mem::replace(&mut self.owned, value.clone());
        if mutant!(update_undoes_merges: false, true) {
            value.rebase(&owned, &self.desired);
        }
        let desired = std::mem::replace(&mut self.desired, value);
        ValueBefore { desired, owned }
    }

    fn start_scheduled_call(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        if self.is_releasing {
            return self.start_request(None, Request::Unregister, now, out);
        }
        let action = match (self.ownership, self.manual) {
            (Ownership::Replaced, _) | (Ownership::Lost(None), true) => {
                self.next_call_at = NEVER;
                return;
            }
            (Ownership::Lost(_), true) if now < self.confirmed_at + self.ttl => Action::Restore,
            (_, true) => {
                mutant!(missed_manual_heartbeat_renews: Action::Renew, Action::Expire)
            }
            (Ownership::Held(_), false) => Action::Renew,
            (Ownership::ValueUncertain(_), false) => Action::Rewrite,
            (Ownership::Lost(_), false) => Action::Restore,
        };
        self.begin_call(action, None, None, now, out);
    }

    fn begin_call(
        &mut self,
        action: Action,
        request: Option<RequestId>,
        value_before: Option<ValueBefore<V>>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let grant = match self.ownership {
            Ownership::Held(grant) | Ownership::ValueUncertain(grant) => Some(grant),
            Ownership::Lost(old_grant) => old_grant,
            Ownership::Replaced => None,
        };
        let call = match (action, grant) {
            (Action::Renew, Some(grant)) => StoreCall::Renew(grant),
            (Action::Rewrite, Some(grant)) => StoreCall::Rewrite(self.desired.clone(), grant),
            (Action::Update, Some(grant)) => StoreCall::Update {
                value: self.desired.clone(),
                before: value_before.as_ref().map(|before| before.desired.clone()),
                grant,
            },
            (Action::Expire | Action::Release, Some(grant)) => StoreCall::Unregister(grant),
            (Action::ClearOldGrant(old_grant), _) => StoreCall::Unregister(old_grant),
            _ => StoreCall::Restore(self.desired.clone()),
        };
        let action = if matches!(call, StoreCall::Restore(_)) {
            Action::Restore
        } else {
            action
        };
        if matches!(action, Action::Expire | Action::Release | Action::Restore) {
            // From here on this machine itself ends the old grant.
            out.push(Output::WatchGrant(None));
        }
        self.active_call = Some(ActiveCall {
            action,
            started_at: now,
            request,
            value_before,
        });
        out.push(Output::Call(call));
    }

    fn release(
        &mut self,
        request: Option<RequestId>,
        answer: Result<()>,
        out: &mut Vec<Output<V>>,
    ) {
        self.released = mutant!(continues_after_release: false, true);
        out.push(Output::WatchGrant(None));
        out.push(Output::Released);
        reply(request, answer, out);
    }
}

fn releasing_error() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the instance is being unregistered; register it again",
    )
}

fn replaced_error() -> Error {
    Error::new(
        ErrorKind::Replaced,
        "another owner has registered the same id",
    )
}

fn reply<V>(request: Option<RequestId>, answer: Result<()>, out: &mut Vec<Output<V>>) {
    out.extend(request.map(|id| Output::Reply(id, answer)));
}
