//! Random fates of a registration, made smaller when one of them shows a mistake.

use proptest::prelude::*;

use super::harness::Harness;
use super::operations::{Operation, any_op};
use crate::prove;

type Fate = (bool, bool, u64, Vec<Operation>);

pub(super) fn fate() -> impl Strategy<Value = Fate> {
    let ops = prop::collection::vec(any_op(), 1..40);
    (prop::bool::weighted(0.25), any::<bool>(), 0..1000u64, ops)
}

pub(super) fn holds((manual, shared, seed, ops): Fate) -> Result<(), String> {
    Harness::started(manual, shared, seed).run(&ops)
}

/// What once showed a mistake: another owner while a beat is on its way; a store that takes its time, and
/// then takes the lease away twice; and a value in doubt under a lease that others renew for ever.
fn kept() -> Vec<Fate> {
    let slow = || Operation::Slow(true, true);
    let taken = vec![slow(), Operation::Replace, Operation::Heartbeat];
    let told_twice = vec![
        Operation::Slow(true, false),
        Operation::Update,
        Operation::Replace,
    ];
    let settled = vec![
        slow(),
        Operation::Update,
        Operation::Heartbeat,
        Operation::Lose(false),
        Operation::Serve,
        Operation::Replace,
    ];
    let again = [
        Operation::Serve,
        Operation::Answer,
        Operation::Lose(false),
        Operation::Serve,
        Operation::Serve,
    ];
    let mut paused = vec![
        Operation::Slow(true, false),
        Operation::Delete,
        Operation::Heartbeat,
    ];
    paused.extend(again);
    paused.extend([Operation::Delete, Operation::Update]);
    let alone = [taken, told_twice, settled, paused].map(|ops| (false, false, 0, ops));
    let mut renewed = vec![
        Operation::Slow(true, false),
        Operation::Keeps(true),
        Operation::Wait(2100),
    ];
    renewed.extend([Operation::Update, Operation::Serve, Operation::Lose(false)]);
    let shared = [renewed].map(|ops| (false, true, 0, ops));
    alone.into_iter().chain(shared).collect()
}

#[test]
fn what_once_went_wrong_for_a_registration_goes_well() {
    for fate in kept() {
        assert_eq!(holds(fate), Ok(()));
    }
}

/// Never believed alive without proof, never a ghost, never forgotten, never a fight.
#[test]
fn a_registration_is_kept_through_every_fate() {
    prove::check_property(file!(), 20_000, fate(), holds);
}

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_the_keeper_is_found() {
    prove::check_mutants("lease", 20_000, kept, &fate(), &holds);
}
