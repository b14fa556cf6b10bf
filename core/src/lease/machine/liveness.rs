//! What is believed of a registration, and said of it: live, while the store has confirmed it lately.

use super::{Holding, Machine, Output, Time, Told};
use crate::error::{Error, ErrorKind};
use crate::lease::messages::Adopt;
use crate::model::Grant;
use crate::mutants::mutant;

impl<V: Adopt> Machine<V> {
    /// The store, which renews by itself what it keeps for many, confirmed what is held by a call that began
    /// then. We speak ourselves before that is too late.
    pub(crate) fn kept(&mut self, confirmed: Time) {
        let confirmed = mutant!(kept_for_longer_than_a_ttl: confirmed + self.ttl, confirmed);
        if self.well().is_some() && confirmed > self.confirmed {
            self.confirmed = confirmed;
            self.next = confirmed + Grant::overdue_after(self.ttl);
        }
    }

    /// The grant that has only to be renewed, be it by the store itself. Nothing else is to be done, unless
    /// it is not renewed in time.
    pub(crate) fn rests(&self) -> Option<Grant> {
        let idle = self.doing.is_none() && !self.manual && !self.over;
        self.well().filter(|_| idle)
    }

    /// What is in doubt, and what was said to be lapsed, is settled by ourselves.
    fn well(&self) -> Option<Grant> {
        let sure = matches!(self.holding, Holding::Granted(_));
        let sure = sure || mutant!(doubt_is_left_to_others: true, false);
        let live = self.told == Told::Live || mutant!(a_lapse_is_left_to_others: true, false);
        self.held().filter(|_| sure && live)
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let unconfirmed = now.saturating_sub(self.confirmed) >= self.ttl;
        // Without a call under way, a manual one is about to expire by our own doing.
        let expires = self.manual && self.doing.is_none();
        if unconfirmed
            && !expires
            && self.told == Told::Live
            && mutant!(believed_alive: false, true)
        {
            let text = format!("not confirmed by the store for {:?}", self.ttl);
            self.lapse(Error::new(ErrorKind::Timeout, text), out);
        }
    }

    /// Says that it is live, if that is known: an update shows who holds it, and not for how long yet.
    pub(super) fn live(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let known = self.held().is_some() && now < self.confirmed + self.ttl;
        if self.told != Told::Live && mutant!(live_without_proof: true, known) {
            self.told = Told::Live;
            out.push(Output::Live);
        }
    }

    pub(super) fn lapse(&mut self, error: Error, out: &mut Vec<Output<V>>) {
        if self.told == Told::Live {
            self.told = Told::Lapsed;
            out.push(Output::Lapsed(error));
        }
    }
}
