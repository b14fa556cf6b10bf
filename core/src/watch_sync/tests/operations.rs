//! What can happen, and sequences of it.

use std::time::Duration;

use proptest::prelude::*;

use super::connection_model::{Why, error};
use super::harness::{Check, Harness, Net};
use super::observer::Observer;
use super::store_model::{K, Scope, Store};
use crate::watch_sync::{Input, RangeId};

/// Two folders and a single key, as services and a registration have them.
const SCOPES: [Scope; 3] = [0b0111, 0b1_1000, 0b0010];
/// All that is in them.
const USED: K = 5;

/// After everything is well again, all must be right within so many seconds.
const WELL: u32 = 20;
/// And if the store has swallowed a change in the middle of a watch, with the next comparison.
const COMPARED: Duration = Duration::from_secs(400);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Write(Vec<(K, bool)>),
    /// Put, and deleted again.
    Churn(K),
    /// Revisions in which nothing of ours changes.
    Elsewhere(u64),
    /// Compaction at so many revisions before the last.
    Compact(u64),
    RollBack(u64),
    /// Restored, and past our revision before we are back.
    RollBackAndWrite(u64, Vec<(K, bool)>),
    Wipe,
    Follow(usize, bool),
    Forget(usize),
    Want,
    Net(Net),
    /// Slow are: the stream, the other answers.
    Slow(bool, bool),
    Barred(bool),
    /// The connection is reset.
    Reset,
    /// A caller says that the connection is not good.
    Doubt,
    Pump(usize, u64),
    Deliver(usize),
    /// One revision is said of a watch, and arrives.
    Trickle(usize),
    Read(usize),
    Answer(usize),
    Fail(usize),
    Repeat(usize, u64),
    CancelReason(usize, Why),
    /// Milliseconds.
    Wait(u64),
    Sleep(u64),
}

pub(super) fn any_op() -> impl Strategy<Value = Operation> {
    let key = 0..USED;
    let write = prop::collection::vec((key, prop::bool::weighted(0.6)), 1..4);
    let net = prop_oneof![
        3 => Just(Net::Up), 1 => Just(Net::Refused), 1 => Just(Net::Silent), 1 => Just(Net::Mute)
    ];
    let why = prop_oneof![Just(Why::Other), Just(Why::Refused)];
    let part = 0..SCOPES.len();
    prop_oneof![
        12 => write.clone().prop_map(Operation::Write),
        3 => (0..USED).prop_map(Operation::Churn),
        1 => prop_oneof![1..9u64, 480..700u64].prop_map(Operation::Elsewhere),
        3 => (0..4u64).prop_map(Operation::Compact),
        1 => (0..6u64).prop_map(Operation::RollBack),
        2 => (0..6u64, prop::collection::vec((0..USED, prop::bool::weighted(0.6)), 0..6))
            .prop_map(|(back, writes)| Operation::RollBackAndWrite(back, writes)),
        1 => Just(Operation::Wipe),
        2 => (part.clone(), any::<bool>()).prop_map(|(part, known)| Operation::Follow(part, known)),
        1 => part.prop_map(Operation::Forget),
        1 => Just(Operation::Want),
        4 => net.prop_map(Operation::Net),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(stream, calls)| Operation::Slow(stream, calls)),
        1 => prop::bool::weighted(0.3).prop_map(Operation::Barred),
        3 => Just(Operation::Reset),
        1 => Just(Operation::Doubt),
        4 => (0..3usize, 1..4u64).prop_map(|(n, revisions)| Operation::Pump(n, revisions)),
        4 => (1..4usize).prop_map(Operation::Deliver),
        6 => (0..3usize).prop_map(Operation::Trickle),
        2 => (0..3usize).prop_map(Operation::Read),
        4 => (0..3usize).prop_map(Operation::Answer),
        1 => (0..2usize).prop_map(Operation::Fail),
        2 => (0..3usize, 1..8u64).prop_map(|(n, revisions)| Operation::Repeat(n, revisions)),
        2 => (0..3usize, why).prop_map(|(n, why)| Operation::CancelReason(n, why)),
        8 => prop_oneof![0..40u64, 100..6000u64].prop_map(Operation::Wait),
        1 => (100..30_000u64).prop_map(Operation::Sleep),
    ]
}

impl Harness {
    /// Two folders are followed, and the store has something in them.
    pub(super) fn started(loses_deletes: bool, seed: u64) -> Result<Harness, String> {
        let mut store = Store::new(loses_deletes);
        store.write(&[(0, true), (1, true)]);
        store.write(&[(3, true)]);
        let mut world = Harness::new(store, seed);
        world.follow(SCOPES[0], false)?;
        world.follow(SCOPES[1], false)?;
        world.flow()?;
        Ok(world)
    }

    pub(super) fn run(&mut self, ops: &[Operation]) -> Check {
        for op in ops {
            self.apply(op)?;
            self.flow()?;
        }
        self.settle()
    }

    pub(super) fn apply(&mut self, op: &Operation) -> Check {
        match op {
            Operation::Write(what) => self.store.write(what),
            Operation::Churn(key) => {
                self.store.write(&[(*key, true)]);
                self.store.write(&[(*key, false)]);
            }
            Operation::Elsewhere(revisions) => self.store.elsewhere(*revisions),
            Operation::Compact(back) => self.store.compact(self.store.head().saturating_sub(*back)),
            Operation::RollBack(back) => self.restart(|store| store.roll_back(*back)),
            Operation::RollBackAndWrite(back, writes) => self.restart(|store| {
                store.roll_back(*back);
                for write in writes {
                    store.write(&[*write]);
                }
            }),
            Operation::Wipe => self.restart(Store::wipe),
            Operation::Follow(part, known) => return self.follow_or_not(*part, *known),
            Operation::Forget(slot) => return self.forget_slot(*slot),
            Operation::Want => return self.step(Input::Want),
            Operation::Net(net) => self.net = *net,
            Operation::Slow(stream, calls) => {
                (self.slow_stream, self.slow_calls) = (*stream, *calls)
            }
            Operation::Barred(barred) => self.barred = *barred,
            Operation::Reset => self.restart(|_| ()),
            Operation::Doubt if self.line.is_some() => {
                return self.step(Input::Broken(error(Why::Other)));
            }
            Operation::Doubt => {}
            Operation::Pump(n, revisions) => drop(self.pump(*n, *revisions)),
            Operation::Deliver(n) => {
                for _ in 0..*n {
                    self.deliver()?;
                }
            }
            Operation::Trickle(n) => {
                self.pump(*n, 1);
                self.deliver()?;
            }
            Operation::Read(n) => self.read(*n),
            Operation::Answer(n) => drop(self.answer(*n)?),
            Operation::Fail(n) => return self.fail(*n),
            Operation::Repeat(n, revisions) => self.repeat(*n, *revisions),
            Operation::CancelReason(n, why) => self.cancel(*n, *why),
            Operation::Wait(ms) => return self.wait(Duration::from_millis(*ms)),
            Operation::Sleep(ms) => return self.sleep(Duration::from_millis(*ms)),
        }
        Ok(())
    }

    /// The servers end and come back, with what is made of the store.
    fn restart(&mut self, change: impl FnOnce(&mut Store)) {
        change(&mut self.store);
        if let Some(line) = &mut self.line {
            line.dead = true;
        }
    }

    /// Whoever follows this just now.
    fn in_slot(&self, slot: usize) -> Option<RangeId> {
        let mine = |(_, told): &(&RangeId, &Observer)| told.scope == SCOPES[slot];
        self.parts.iter().find(mine).map(|(id, _)| *id)
    }

    fn follow_or_not(&mut self, slot: usize, known: bool) -> Check {
        match self.in_slot(slot) {
            Some(_) => Ok(()),
            None => self.follow(SCOPES[slot], known),
        }
    }

    fn forget_slot(&mut self, slot: usize) -> Check {
        self.in_slot(slot).map_or(Ok(()), |id| self.forget(id))
    }

    /// Makes everything well, lets bounded time pass, and expects all to be right and to stay so.
    pub(super) fn settle(&mut self) -> Check {
        self.net = Net::Up;
        (self.slow_stream, self.slow_calls, self.barred) = (false, false, false);
        for _ in 0..WELL {
            self.wait(Duration::from_secs(1))?;
            let followed = self.line.is_some() || self.parts.is_empty();
            if followed && self.check_right("").is_ok() {
                break;
            }
        }
        if self.parts.values().any(|told| !told.swallowed.is_empty()) {
            self.wait(COMPARED)?;
        }
        self.check_right("when all is well")?;
        let line = self.line.is_some();
        for key in 0..USED {
            let there = self.store.now().at(u64::MAX, 1 << key);
            self.store.write(&[(key, there.is_empty())]);
        }
        // At rest a change is told at once, and no connection is given up.
        self.wait(Duration::from_millis(1))?;
        self.check_right("after a change")?;
        self.wait(Duration::from_secs(5))?;
        if line && (self.line.is_none() || self.follower.counts().connects == 0) {
            return Err("the connection was lost at rest".into());
        }
        self.check_counts()
    }

    fn check_right(&self, when: &str) -> Check {
        for (id, told) in &self.parts {
            let truth = self.store.now().at(u64::MAX, told.scope);
            if !told.current || told.view != truth {
                let (view, current) = (&told.view, told.current);
                return Err(format!(
                    "{when} part {id} has {view:?}, current: {current}; the store {truth:?}"
                ));
            }
        }
        Ok(())
    }

    /// No other history without one.
    fn check_counts(&self) -> Check {
        let epochs = self.follower.counts().epochs;
        match self.store.histories.len() {
            1 if epochs > 0 => Err(format!("{epochs} other histories, and there was none")),
            _ => Ok(()),
        }
    }
}
