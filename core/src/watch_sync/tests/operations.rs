//! Operations on the harness, and random sequences of them.

use std::time::Duration;

use proptest::prelude::*;

use super::connection_model::{CancelCause, error};
use super::harness::{Check, Harness, Network};
use super::observer::Observer;
use super::store_model::{K, Scope, Store};
use crate::watch_sync::{Input, RangeId};

/// Two prefixes and a single key, as services and a registration have them.
const SCOPES: [Scope; 3] = [0b0111, 0b1_1000, 0b0010];
/// Number of keys in the scopes.
const USED_KEYS: K = 5;

/// Bound in seconds of the recovery after the last fault.
const MAX_RECOVERY_SECONDS: u32 = 20;
/// Bound of the next audit, if the store lost a change in the middle of a watch.
const MAX_AUDIT_INTERVAL: Duration = Duration::from_secs(400);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Write(Vec<(K, bool)>),
    /// Puts a key and deletes it again.
    PutAndDelete(K),
    /// Adds revisions that change nothing in the ranges.
    WriteUnwatched(u64),
    /// Compacts at this number of revisions before the last.
    Compact(u64),
    RollBack(u64),
    /// Restores a backup, then writes past the revision that the client has.
    RollBackAndWrite(u64, Vec<(K, bool)>),
    Wipe,
    AddRange(usize, bool),
    RemoveRange(usize),
    RequestConnection,
    SetNetwork(Network),
    /// Makes deliveries manual: of the stream, of unary responses.
    ManualDelivery(bool, bool),
    DenyReads(bool),
    /// Resets the connection.
    Reset,
    /// A caller's request gets no response.
    CallerTimeout,
    Serve(usize, u64),
    Deliver(usize),
    /// Serves one revision of a watch and delivers it.
    DeliverRevision(usize),
    Read(usize),
    Answer(usize),
    FailCall(usize),
    Redeliver(usize, u64),
    Cancel(usize, CancelCause),
    /// Milliseconds.
    Wait(u64),
    Suspend(u64),
}

pub(super) fn any_operation() -> impl Strategy<Value = Operation> {
    let key = 0..USED_KEYS;
    let write = prop::collection::vec((key, prop::bool::weighted(0.6)), 1..4);
    let net = prop_oneof![
        3 => Just(Network::Up), 1 => Just(Network::RefusesConnections), 1 => Just(Network::DropsAll), 1 => Just(Network::DropsRequests)
    ];
    let why = prop_oneof![
        Just(CancelCause::Other),
        Just(CancelCause::LoginRefused),
        Just(CancelCause::PermissionDenied)
    ];
    let range = 0..SCOPES.len();
    prop_oneof![
        12 => write.clone().prop_map(Operation::Write),
        3 => (0..USED_KEYS).prop_map(Operation::PutAndDelete),
        1 => prop_oneof![1..9u64, 480..700u64].prop_map(Operation::WriteUnwatched),
        3 => (0..4u64).prop_map(Operation::Compact),
        1 => (0..6u64).prop_map(Operation::RollBack),
        2 => (0..6u64, prop::collection::vec((0..USED_KEYS, prop::bool::weighted(0.6)), 0..6))
            .prop_map(|(back, writes)| Operation::RollBackAndWrite(back, writes)),
        1 => Just(Operation::Wipe),
        2 => (range.clone(), any::<bool>()).prop_map(|(range, known)| Operation::AddRange(range, known)),
        1 => range.prop_map(Operation::RemoveRange),
        1 => Just(Operation::RequestConnection),
        4 => net.prop_map(Operation::SetNetwork),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(stream, calls)| Operation::ManualDelivery(stream, calls)),
        1 => prop::bool::weighted(0.3).prop_map(Operation::DenyReads),
        3 => Just(Operation::Reset),
        1 => Just(Operation::CallerTimeout),
        4 => (0..3usize, 1..4u64).prop_map(|(n, revisions)| Operation::Serve(n, revisions)),
        4 => (1..4usize).prop_map(Operation::Deliver),
        6 => (0..3usize).prop_map(Operation::DeliverRevision),
        2 => (0..3usize).prop_map(Operation::Read),
        4 => (0..3usize).prop_map(Operation::Answer),
        1 => (0..2usize).prop_map(Operation::FailCall),
        2 => (0..3usize, 1..8u64).prop_map(|(n, revisions)| Operation::Redeliver(n, revisions)),
        2 => (0..3usize, why).prop_map(|(n, why)| Operation::Cancel(n, why)),
        8 => prop_oneof![0..40u64, 100..6000u64].prop_map(Operation::Wait),
        1 => (100..30_000u64).prop_map(Operation::Suspend),
    ]
}

impl Harness {
    /// Creates a harness with two watched prefixes that have keys.
    pub(super) fn started(loses_deletes: bool, seed: u64) -> Result<Harness, String> {
        let mut store = Store::new(loses_deletes);
        store.write(&[(0, true), (1, true)]);
        store.write(&[(3, true)]);
        let mut harness = Harness::new(store, seed);
        harness.add_range(SCOPES[0], false)?;
        harness.add_range(SCOPES[1], false)?;
        harness.flow()?;
        Ok(harness)
    }

    pub(super) fn run(&mut self, ops: &[Operation]) -> Check {
        for op in ops {
            self.apply(op)?;
            self.flow()?;
        }
        self.recover_and_check()
    }

    pub(super) fn apply(&mut self, op: &Operation) -> Check {
        match op {
            Operation::Write(what) => self.store.write(what),
            Operation::PutAndDelete(key) => {
                self.store.write(&[(*key, true)]);
                self.store.write(&[(*key, false)]);
            }
            Operation::WriteUnwatched(revisions) => self.store.write_unwatched(*revisions),
            Operation::Compact(back) => self.store.compact(self.store.head().saturating_sub(*back)),
            Operation::RollBack(back) => self.restart(|store| store.roll_back(*back)),
            Operation::RollBackAndWrite(back, writes) => self.restart(|store| {
                store.roll_back(*back);
                for write in writes {
                    store.write(&[*write]);
                }
            }),
            Operation::Wipe => self.restart(Store::wipe),
            Operation::AddRange(range, known) => return self.add_range_in_slot(*range, *known),
            Operation::RemoveRange(slot) => return self.remove_range_in_slot(*slot),
            Operation::RequestConnection => return self.step(Input::RequestConnection),
            Operation::SetNetwork(net) => self.net = *net,
            Operation::ManualDelivery(stream, calls) => {
                (self.manual_stream, self.manual_calls) = (*stream, *calls)
            }
            Operation::DenyReads(reads_denied) => self.reads_denied = *reads_denied,
            Operation::Reset => self.restart(|_| ()),
            Operation::CallerTimeout if self.connection.is_some() => {
                return self.step(Input::ConnectionFailed(error(CancelCause::Other)));
            }
            Operation::CallerTimeout => {}
            Operation::Serve(n, revisions) => drop(self.serve_watch(*n, *revisions)),
            Operation::Deliver(n) => {
                for _ in 0..*n {
                    self.deliver()?;
                }
            }
            Operation::DeliverRevision(n) => {
                self.serve_watch(*n, 1);
                self.deliver()?;
            }
            Operation::Read(n) => self.read(*n),
            Operation::Answer(n) => drop(self.answer(*n)?),
            Operation::FailCall(n) => return self.fail(*n),
            Operation::Redeliver(n, revisions) => self.repeat(*n, *revisions),
            Operation::Cancel(n, why) => self.cancel(*n, *why),
            Operation::Wait(ms) => return self.wait(Duration::from_millis(*ms)),
            Operation::Suspend(ms) => return self.sleep(Duration::from_millis(*ms)),
        }
        Ok(())
    }

    /// Restarts the servers after a change of the store.
    fn restart(&mut self, change: impl FnOnce(&mut Store)) {
        change(&mut self.store);
        if let Some(connection) = &mut self.connection {
            connection.dead = true;
        }
    }

    /// Returns the range that watches the scope of a slot.
    fn range_in_slot(&self, slot: usize) -> Option<RangeId> {
        let mine = |(_, observer): &(&RangeId, &Observer)| observer.scope == SCOPES[slot];
        self.ranges.iter().find(mine).map(|(id, _)| *id)
    }

    fn add_range_in_slot(&mut self, slot: usize, known: bool) -> Check {
        match self.range_in_slot(slot) {
            Some(_) => Ok(()),
            None => self.add_range(SCOPES[slot], known),
        }
    }

    fn remove_range_in_slot(&mut self, slot: usize) -> Check {
        self.range_in_slot(slot)
            .map_or(Ok(()), |id| self.remove_range(id))
    }

    /// Ends all faults, lets bounded time pass, and checks that every view is right and stays right.
    pub(super) fn recover_and_check(&mut self) -> Check {
        self.net = Network::Up;
        (self.manual_stream, self.manual_calls, self.reads_denied) = (false, false, false);
        for _ in 0..MAX_RECOVERY_SECONDS {
            self.wait(Duration::from_secs(1))?;
            let followed = self.connection.is_some() || self.ranges.is_empty();
            if followed && self.check_views("").is_ok() {
                break;
            }
        }
        if self
            .ranges
            .values()
            .any(|observer| !observer.swallowed.is_empty())
        {
            self.wait(MAX_AUDIT_INTERVAL)?;
        }
        self.check_views("when all is well")?;
        let connection = self.connection.is_some();
        for key in 0..USED_KEYS {
            let there = self.store.now().at(u64::MAX, 1 << key);
            self.store.write(&[(key, there.is_empty())]);
        }
        // At rest a change is emitted at once, and the connection is kept.
        self.wait(Duration::from_millis(1))?;
        self.check_views("after a change")?;
        self.wait(Duration::from_secs(5))?;
        if connection && (self.connection.is_none() || self.sync.counters().connects == 0) {
            return Err("the connection was lost at rest".into());
        }
        self.check_epochs()
    }

    fn check_views(&self, when: &str) -> Check {
        for (id, observer) in &self.ranges {
            let truth = self.store.now().at(u64::MAX, observer.scope);
            if !observer.current || observer.view != truth {
                let (view, current) = (&observer.view, observer.current);
                return Err(format!(
                    "{when} range {id} has {view:?}, current: {current}; the store {truth:?}"
                ));
            }
        }
        Ok(())
    }

    /// Checks that no epoch was detected without a restore.
    fn check_epochs(&self) -> Check {
        let epochs = self.sync.counters().epochs;
        match self.store.histories.len() {
            1 if epochs > 0 => Err(format!("{epochs} other histories, and there was none")),
            _ => Ok(()),
        }
    }
}
