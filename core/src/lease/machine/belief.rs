//! What is believed of a registration, and said of it: live, while the store has confirmed it lately.

use super::{Holding, Machine, Output, Time, Told};
use crate::error::{Error, Kind};
use crate::lease::words::Adopt;
use crate::planted::planted;

impl<V: Adopt> Machine<V> {
    /// Others see to it that it is renewed. We look again, and speak ourselves, before that is too late.
    pub(super) fn kept(&mut self, confirmed: Time) {
        let confirmed = planted!(kept_for_longer_than_a_ttl: confirmed + self.ttl, confirmed);
        // What is in doubt is settled by ourselves.
        let well = matches!(self.holding, Holding::Granted(_)) && self.told == Told::Live;
        if well && confirmed > self.confirmed {
            self.confirmed = confirmed;
            self.next = confirmed + self.ttl * 2 / 3;
        }
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let unconfirmed = now.saturating_sub(self.confirmed) >= self.ttl;
        // Without a call under way, a manual one is about to expire by our own doing.
        let expires = self.manual && self.doing.is_none();
        if unconfirmed
            && !expires
            && self.told == Told::Live
            && planted!(believed_alive: false, true)
        {
            let text = format!("not confirmed by the store for {:?}", self.ttl);
            self.lapse(Error::new(Kind::Timeout, text), out);
        }
    }

    /// Says that it is live, if that is known: an update shows who holds it, and not for how long yet.
    pub(super) fn live(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let known = self.held().is_some() && now < self.confirmed + self.ttl;
        if self.told != Told::Live && planted!(live_without_proof: true, known) {
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
