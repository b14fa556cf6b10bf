//! What can happen to a registration, and sequences of it.

use std::time::Duration;

use proptest::prelude::*;

use super::checks::{Check, Standing};
use super::harness::{BACK, Harness, Net, SETTLED};
use super::store_model::{OTHER, TTL};
use crate::error::ErrorKind;
use crate::lease::machine::{Input, Order};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Heartbeat,
    Update,
    /// The service says a value to all.
    Hear,
    Unregister,
    Drop,
    Net(Net),
    /// Slow are: the answers to calls, the watch over the grant.
    Slow(bool, bool),
    Serve,
    Answer,
    /// The answer is lost; what was not done may be done later.
    Lose(bool),
    /// What was given up is done after all.
    Stray,
    GuardSpeaks,
    Delete,
    Overwrite,
    Replace,
    OtherLeaves,
    Revoke,
    Wipe,
    Elect,
    /// The client hears that the lease was renewed for all that share it.
    Kept,
    /// Whether that goes on by itself.
    Keeps(bool),
    /// Milliseconds, all of them.
    Pause(u64),
    Wait(u64),
    Sleep(u64),
}

pub(super) fn any_op() -> impl Strategy<Value = Operation> {
    let net = prop_oneof![
        4 => Just(Net::Up), 2 => Just(Net::Down), 2 => Just(Net::Silent), 1 => Just(Net::Refusing)
    ];
    prop_oneof![
        3 => Just(Operation::Heartbeat),
        5 => Just(Operation::Update),
        2 => Just(Operation::Hear),
        1 => prop_oneof![2 => Just(Operation::Unregister), 1 => Just(Operation::Drop)],
        4 => net.prop_map(Operation::Net),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(calls, guard)| Operation::Slow(calls, guard)),
        5 => Just(Operation::Serve),
        4 => Just(Operation::Answer),
        4 => any::<bool>().prop_map(Operation::Lose),
        2 => Just(Operation::Stray),
        3 => Just(Operation::GuardSpeaks),
        3 => Just(Operation::Delete),
        1 => Just(Operation::Overwrite),
        1 => Just(Operation::Replace),
        1 => Just(Operation::OtherLeaves),
        2 => Just(Operation::Revoke),
        1 => Just(Operation::Wipe),
        1 => Just(Operation::Elect),
        4 => Just(Operation::Kept),
        3 => any::<bool>().prop_map(Operation::Keeps),
        1 => (1000..18_000u64).prop_map(Operation::Pause),
        8 => prop_oneof![0..300u64, 300..7000u64].prop_map(Operation::Wait),
        1 => (100..20_000u64).prop_map(Operation::Sleep),
    ]
}

impl Harness {
    pub(super) fn run(&mut self, ops: &[Operation]) -> Check {
        for op in ops {
            self.apply(op)?;
            self.note_guard();
            self.wait(Duration::ZERO)?;
        }
        self.settle()
    }

    pub(super) fn apply(&mut self, op: &Operation) -> Check {
        match op {
            Operation::Heartbeat => return self.order(Order::Heartbeat),
            Operation::Update => {
                self.value += 1;
                return self.order(Order::Update(self.value));
            }
            Operation::Hear => {
                self.value += 1;
                return self.step(Input::Heard(self.value));
            }
            Operation::Unregister => return self.order(Order::Unregister),
            Operation::Drop => return self.step(Input::Dropped),
            Operation::Net(net) => self.net = *net,
            Operation::Slow(calls, guard) => (self.slow_calls, self.slow_guard) = (*calls, *guard),
            Operation::Serve => drop(self.serve()),
            Operation::Answer => drop(self.answer()?),
            Operation::Lose(late) => return self.lose(ErrorKind::Unavailable, *late),
            Operation::Stray => self.stray(),
            Operation::GuardSpeaks => drop(self.guard_speaks()?),
            Operation::Delete => self.store.set(None),
            Operation::Overwrite => self.store.set(Some((0, u32::MAX))),
            Operation::Replace => self.store.set(Some((OTHER, u32::MAX))),
            Operation::OtherLeaves if self.store.owner() == Some(OTHER) => self.store.set(None),
            Operation::OtherLeaves => {}
            Operation::Revoke => self.store.revoke(),
            Operation::Wipe => self.store.wipe(),
            Operation::Elect => self.store.elect(self.now),
            Operation::Kept => self.hear_kept(),
            Operation::Keeps(keeps) => self.keeps = *keeps,
            Operation::Pause(ms) => return self.pause(Duration::from_millis(*ms)),
            Operation::Wait(ms) => return self.wait(Duration::from_millis(*ms)),
            Operation::Sleep(ms) => return self.sleep(Duration::from_millis(*ms)),
        }
        Ok(())
    }

    /// Makes everything well, lets bounded time pass, and expects the registration to be as it should.
    pub(super) fn settle(&mut self) -> Check {
        self.strays.clear();
        (self.slow_calls, self.slow_guard) = (false, false);
        let refused = self.net == Net::Refusing;
        if self.net != Net::Up {
            // The call that is under way hears of it.
            self.net = Net::Up;
            self.lose(ErrorKind::Unavailable, false)?;
        }
        self.flow()?;
        if self.manual {
            // It comes back when its program says that it is alive.
            self.order(Order::Heartbeat)?;
        }
        self.wait(if refused { BACK + TTL / 3 } else { BACK })?;
        if !self.seen.released() {
            self.check_present()?;
        }
        if self.manual && self.seen.standing == Standing::Live {
            self.order(Order::Heartbeat)?;
        }
        self.wait(SETTLED)?;
        self.check_value()?;
        self.check_stays()
    }

    fn check_present(&mut self) -> Check {
        if !self.seen.unanswered.is_empty() && !self.seen.released() {
            return Err(format!("no answer to {:?}", self.seen.unanswered));
        }
        let (held, ours) = (self.store.held, self.store.is_ours());
        match self.seen.standing {
            Standing::Live if ours => Ok(()),
            Standing::Live | Standing::Lapsed => Err(format!("registered no more: {held:?}")),
            Standing::Replaced => Ok(()),
            Standing::Released if ours => Err(format!("unregistered, and there: {held:?}")),
            Standing::Released => Ok(()),
        }
    }

    fn check_value(&mut self) -> Check {
        if self.manual && self.seen.standing == Standing::Live {
            self.order(Order::Heartbeat)?;
            self.wait(Duration::from_millis(1))?;
        }
        match (self.seen.standing, self.store.held) {
            (Standing::Live, Some((_, value))) if value == self.seen.value => Ok(()),
            (Standing::Live, held) => Err(format!(
                "{held:?} is registered instead of {}",
                self.seen.value
            )),
            _ => Ok(()),
        }
    }

    /// At rest nothing lapses while it beats; after the end, and after another came, nothing happens.
    fn check_stays(&mut self) -> Check {
        let (standing, lapses) = (self.seen.standing, self.seen.lapses);
        let changes = self.store.changes;
        for _ in 0..4 {
            if self.manual && standing == Standing::Live {
                self.order(Order::Heartbeat)?;
            }
            self.wait(TTL - Duration::from_secs(1))?;
        }
        if (standing, lapses) != (self.seen.standing, self.seen.lapses) {
            return Err(format!(
                "{standing:?} at rest became {:?}",
                self.seen.standing
            ));
        }
        if standing == Standing::Live && self.store.changes != changes {
            return Err("written again and again at rest".into());
        }
        self.check_present()?;
        if self.manual && standing == Standing::Live {
            // And without a word of its program it goes.
            self.wait(TTL * 2)?;
            if self.seen.standing != Standing::Lapsed || self.store.is_ours() {
                return Err("its program is silent, and it stays".into());
            }
        }
        Ok(())
    }
}
