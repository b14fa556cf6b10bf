//! Merging of updates that do not come from the owner. The machine does not know their source.

use super::{Action, ActiveCall, LeaseMachine, Ownership, Request, Time, reply};
use crate::error::{Error, ErrorKind};
use crate::lease::messages::{Merge, Output};

impl<V: Merge> LeaseMachine<V> {
    /// Merges an update and writes the result at once; if that fails, before the next renewal.
    pub(super) fn merge_external(&mut self, update: V, now: Time, out: &mut Vec<Output<V>>) {
        if self.ownership == Ownership::Replaced {
            return;
        }
        let Some(before) = self.desired.merge(update) else {
            return;
        };
        self.value_before_merge.get_or_insert(before);
        if self.current_grant().is_some() {
            self.begin_call(Action::Update, None, None, now, out);
        }
    }

    /// The store holds the desired value if `call` wrote it.
    pub(super) fn confirm_value(&mut self, call: &ActiveCall<V>, out: &mut Vec<Output<V>>) {
        if !call.writes_value() {
            return;
        }
        let by_owner = call.value_before.is_some();
        if self.value_before_merge.take().is_some() || by_owner {
            out.push(Output::ValueWritten(self.desired.clone()));
        }
        if by_owner {
            // Merges that wait in the queue are older than the update of the owner.
            self.requests
                .retain(|(_, request)| !matches!(request, Request::Merge(_)));
        }
    }

    /// Returns the value before the merge if the store refused the merged value for good.
    pub(super) fn take_refused_merge(&mut self, call: &ActiveCall<V>, error: &Error) -> Option<V> {
        let by_owner = call.value_before.is_some() || !call.writes_value();
        let replaced = error.kind() == ErrorKind::Replaced || self.ownership == Ownership::Replaced;
        if by_owner || replaced || error.is_retriable() {
            return None;
        }
        self.value_before_merge.take()
    }

    /// Continues with the value before a refused merge, because an external update must not be able to end
    /// the registration.
    pub(super) fn revert_merge(
        &mut self,
        call: ActiveCall<V>,
        before: V,
        error: Error,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        self.desired = before;
        out.push(Output::MergeRefused(error.clone()));
        let repeat = match self.ownership {
            Ownership::Lost(_) => call.action == Action::Restore,
            Ownership::ValueUncertain(_) => call.action != Action::Restore,
            Ownership::Held(_) | Ownership::Replaced => false,
        };
        if repeat {
            self.begin_call(call.action, call.request, None, now, out);
        } else {
            reply(call.request, Err(error), out);
        }
    }
}

impl<V> ActiveCall<V> {
    fn writes_value(&self) -> bool {
        matches!(
            self.action,
            Action::Update | Action::Rewrite | Action::Restore
        )
    }
}
