//! The decision whether a registration is reported as live or lapsed.

use super::{LeaseMachine, Output, Ownership, ReportedStanding, Time};
use crate::error::{Error, ErrorKind};
use crate::lease::messages::Merge;
use crate::model::Grant;
use crate::mutants::mutant;

impl<V: Merge> LeaseMachine<V> {
    /// Records that the store renewed the current grant together with others, by a call that started at
    /// `confirmed`. The own renewal is postponed, but stays early enough to find out why a later shared
    /// renewal did not happen.
    pub(crate) fn record_shared_renewal(&mut self, confirmed: Time) {
        let confirmed = mutant!(
            shared_renewal_counts_for_another_ttl: confirmed + self.ttl,
            confirmed
        );
        if self.healthy_grant().is_some() && confirmed > self.confirmed_at {
            self.confirmed_at = confirmed;
            self.next_call_at = confirmed + Grant::overdue_after(self.ttl);
        }
    }

    /// Returns the current grant if renewals, which the store may do by itself, are all there is to do.
    pub(crate) fn idle_grant(&self) -> Option<Grant> {
        let idle = self.active_call.is_none() && !self.manual && !self.released;
        self.healthy_grant().filter(|_| idle)
    }

    /// Returns the current grant if shared renewals suffice. An uncertain value and a reported lapse need
    /// calls of this machine.
    fn healthy_grant(&self) -> Option<Grant> {
        let certain = matches!(self.ownership, Ownership::Held(_));
        let certain =
            certain && mutant!(shared_renewal_hides_a_failed_unregister: true, !self.is_releasing);
        let certain = certain || mutant!(shared_renewal_hides_an_uncertain_value: true, false);
        let live = self.reported == ReportedStanding::Live
            || mutant!(shared_renewal_hides_a_lapse: true, false);
        self.current_grant().filter(|_| certain && live)
    }

    pub(super) fn check_expiry(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let unconfirmed = now.saturating_sub(self.confirmed_at) >= self.ttl;
        // Without an active call, a manual registration is about to be unregistered by this machine.
        let expires = self.manual && self.active_call.is_none() && !self.is_releasing;
        if unconfirmed
            && !expires
            && self.reported == ReportedStanding::Live
            && mutant!(unconfirmed_stays_live: false, true)
        {
            let text = format!("not confirmed by the store for {:?}", self.ttl);
            self.report_lapsed(Error::new(ErrorKind::Timeout, text), out);
        }
    }

    /// Reports `live` if the store confirmed the registration within one TTL. An update alone proves who
    /// holds the id, but not that the TTL was extended.
    pub(super) fn report_live(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let confirmed = self.current_grant().is_some() && now < self.confirmed_at + self.ttl;
        if self.reported != ReportedStanding::Live
            && mutant!(live_without_confirmation: true, confirmed)
        {
            self.reported = ReportedStanding::Live;
            out.push(Output::Live);
        }
    }

    pub(super) fn report_lapsed(&mut self, error: Error, out: &mut Vec<Output<V>>) {
        if self.reported == ReportedStanding::Live {
            self.reported = ReportedStanding::Lapsed;
            out.push(Output::Lapsed(error));
        }
    }
}
