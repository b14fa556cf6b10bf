//! The operations of the lease model.

use std::time::Duration;

use proptest::prelude::*;

use super::checks::{Check, Standing};
use super::harness::{Harness, MERGED, Network, RESTORE_BOUND, VALUE_BOUND};
use super::store_model::{OTHER_LEASE, TTL};
use crate::error::ErrorKind;
use crate::lease::machine::{Input, Request};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Heartbeat,
    Update,
    /// An update that does not come from the owner.
    ExternalUpdate,
    Unregister,
    Drop,
    Network(Network),
    /// Whether answers to calls and notifications of losses are delayed.
    Delay(bool, bool),
    Serve,
    Answer,
    /// The answer is lost; if true, the store may execute the call later.
    Lose(bool),
    /// The store executes an abandoned call.
    RunAbandonedCall,
    DeliverLoss,
    Delete,
    Overwrite,
    Replace,
    OtherLeaves,
    Revoke,
    Wipe,
    Elect,
    /// The client renews the shared lease.
    SharedRenewal,
    /// Whether shared renewals repeat by themselves.
    SharedRenewals(bool),
    /// The store is paused, in milliseconds as the two operations below.
    Pause(u64),
    Wait(u64),
    Sleep(u64),
}

pub(super) fn any_operation() -> impl Strategy<Value = Operation> {
    let network = prop_oneof![
        4 => Just(Network::Up), 2 => Just(Network::Down), 2 => Just(Network::Silent), 1 => Just(Network::Refusing)
    ];
    prop_oneof![
        3 => Just(Operation::Heartbeat),
        5 => Just(Operation::Update),
        2 => Just(Operation::ExternalUpdate),
        1 => prop_oneof![2 => Just(Operation::Unregister), 1 => Just(Operation::Drop)],
        4 => network.prop_map(Operation::Network),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(calls, grant_watch)| Operation::Delay(calls, grant_watch)),
        5 => Just(Operation::Serve),
        4 => Just(Operation::Answer),
        4 => any::<bool>().prop_map(Operation::Lose),
        2 => Just(Operation::RunAbandonedCall),
        3 => Just(Operation::DeliverLoss),
        3 => Just(Operation::Delete),
        1 => Just(Operation::Overwrite),
        1 => Just(Operation::Replace),
        1 => Just(Operation::OtherLeaves),
        2 => Just(Operation::Revoke),
        1 => Just(Operation::Wipe),
        1 => Just(Operation::Elect),
        4 => Just(Operation::SharedRenewal),
        3 => any::<bool>().prop_map(Operation::SharedRenewals),
        1 => (1000..18_000u64).prop_map(Operation::Pause),
        8 => prop_oneof![0..300u64, 300..7000u64].prop_map(Operation::Wait),
        1 => (100..20_000u64).prop_map(Operation::Sleep),
    ]
}

impl Harness {
    pub(super) fn run(&mut self, operations: &[Operation]) -> Check {
        for operation in operations {
            self.apply(operation)?;
            self.observe_grant();
            self.wait(Duration::ZERO)?;
        }
        self.recover_and_check()
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Check {
        match operation {
            Operation::Heartbeat => return self.request(Request::Heartbeat),
            Operation::Update => {
                self.value += 1;
                // The owner knows nothing of the merges.
                return self.request(Request::Update(self.value & !MERGED));
            }
            Operation::ExternalUpdate => {
                self.value += 1;
                return self.step(Input::ExternalUpdate(self.value << 16));
            }
            Operation::Unregister => return self.request(Request::Unregister),
            Operation::Drop => return self.step(Input::OwnerDropped),
            Operation::Network(network) => self.network = *network,
            Operation::Delay(calls, grant_watch) => {
                (self.delay_answers, self.delay_loss) = (*calls, *grant_watch)
            }
            Operation::Serve => drop(self.serve()),
            Operation::Answer => drop(self.answer()?),
            Operation::Lose(late) => return self.lose(ErrorKind::Unavailable, *late),
            Operation::RunAbandonedCall => self.run_abandoned_call(),
            Operation::DeliverLoss => drop(self.deliver_loss()?),
            Operation::Delete => self.store.set(None),
            Operation::Overwrite => self.store.set(Some((0, u32::MAX))),
            Operation::Replace => self.store.set(Some((OTHER_LEASE, u32::MAX))),
            Operation::OtherLeaves if self.store.owner() == Some(OTHER_LEASE) => {
                self.store.set(None)
            }
            Operation::OtherLeaves => {}
            Operation::Revoke => self.store.revoke(),
            Operation::Wipe => self.store.wipe(),
            Operation::Elect => self.store.elect(self.now),
            Operation::SharedRenewal => self.run_shared_renewal(),
            Operation::SharedRenewals(shared_renewals) => self.shared_renewals = *shared_renewals,
            Operation::Pause(ms) => return self.pause(Duration::from_millis(*ms)),
            Operation::Wait(ms) => return self.wait(Duration::from_millis(*ms)),
            Operation::Sleep(ms) => return self.sleep(Duration::from_millis(*ms)),
        }
        Ok(())
    }

    /// Ends all faults, advances time by the stated bounds, and checks the registration.
    pub(super) fn recover_and_check(&mut self) -> Check {
        self.abandoned_calls.clear();
        (self.delay_answers, self.delay_loss) = (false, false);
        let refused = self.network == Network::Refusing;
        if self.network != Network::Up {
            // The pending call fails.
            self.network = Network::Up;
            self.lose(ErrorKind::Unavailable, false)?;
        }
        self.run_due()?;
        if self.manual {
            // A manual registration is restored by the next heartbeat.
            self.request(Request::Heartbeat)?;
        }
        self.wait(if refused {
            RESTORE_BOUND + TTL / 3
        } else {
            RESTORE_BOUND
        })?;
        if !self.observed.released() {
            self.check_present()?;
        }
        if self.manual && self.observed.standing == Standing::Live {
            self.request(Request::Heartbeat)?;
        }
        self.wait(VALUE_BOUND)?;
        self.check_value()?;
        self.check_at_rest()
    }

    fn check_present(&mut self) -> Check {
        if !self.observed.unanswered.is_empty() && !self.observed.released() {
            return Err(format!("no answer to {:?}", self.observed.unanswered));
        }
        let (held, ours) = (self.store.held, self.store.held_by_this_owner());
        match self.observed.standing {
            Standing::Live if ours => Ok(()),
            Standing::Live | Standing::Lapsed => Err(format!("not registered: {held:?}")),
            Standing::Replaced => Ok(()),
            Standing::Released if ours => Err(format!("still present after unregister: {held:?}")),
            Standing::Released => Ok(()),
        }
    }

    fn check_value(&mut self) -> Check {
        if self.manual && self.observed.standing == Standing::Live {
            self.request(Request::Heartbeat)?;
            self.wait(Duration::from_millis(1))?;
        }
        match (self.observed.standing, self.store.held) {
            (Standing::Live, Some((_, value))) if value == self.observed.value => Ok(()),
            (Standing::Live, held) => Err(format!(
                "the store holds {held:?} instead of {}",
                self.observed.value
            )),
            _ => Ok(()),
        }
    }

    /// Without faults a live registration never lapses, and a released or replaced one never changes.
    fn check_at_rest(&mut self) -> Check {
        let (standing, lapses) = (self.observed.standing, self.observed.lapses);
        let changes = self.store.changes;
        for _ in 0..4 {
            if self.manual && standing == Standing::Live {
                self.request(Request::Heartbeat)?;
            }
            self.wait(TTL - Duration::from_secs(1))?;
        }
        if (standing, lapses) != (self.observed.standing, self.observed.lapses) {
            return Err(format!(
                "{standing:?} at rest became {:?}",
                self.observed.standing
            ));
        }
        if standing == Standing::Live && self.store.changes != changes {
            return Err("written repeatedly without a fault".into());
        }
        self.check_present()?;
        if self.manual && standing == Standing::Live {
            // Without a heartbeat a manual registration expires.
            self.wait(TTL * 2)?;
            if self.observed.standing != Standing::Lapsed || self.store.held_by_this_owner() {
                return Err("still registered without a heartbeat".into());
            }
        }
        Ok(())
    }
}
