//! What the service says to all of its registrations, taken over.

use crate::error::{Error, ErrorKind};
use crate::lease::machine::{Doing, Holding, Machine, Order, Step, Time, reply};
use crate::lease::messages::{Adopt, Output};

impl<V: Adopt> Machine<V> {
    /// Takes over what the service says to all: it is written at once, and before the next renewal if
    /// that fails.
    pub(super) fn adopt(&mut self, said: V, now: Time, out: &mut Vec<Output<V>>) {
        if self.holding == Holding::Taken {
            return;
        }
        let Some(before) = self.wanted.adopt(said) else {
            return;
        };
        self.before.get_or_insert(before);
        if self.held().is_some() {
            self.begin(Step::Update, None, None, now, out);
        }
    }

    /// The store has what is wanted: the owner's update, or what was taken over.
    pub(super) fn written(&mut self, doing: &Doing<V>, out: &mut Vec<Output<V>>) {
        if !doing.writes() {
            return;
        }
        if self.before.take().is_some() || doing.old.is_some() {
            out.push(Output::Value(self.wanted.clone()));
        }
        if doing.old.is_some() {
            // What was heard before the owner's word counts is older than that.
            self.orders
                .retain(|(_, order)| !matches!(order, Order::Adopt(_)));
        }
    }

    /// What was taken over and has now been refused for good, as it was before.
    pub(super) fn refused(&mut self, doing: &Doing<V>, error: &Error) -> Option<V> {
        let of_the_owner = doing.old.is_some() || !doing.writes();
        let replaced = error.kind() == ErrorKind::Replaced || self.holding == Holding::Taken;
        if of_the_owner || replaced || error.is_retriable() {
            return None;
        }
        self.before.take()
    }

    /// Others must not be able to end what we hold by what they say: it goes on as it was before.
    pub(super) fn fall_back(
        &mut self,
        doing: Doing<V>,
        before: V,
        error: Error,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        self.wanted = before;
        out.push(Output::Refused(error.clone()));
        let again = match self.holding {
            Holding::Lost(_) => doing.step == Step::RestoreOnly,
            Holding::Doubtful(_) => doing.step != Step::RestoreOnly,
            Holding::Granted(_) | Holding::Taken => false,
        };
        if again {
            self.begin(doing.step, doing.order, None, now, out);
        } else {
            reply(doing.order, Err(error), out);
        }
    }
}

impl<V> Doing<V> {
    fn writes(&self) -> bool {
        matches!(self.step, Step::Update | Step::Settle | Step::RestoreOnly)
    }
}
