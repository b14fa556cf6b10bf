//! A store, a way to it, and time, driving a real [`Machine`] the way its keeper does.

use std::time::Duration;

use super::checks::{Check, Seen, Standing};
use super::store_model::{Stage, Store, TTL};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{Adopt, Call, Input, Machine, Order, Output, Time};
use crate::model::Grant;

/// How long a call waits for its answer.
const CALL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Net {
    Up,
    /// Calls fail at once.
    Down,
    /// Calls get no answer.
    Silent,
    /// The store refuses us.
    Refusing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Harness {
    pub(super) machine: Machine<u32>,
    pub(super) store: Store,
    pub(super) seen: Seen,
    pub(super) manual: bool,
    pub(super) now: Time,
    pub(super) net: Net,
    pub(super) slow_calls: bool,
    pub(super) slow_guard: bool,
    pub(super) call: Option<Doing>,
    /// Calls that were given up, and may yet be done by the store before it does the next one.
    pub(super) strays: Vec<Doing>,
    /// Leases of calls that were given up: their keys are deleted when the store can be asked.
    orphans: Vec<u64>,
    guard: Option<Guard>,
    /// The lease that was renewed for all that share it, and when.
    kept: Option<(u64, Time)>,
    /// Whether that goes on by itself, and when it was tried last.
    pub(super) keeps: bool,
    tried: Time,
    /// The values of updates that are not answered, in order.
    pub(super) values: Vec<(u64, Option<u32>)>,
    pub(super) value: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Doing {
    call: Call<u32>,
    since: Time,
    stage: Stage,
    /// What the store has answered, as far as it did: a grant, or a kind of error.
    answer: Option<std::result::Result<Option<Grant>, ErrorKind>>,
}

/// The watch over a grant, and the first that was seen of its loss.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Guard {
    grant: Grant,
    lost: Option<ErrorKind>,
}

impl Adopt for u32 {
    fn adopt(&mut self, said: u32) -> Option<u32> {
        let before = std::mem::replace(self, said);
        (before != said).then_some(before)
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "as it happened")
}

impl Harness {
    pub(super) fn started(manual: bool, shared: bool, seed: u64) -> Harness {
        let (store, grant) = Store::new(0, shared);
        Harness {
            machine: Machine::new(0, manual, grant, seed, Duration::ZERO),
            store,
            seen: Seen::new(0, grant),
            manual,
            now: Duration::from_millis(3),
            net: Net::Up,
            slow_calls: false,
            slow_guard: false,
            call: None,
            strays: Vec::new(),
            orphans: Vec::new(),
            guard: Some(Guard { grant, lost: None }),
            kept: None,
            keeps: false,
            tried: Duration::ZERO,
            values: Vec::new(),
            value: 0,
        }
    }

    pub(super) fn order(&mut self, order: Order<u32>) -> Check {
        let id = self.seen.order();
        let value = match order {
            Order::Update(value) => Some(value),
            Order::Heartbeat | Order::Unregister | Order::Adopt(_) => None,
        };
        self.values.push((id, value));
        self.step(Input::Order(id, order))
    }

    /// One step of the machine, and what it says is to be done.
    pub(super) fn step(&mut self, input: Input<u32>) -> Check {
        if let Some(confirmed) = self.machine.held().and_then(|grant| self.confirmed(grant)) {
            self.machine.kept(confirmed);
        }
        for output in self.machine.step(input, self.now) {
            self.obey(output)?;
        }
        Ok(())
    }

    fn obey(&mut self, output: Output<u32>) -> Check {
        if self.seen.released() && !matches!(output, Output::Reply(..)) {
            return Err(format!("{output:?} after the end"));
        }
        match output {
            Output::Call(call) => {
                self.seen.call(&call, self.manual)?;
                let (since, stage, answer) = (self.now, Stage::Asked, None);
                let doing = Doing {
                    call,
                    since,
                    stage,
                    answer,
                };
                let before = self.call.replace(doing);
                before.map_or(Ok(()), |before| Err(format!("a call beside {before:?}")))
            }
            Output::Guard(grant) => {
                self.guard = grant.map(|grant| Guard { grant, lost: None });
                self.note_guard();
                Ok(())
            }
            Output::Reply(id, answer) => {
                self.seen.reply(id)?;
                let at = self.values.iter().position(|(order, _)| *order == id);
                let (_, value) = self.values.remove(at.ok_or("an answer to nothing")?);
                if let (Ok(()), Some(value)) = (answer, value) {
                    self.seen.value = value;
                }
                Ok(())
            }
            Output::Live => self.seen.stands(Standing::Live),
            Output::Lapsed(_) => self.seen.stands(Standing::Lapsed),
            Output::Replaced(_) => self.seen.stands(Standing::Replaced),
            Output::Value(value) => {
                self.seen.value = value;
                Ok(())
            }
            Output::Released => self.seen.stands(Standing::Released),
            Output::Restored(_) => self.seen.restored(self.now),
            // The value that the owner may rely on is still the one before.
            Output::Refused(_) => Ok(()),
        }
    }

    /// The watch over the grant sees the first that becomes of its key.
    pub(super) fn note_guard(&mut self) {
        let owner = self.store.owner();
        if let Some(Guard {
            grant,
            lost: lost @ None,
        }) = &mut self.guard
            && owner != Some(grant.id)
        {
            let other = owner.is_some_and(|owner| owner != 0);
            *lost = Some(if other {
                ErrorKind::Replaced
            } else {
                ErrorKind::LeaseLost
            });
        }
    }

    /// What was seen of the grant is told; false if nothing was.
    pub(super) fn guard_speaks(&mut self) -> std::result::Result<bool, String> {
        let reachable = self.net == Net::Up;
        let Some(Guard {
            grant,
            lost: Some(kind),
        }) = self.guard.clone().filter(|_| reachable)
        else {
            return Ok(false);
        };
        self.guard = None;
        self.seen.told_of(&error(kind));
        self.step(Input::Guard(grant, error(kind)))?;
        Ok(true)
    }

    /// The store does one more step of the call; false if there is none to do.
    pub(super) fn serve(&mut self) -> bool {
        let Some(doing) = self.call.as_mut().filter(|doing| doing.answer.is_none()) else {
            return false;
        };
        match self.net {
            Net::Up => {
                // What was given up before is never done after this.
                self.strays.clear();
                let answer = self.store.serve(&doing.call, &mut doing.stage, self.now);
                doing.answer = answer.map(|answer| answer.map_err(|error| error.kind()));
            }
            Net::Down => doing.answer = Some(Err(ErrorKind::Unavailable)),
            Net::Refusing => doing.answer = Some(Err(ErrorKind::PermissionDenied)),
            Net::Silent => return false,
        }
        self.note_guard();
        true
    }

    /// What the store has answered arrives; false if it has not.
    pub(super) fn answer(&mut self) -> std::result::Result<bool, String> {
        let answered = self
            .call
            .as_ref()
            .is_some_and(|doing| doing.answer.is_some());
        if !answered || self.net == Net::Silent {
            return Ok(false);
        }
        let Some(doing) = self.call.take() else {
            return Ok(false);
        };
        if let (Call::Unregister(grant), true, Some(Err(_))) =
            (&doing.call, self.store.shared, &doing.answer)
        {
            self.orphans.push(grant.id);
        }
        let answer = doing.answer.unwrap_or(Ok(None)).map_err(error);
        self.done(&doing.call, doing.since, answer)?;
        Ok(true)
    }

    fn done(&mut self, call: &Call<u32>, since: Time, answer: Result<Option<Grant>>) -> Check {
        self.seen.answered(call, since, &answer);
        self.step(Input::Done(answer))
    }

    /// The answer to the call is lost. What the store has not done yet it may do later, if it is `late`.
    pub(super) fn lose(&mut self, kind: ErrorKind, late: bool) -> Check {
        let Some(doing) = self.call.take() else {
            return Ok(());
        };
        if let (Call::RestoreOnly(_), Stage::Free(lease, _)) = (&doing.call, &doing.stage) {
            self.orphans.push(*lease);
        }
        if let (Call::Unregister(grant), true) = (&doing.call, self.store.shared) {
            // What is left under a lease that lives on for others does not go with a ttl.
            self.orphans.push(grant.id);
        }
        let (call, since) = (doing.call.clone(), doing.since);
        if late && doing.answer.is_none() {
            self.strays.push(doing);
        }
        self.done(&call, since, Err(error(kind)))
    }

    /// The store does a call that was given up.
    pub(super) fn stray(&mut self) {
        if let Some(mut doing) = self.strays.pop() {
            while self
                .store
                .serve(&doing.call, &mut doing.stage, self.now)
                .is_none()
            {}
            if let Stage::Free(lease, _) = doing.stage {
                self.orphans.push(lease);
            }
            self.note_guard();
        }
    }

    /// What comes by itself, comes.
    pub(super) fn flow(&mut self) -> Check {
        for _ in 0..1000 {
            self.store.pass(self.now);
            self.note_guard();
            let late = self
                .call
                .as_ref()
                .is_some_and(|doing| self.now >= doing.since + CALL);
            let clean = self.net == Net::Up && !self.orphans.is_empty();
            if clean && self.call.is_none() {
                // Not of a grant that is held by now.
                let mut orphans = std::mem::take(&mut self.orphans);
                orphans.retain(|lease| self.guard.as_ref().is_none_or(|g| g.grant.id != *lease));
                orphans
                    .iter()
                    .for_each(|lease| self.store.delete_held(*lease));
                self.note_guard();
            }
            if late {
                self.lose(ErrorKind::Timeout, true)?;
                continue;
            }
            let more = !self.slow_guard && self.guard_speaks()?
                || !self.slow_calls && (self.serve() || self.answer()?);
            if !more {
                return Ok(());
            }
        }
        Err("no rest".into())
    }

    /// Time passes, and all that comes by itself comes.
    pub(super) fn wait(&mut self, time: Duration) -> Check {
        let until = self.now + time;
        let mut same = 0;
        loop {
            self.flow()?;
            let late = self.call.as_ref().map(|doing| doing.since + CALL);
            let keep = self.keeps.then_some(self.tried + TTL / 3);
            let ends = [late, self.store.next_end(), self.wake(), keep];
            let next = ends.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                self.flow()?;
                return self.seen.check_belief(self.now);
            };
            same = if next > self.now { 0 } else { same + 1 };
            if same > 100 {
                return Err("it never sleeps".into());
            }
            self.now = self.now.max(next);
            if keep.is_some_and(|keep| keep <= self.now) {
                self.hear_kept();
            }
            if self.wake().is_some_and(|wake| wake <= self.now) {
                self.step(Input::Tick)?;
            }
        }
    }

    /// The client renews by itself what is shared, if it can, and notes when.
    pub(super) fn hear_kept(&mut self) {
        self.tried = self.now;
        // What is manual is left to its program.
        let Some(grant) = self.machine.held().filter(|_| !self.manual) else {
            return;
        };
        if self.store.shared && self.net == Net::Up && self.store.renew(grant.id, self.now) {
            self.kept = Some((grant.id, self.now));
            self.seen.kept(grant, self.now);
        }
    }

    /// When the client last renewed a grant by itself.
    fn confirmed(&self, grant: Grant) -> Option<Time> {
        self.kept
            .filter(|(id, _)| *id == grant.id)
            .map(|(_, at)| at)
    }

    /// When the keeper wakes: not while what rests is renewed for it in time.
    pub(super) fn wake(&self) -> Option<Time> {
        let kept = self.machine.rests().and_then(|grant| self.confirmed(grant));
        let overdue = kept.map(|confirmed| confirmed + Grant::overdue_after(TTL));
        let wake = self.machine.wake()?;
        Some(overdue.map_or(wake, |overdue| overdue.max(wake)))
    }

    /// The store stands still for a while, and forgets who was due meanwhile, before it answers anybody.
    pub(super) fn pause(&mut self, time: Duration) -> Check {
        let net = std::mem::replace(&mut self.net, Net::Silent);
        self.store.frozen = true;
        self.wait(time)?;
        self.store.pass(self.now);
        (self.net, self.store.frozen) = (net, false);
        self.note_guard();
        Ok(())
    }

    /// We are stopped for a while, and see nothing of it.
    pub(super) fn sleep(&mut self, time: Duration) -> Check {
        self.now += time;
        self.store.pass(self.now);
        self.note_guard();
        self.step(Input::Tick)?;
        self.wait(Duration::ZERO)
    }
}

/// In what time a registration that was lost is back: one try each second, and a pause of one.
pub(super) const BACK: Duration = Duration::from_millis(2100);
/// In what time what is in doubt is settled: by the next renewal.
pub(super) const SETTLED: Duration = Duration::from_secs(TTL.as_secs() / 3 + 1);
