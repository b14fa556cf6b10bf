//! The consequences of an answer of the store, and of the loss of a grant.

use super::{
    Action, ActiveCall, CONSECUTIVE_RESTORE_WINDOW, LeaseMachine, MIN_RESTORE_INTERVAL, NEVER,
    Output, Ownership, ReportedStanding, Time, replaced_error, reply,
};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::messages::Merge;
use crate::model::Grant;
use crate::mutants::mutant;

/// Returns true if the error says that this lease holds nothing in the store any more.
fn is_removed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::Replaced)
}

impl<V: Merge> LeaseMachine<V> {
    pub(super) fn complete_call(
        &mut self,
        call: ActiveCall<V>,
        answer: Result<Option<Grant>>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        if answer.is_ok() {
            self.confirm_value(&call, out);
        }
        match (call.action, answer) {
            (Action::Release, Err(error)) if !is_removed(&error) => {
                self.repeat_release(&call, error, now, out);
            }
            (Action::Release, _) => self.release(call.request, Ok(()), out),
            // Whatever the answer, the store removes the rest of the old grant in time.
            (Action::ClearOldGrant(_), _) => {}
            (Action::Expire, answer) => {
                let is_removed = answer.as_ref().map_or_else(is_removed, |_| true);
                let rest = self.current_grant().filter(|_| !is_removed);
                self.ownership = Ownership::Lost(rest);
                let text = format!("no heartbeat within {:?}", self.ttl);
                self.fail_call(call, Error::new(ErrorKind::LeaseLost, text), now, out);
            }
            (Action::Restore, Ok(grant)) => self.complete_restore(call, grant, now, out),
            (Action::Renew, Ok(_)) => self.confirm_registration(call, now, out),
            (Action::Rewrite, Ok(_)) if self.ownership == Ownership::Replaced => {
                reply(call.request, Err(replaced_error()), out);
            }
            (Action::Rewrite, Ok(_)) => {
                self.clear_value_uncertainty();
                self.begin_call(Action::Renew, call.request, call.value_before, now, out);
            }
            (Action::Update, Ok(_)) => {
                // An update renews nothing, so the next renewal stays when it is.
                self.clear_value_uncertainty();
                self.report_live(now, out);
                reply(call.request, Ok(()), out);
            }
            (_, Err(error))
                if error.kind() == ErrorKind::LeaseLost && self.current_grant().is_some() =>
            {
                self.ownership = Ownership::Lost(self.current_grant());
                let earliest = self.earliest_restore(now);
                if call.request.is_none() && now < earliest {
                    self.next_call_at = earliest;
                    return self.report_lapsed(error, out);
                }
                self.begin_call(Action::Restore, call.request, call.value_before, now, out);
            }
            (_, Err(error)) => self.fail_call(call, error, now, out),
        }
    }

    /// The store did not confirm that the registration is removed: the removal is repeated.
    fn repeat_release(
        &mut self,
        call: &ActiveCall<V>,
        error: Error,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        if mutant!(failed_unregister_is_forgotten: true, false) {
            return self.release(call.request, Err(error), out);
        }
        self.is_releasing = true;
        self.next_call_at = match error.is_retriable() {
            true => now + self.backoff.next_wait(),
            false => now + self.ttl / 3,
        };
        reply(call.request, Err(error), out);
    }

    fn earliest_restore(&self, now: Time) -> Time {
        let interval = mutant!(restore_without_pause: Time::ZERO, MIN_RESTORE_INTERVAL);
        self.last_restore.map_or(now, |last| last + interval)
    }

    fn clear_value_uncertainty(&mut self) {
        if let Ownership::ValueUncertain(grant) = self.ownership {
            self.ownership = mutant!(
                value_uncertainty_is_never_cleared: Ownership::ValueUncertain(grant),
                Ownership::Held(grant)
            );
        }
    }

    fn complete_restore(
        &mut self,
        call: ActiveCall<V>,
        grant: Option<Grant>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let Some(grant) = grant else {
            let error = Error::new(
                ErrorKind::Internal,
                "the backend registered without a grant",
            );
            return self.fail_call(call, error, now, out);
        };
        let old_grant = match self.ownership {
            Ownership::Lost(old_grant) => old_grant.filter(|old| old.id != grant.id),
            _ => None,
        };
        (self.ownership, self.ttl) = (Ownership::Held(grant), grant.ttl);
        let is_consecutive = self
            .last_restore
            .is_some_and(|last| now.saturating_sub(last) < CONSECUTIVE_RESTORE_WINDOW);
        self.consecutive_restores = if is_consecutive {
            self.consecutive_restores + 1
        } else {
            1
        };
        self.last_restore = Some(now);
        out.push(Output::WatchGrant(Some(grant)));
        out.push(Output::Restored(self.consecutive_restores));
        if self.manual && call.request.is_none() {
            // Only a heartbeat of the program extends the TTL.
            self.next_call_at = self.confirmed_at + self.ttl;
            self.report_live(now, out);
        } else {
            self.confirm_registration(call, now, out);
        }
        // Cleared after the restore, so that the instance stays visible if the old grant still exists.
        if let Some(old_grant) = old_grant {
            self.begin_call(Action::ClearOldGrant(old_grant), None, None, now, out);
        }
    }

    /// The store confirmed the registration by this call.
    fn confirm_registration(&mut self, call: ActiveCall<V>, now: Time, out: &mut Vec<Output<V>>) {
        self.backoff.reset();
        // A loss or a new owner reported meanwhile is newer than the answer to this call.
        if self.current_grant().is_some() {
            // The TTL counts from the start of the call: the store may have acted that early.
            self.schedule_renewal(mutant!(confirmed_by_the_answer: now, call.started_at));
            self.report_live(now, out);
        }
        reply(call.request, Ok(()), out);
    }

    pub(super) fn schedule_renewal(&mut self, confirmed_at: Time) {
        // A shared renewal may have confirmed the grant after the call started.
        self.confirmed_at = self.confirmed_at.max(confirmed_at);
        let interval = if self.manual { self.ttl } else { self.ttl / 3 };
        self.next_call_at = self.confirmed_at + mutant!(renews_too_late: self.ttl * 2, interval);
    }

    fn fail_call(
        &mut self,
        call: ActiveCall<V>,
        error: Error,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        if let Some(before) = self.take_refused_merge(&call, &error) {
            return self.revert_merge(call, before, error, now, out);
        }
        let was_update = call.value_before.is_some();
        let merge_is_pending = self.value_before_merge.is_some();
        if let Some(before) = call.value_before {
            self.desired =
                mutant!(failed_update_stays_in_force: self.desired.clone(), before.desired);
            self.owned = before.owned;
        }
        // The store may have written the new value although its answer was lost.
        if let (true, true, Ownership::Held(grant)) = (
            was_update || merge_is_pending,
            error.is_retriable(),
            self.ownership,
        ) {
            self.ownership =
                mutant!(value_is_never_uncertain: self.ownership, Ownership::ValueUncertain(grant));
        }
        if error.kind() == ErrorKind::Replaced {
            self.become_replaced(error.clone(), out);
        } else if !(was_update && error.kind() == ErrorKind::InvalidArgument) {
            self.schedule_retry(&error, now, out);
        }
        reply(call.request, Err(error), out);
    }

    fn schedule_retry(&mut self, error: &Error, now: Time, out: &mut Vec<Output<V>>) {
        let lost = matches!(self.ownership, Ownership::Lost(_));
        let unconfirmed = now.saturating_sub(self.confirmed_at) >= self.ttl;
        if lost || unconfirmed || !error.is_retriable() {
            self.report_lapsed(error.clone(), out);
        }
        let earliest = if lost {
            self.earliest_restore(now)
        } else {
            now
        };
        self.next_call_at = match (self.manual, lost) {
            (true, true) => NEVER,
            (true, false) => (self.confirmed_at + self.ttl).max(now),
            (false, _) if error.is_retriable() => (now + self.backoff.next_wait()).max(earliest),
            (false, _) => now + self.ttl / 3,
        };
    }

    /// The store notified that a grant is lost. The grant is ignored if it is not the current one.
    pub(super) fn lose_grant(
        &mut self,
        grant: Grant,
        error: Error,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let is_lost_grant = self.ownership == Ownership::Lost(Some(grant));
        if self.current_grant() != Some(grant) && !is_lost_grant {
            return;
        }
        if error.kind() == ErrorKind::Replaced && mutant!(fights_a_new_owner: false, true) {
            return self.become_replaced(error, out);
        }
        self.ownership = Ownership::Lost(Some(grant));
        // An active call reports the loss by its own answer.
        self.next_call_at = self.earliest_restore(now).max(now);
        if self.next_call_at > now {
            self.report_lapsed(error, out);
        }
    }

    fn become_replaced(&mut self, error: Error, out: &mut Vec<Output<V>>) {
        self.ownership = Ownership::Replaced;
        out.push(Output::WatchGrant(None));
        // Both a notification and the answer to a call may report the new owner.
        if self.reported != ReportedStanding::Replaced {
            self.reported = ReportedStanding::Replaced;
            out.push(Output::Replaced(error));
        }
    }
}
