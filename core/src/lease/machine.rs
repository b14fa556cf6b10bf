//! How a registration is kept: every decision, and nothing else.
//!
//! One machine without I/O, clock or chance of its own. It is told what happened and when, and says
//! what to ask of the store, one call at a time, and what to tell the owner.
//!
//! ```text
//!   Granted ──renew, every ttl/3──▶ Granted          Taken: another owner; hands off for ever
//!      │ lost                          ▲
//!      ▼                               │ at most once a second
//!    Lost ──put back, where nobody else has come──▶ end what is left of the old grant
//! ```
//!
//! What it keeps to: an update in doubt is written again before the next renewal; what was lost is put
//! back with the last value asked for; `unregister` wins every race; nothing is said after the end; and
//! no registration is called live that the store has not confirmed for a TTL. Where the store renews by
//! itself what it keeps for many, the machine hears before each step when it last did (`kept`), and is left
//! alone while that is all that there is to do (`rests`).

mod liveness;
mod shared_attributes;

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Grant;
use crate::mutants::mutant;

/// A moment, as the time since some fixed one.
pub(crate) type Time = Duration;

/// How soon, at the latest, to speak again to a store that did not answer.
const PACE: Duration = Duration::from_secs(1);
/// How soon, at the earliest, to put back again what was lost again.
const PAUSE: Duration = Duration::from_secs(1);
/// Losses that follow each other within this time are a fight.
const FIGHT: Duration = Duration::from_secs(10);
/// Later than anybody waits.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

pub(crate) use crate::lease::messages::{Adopt, Call, Input, Order, OrderId, Output};

/// What the store holds for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holding {
    Granted(Grant),
    /// Held, but with a value that may not be the one we want.
    Doubtful(Grant),
    /// With what may be left of the old grant.
    Lost(Option<Grant>),
    /// Somebody else's now.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Live,
    Lapsed,
    Replaced,
}

/// The call that is under way, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Doing<V> {
    step: Step,
    since: Time,
    order: Option<OrderId>,
    /// What the value was before an update that may yet fail.
    old: Option<V>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Renew,
    /// Write the wanted value where another one may be, then renew.
    Settle,
    Update,
    RestoreOnly,
    /// End what is left of the old grant, once it is put back.
    Clear(Grant),
    /// The program did not say in time that it is alive.
    Expire,
    Release,
}

/// See the module. `V` is the value that is registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine<V> {
    wanted: V,
    /// What was wanted before something was taken over that the store does not have yet.
    before: Option<V>,
    manual: bool,
    holding: Holding,
    ttl: Duration,
    /// When the last call that the store confirmed began.
    confirmed: Time,
    /// When to speak to the store next.
    next: Time,
    backoff: Backoff,
    told: Told,
    doing: Option<Doing<V>>,
    orders: VecDeque<(Option<OrderId>, Order<V>)>,
    /// When it was put back last, and how often in a row.
    restored: Option<Time>,
    fights: u32,
    over: bool,
}

impl<V: Adopt> Machine<V> {
    /// For what was just registered, by a call that began at `now`.
    pub(crate) fn new(wanted: V, manual: bool, grant: Grant, seed: u64, now: Time) -> Machine<V> {
        let base = Duration::from_millis(100);
        let mut machine = Machine {
            wanted,
            before: None,
            manual,
            holding: Holding::Granted(grant),
            ttl: grant.ttl,
            confirmed: now,
            next: now,
            backoff: Backoff::with_seed(base, PACE.min(grant.ttl / 3), seed),
            told: Told::Live,
            doing: None,
            orders: VecDeque::new(),
            restored: None,
            fights: 0,
            over: false,
        };
        machine.rest(now);
        machine
    }

    /// When to step with `Tick` at the latest.
    pub(crate) fn wake(&self) -> Option<Time> {
        let idle = self.doing.is_none() && self.holding != Holding::Taken;
        let speak = idle.then_some(self.next);
        let lapse = (self.told == Told::Live).then_some(self.confirmed + self.ttl);
        speak.into_iter().chain(lapse).filter(|_| !self.over).min()
    }

    /// The whole machine.
    pub(crate) fn step(&mut self, input: Input<V>, now: Time) -> Vec<Output<V>> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        match input {
            Input::Order(id, order) => self.orders.push_back((Some(id), order)),
            Input::Heard(said) => self.orders.push_back((None, Order::Adopt(said))),
            Input::Dropped => self.orders.push_back((None, Order::Unregister)),
            Input::Done(answer) => {
                if let Some(doing) = self.doing.take() {
                    self.done(doing, answer, now, &mut out);
                }
            }
            Input::Guard(grant, error) => self.guard(grant, error, now, &mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        // Orders first: they win every race with a heartbeat or a reconnect.
        while self.doing.is_none() && !self.over {
            match self.orders.pop_front() {
                Some((id, order)) => self.obey(id, order, now, &mut out),
                None if now >= self.next => self.speak(now, &mut out),
                None => break,
            }
        }
        out
    }

    fn obey(
        &mut self,
        order: Option<OrderId>,
        what: Order<V>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let what = match what {
            Order::Adopt(said) => return self.adopt(said, now, out),
            other => other,
        };
        let step = match (&what, self.holding) {
            (Order::Unregister, Holding::Granted(_) | Holding::Doubtful(_)) => Step::Release,
            (Order::Unregister, Holding::Lost(Some(_))) => {
                mutant!(release_does_not_win: Step::RestoreOnly, Step::Release)
            }
            (Order::Unregister, Holding::Lost(None) | Holding::Taken) => {
                return self.release(order, Ok(()), out);
            }
            (_, Holding::Taken) => {
                let text = "the id has another owner now";
                return reply(order, Err(Error::new(ErrorKind::Replaced, text)), out);
            }
            (_, Holding::Lost(_)) => Step::RestoreOnly,
            (Order::Heartbeat, Holding::Granted(_)) => Step::Renew,
            (Order::Heartbeat, Holding::Doubtful(_)) => Step::Settle,
            (Order::Update(_) | Order::Adopt(_), _) => Step::Update,
        };
        let old = match what {
            Order::Update(value) => {
                let value = mutant!(an_update_is_lost_when_put_back: match self.holding {
                    Holding::Lost(_) => self.wanted.clone(),
                    _ => value,
                }, value);
                Some(std::mem::replace(&mut self.wanted, value))
            }
            _ => None,
        };
        self.begin(step, order, old, now, out);
    }

    /// It is time to speak to the store.
    fn speak(&mut self, now: Time, out: &mut Vec<Output<V>>) {
        let step = match (self.holding, self.manual) {
            (Holding::Taken, _) => {
                self.next = NEVER;
                return;
            }
            (Holding::Lost(None), true) => {
                self.next = NEVER;
                return;
            }
            (Holding::Lost(_), true) if now < self.confirmed + self.ttl => Step::RestoreOnly,
            (_, true) => mutant!(a_silent_program_is_kept: Step::Renew, Step::Expire),
            (Holding::Granted(_), false) => Step::Renew,
            (Holding::Doubtful(_), false) => Step::Settle,
            (Holding::Lost(_), false) => Step::RestoreOnly,
        };
        self.begin(step, None, None, now, out);
    }

    fn begin(
        &mut self,
        step: Step,
        order: Option<OrderId>,
        old: Option<V>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let held = match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => Some(grant),
            Holding::Lost(left) => left,
            Holding::Taken => None,
        };
        let call = match (step, held) {
            (Step::Renew, Some(grant)) => Call::Renew(grant),
            (Step::Settle, Some(grant)) => Call::Settle(self.wanted.clone(), grant),
            (Step::Update, Some(grant)) => Call::Update(self.wanted.clone(), grant),
            (Step::Expire | Step::Release, Some(grant)) => Call::Unregister(grant),
            (Step::Clear(old), _) => Call::Unregister(old),
            _ => Call::RestoreOnly(self.wanted.clone()),
        };
        let step = if matches!(call, Call::RestoreOnly(_)) {
            Step::RestoreOnly
        } else {
            step
        };
        if matches!(step, Step::Expire | Step::Release | Step::RestoreOnly) {
            // What becomes of the old grant from here on is our own doing.
            out.push(Output::Guard(None));
        }
        self.doing = Some(Doing {
            step,
            since: now,
            order,
            old,
        });
        out.push(Output::Call(call));
    }

    fn done(
        &mut self,
        doing: Doing<V>,
        answer: Result<Option<Grant>>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        if answer.is_ok() {
            self.written(&doing, out);
        }
        match (doing.step, answer) {
            (Step::Release, answer) => self.release(doing.order, answer.map(drop), out),
            // What is left of the old grant is nothing to us any more; the store sees to it.
            (Step::Clear(_), _) => {}
            (Step::Expire, _) => {
                self.holding = Holding::Lost(None);
                let text = format!("no heartbeat within {:?}", self.ttl);
                self.failed(doing, Error::new(ErrorKind::LeaseLost, text), now, out);
            }
            (Step::RestoreOnly, Ok(grant)) => self.put_back(doing, grant, now, out),
            (Step::Renew, Ok(_)) => self.confirm(doing, now, out),
            (Step::Settle, Ok(_)) if self.holding == Holding::Taken => {
                let text = "the id has another owner now";
                reply(doing.order, Err(Error::new(ErrorKind::Replaced, text)), out);
            }
            (Step::Settle, Ok(_)) => {
                self.now_granted();
                self.begin(Step::Renew, doing.order, doing.old, now, out);
            }
            (Step::Update, Ok(_)) => {
                // A changed value renews nothing, so the next heartbeat stays when it is.
                self.now_granted();
                self.live(now, out);
                reply(doing.order, Ok(()), out);
            }
            (_, Err(error)) if error.kind() == ErrorKind::LeaseLost && self.held().is_some() => {
                self.holding = Holding::Lost(self.held());
                let earliest = self.earliest(now);
                if doing.order.is_none() && now < earliest {
                    self.next = earliest;
                    return self.lapse(error, out);
                }
                self.begin(Step::RestoreOnly, doing.order, doing.old, now, out);
            }
            (_, Err(error)) => self.failed(doing, error, now, out),
        }
    }

    /// When it may be put back again.
    fn earliest(&self, now: Time) -> Time {
        let pause = mutant!(put_back_without_a_pause: Duration::ZERO, PAUSE);
        self.restored.map_or(now, |last| last + pause)
    }

    /// The grant that holds it, if any does.
    pub(crate) fn held(&self) -> Option<Grant> {
        match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => Some(grant),
            Holding::Lost(_) | Holding::Taken => None,
        }
    }

    fn now_granted(&mut self) {
        if let Holding::Doubtful(grant) = self.holding {
            self.holding = mutant!(doubt_stays: Holding::Doubtful(grant), Holding::Granted(grant));
        }
    }

    fn put_back(
        &mut self,
        doing: Doing<V>,
        grant: Option<Grant>,
        now: Time,
        out: &mut Vec<Output<V>>,
    ) {
        let Some(grant) = grant else {
            let error = Error::new(ErrorKind::Internal, "registered without a grant");
            return self.failed(doing, error, now, out);
        };
        let old = match self.holding {
            Holding::Lost(left) => left.filter(|old| old.id != grant.id),
            _ => None,
        };
        (self.holding, self.ttl) = (Holding::Granted(grant), grant.ttl);
        let soon = self
            .restored
            .is_some_and(|last| now.saturating_sub(last) < FIGHT);
        self.fights = if soon { self.fights + 1 } else { 1 };
        self.restored = Some(now);
        out.push(Output::Guard(Some(grant)));
        out.push(Output::Restored(self.fights));
        if self.manual && doing.order.is_none() {
            // Only the program says that it is alive.
            self.next = self.confirmed + self.ttl;
            self.live(now, out);
        } else {
            self.confirm(doing, now, out);
        }
        // Only now: it was there all the time, if the old grant was not gone.
        if let Some(old) = old {
            self.begin(Step::Clear(old), None, None, now, out);
        }
    }

    /// The store has confirmed the registration.
    fn confirm(&mut self, doing: Doing<V>, now: Time, out: &mut Vec<Output<V>>) {
        self.backoff.reset();
        // What was lost or taken meanwhile is so, whatever an older call says.
        if self.held().is_some() {
            // Its clock began when the call did, at the latest.
            self.rest(mutant!(confirmed_by_the_answer: now, doing.since));
            self.live(now, out);
        }
        reply(doing.order, Ok(()), out);
    }

    fn rest(&mut self, confirmed: Time) {
        // It may have been renewed by itself while the call was under way.
        self.confirmed = self.confirmed.max(confirmed);
        let rest = if self.manual { self.ttl } else { self.ttl / 3 };
        self.next = self.confirmed + mutant!(renews_too_late: self.ttl * 2, rest);
    }

    fn failed(&mut self, doing: Doing<V>, error: Error, now: Time, out: &mut Vec<Output<V>>) {
        if let Some(before) = self.refused(&doing, &error) {
            return self.fall_back(doing, before, error, now, out);
        }
        let updated = doing.old.is_some();
        let adopted = self.before.is_some();
        if let Some(old) = doing.old {
            self.wanted = mutant!(a_failed_update_stays: self.wanted.clone(), old);
        }
        // The store may have taken the new value although its answer was lost.
        if let (true, true, Holding::Granted(grant)) =
            (updated || adopted, error.is_retriable(), self.holding)
        {
            self.holding = mutant!(no_doubt: self.holding, Holding::Doubtful(grant));
        }
        if error.kind() == ErrorKind::Replaced {
            self.taken(error.clone(), out);
        } else if !(updated && error.kind() == ErrorKind::InvalidArgument) {
            self.setback(&error, now, out);
        }
        reply(doing.order, Err(error), out);
    }

    /// Decides when to speak next after a failure.
    fn setback(&mut self, error: &Error, now: Time, out: &mut Vec<Output<V>>) {
        let lost = matches!(self.holding, Holding::Lost(_));
        let unconfirmed = now.saturating_sub(self.confirmed) >= self.ttl;
        if lost || unconfirmed || !error.is_retriable() {
            self.lapse(error.clone(), out);
        }
        let pause = if lost { self.earliest(now) } else { now };
        self.next = match (self.manual, lost) {
            (true, true) => NEVER,
            (true, false) => (self.confirmed + self.ttl).max(now),
            (false, _) if error.is_retriable() => (now + self.backoff.next_wait()).max(pause),
            (false, _) => now + self.ttl / 3,
        };
    }

    /// The store says that what we hold is gone, or somebody else's.
    fn guard(&mut self, grant: Grant, error: Error, now: Time, out: &mut Vec<Output<V>>) {
        let lost = self.holding == Holding::Lost(Some(grant));
        if self.held() != Some(grant) && !lost {
            return;
        }
        if error.kind() == ErrorKind::Replaced && mutant!(fights_an_owner: false, true) {
            return self.taken(error, out);
        }
        self.holding = Holding::Lost(Some(grant));
        // Whatever is under way finds out by itself.
        self.next = self.earliest(now).max(now);
        if self.next > now {
            self.lapse(error, out);
        }
    }

    fn taken(&mut self, error: Error, out: &mut Vec<Output<V>>) {
        self.holding = Holding::Taken;
        out.push(Output::Guard(None));
        // The guard and the answer to a call may both say so.
        if self.told != Told::Replaced {
            self.told = Told::Replaced;
            out.push(Output::Replaced(error));
        }
    }

    fn release(&mut self, order: Option<OrderId>, answer: Result<()>, out: &mut Vec<Output<V>>) {
        self.over = mutant!(lives_on_after_the_end: false, true);
        out.push(Output::Guard(None));
        out.push(Output::Released);
        reply(order, answer, out);
    }
}

fn reply<V>(order: Option<OrderId>, answer: Result<()>, out: &mut Vec<Output<V>>) {
    out.extend(order.map(|id| Output::Reply(id, answer)));
}
