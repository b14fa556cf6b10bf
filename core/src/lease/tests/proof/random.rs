//! Random fates of a registration, made smaller when one of them shows a mistake.

use proptest::prelude::*;

use super::ops::{Op, any_op};
use super::world::World;
use crate::prove;

type Fate = (bool, bool, u64, Vec<Op>);

pub(super) fn fate() -> impl Strategy<Value = Fate> {
    let ops = prop::collection::vec(any_op(), 1..40);
    (prop::bool::weighted(0.25), any::<bool>(), 0..1000u64, ops)
}

pub(super) fn holds((manual, shared, seed, ops): Fate) -> Result<(), String> {
    World::started(manual, shared, seed).run(&ops)
}

/// What once showed a mistake: another owner while a beat is on its way; a store that takes its time, and
/// then takes the lease away twice; and a value in doubt under a lease that others renew for ever.
fn kept() -> Vec<Fate> {
    let slow = || Op::Slow(true, true);
    let taken = vec![slow(), Op::Replace, Op::Heartbeat];
    let told_twice = vec![Op::Slow(true, false), Op::Update, Op::Replace];
    let settled = vec![
        slow(),
        Op::Update,
        Op::Heartbeat,
        Op::Lose(false),
        Op::Serve,
        Op::Replace,
    ];
    let again = [Op::Serve, Op::Answer, Op::Lose(false), Op::Serve, Op::Serve];
    let mut paused = vec![Op::Slow(true, false), Op::Delete, Op::Heartbeat];
    paused.extend(again);
    paused.extend([Op::Delete, Op::Update]);
    let alone = [taken, told_twice, settled, paused].map(|ops| (false, false, 0, ops));
    let mut renewed = vec![Op::Slow(true, false), Op::Keeps(true), Op::Wait(2100)];
    renewed.extend([Op::Update, Op::Serve, Op::Lose(false)]);
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
    prove::holds(file!(), 20_000, fate(), holds);
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_mistake_of_the_keeper_is_found() {
    prove::each_is_found("lease", 20_000, kept, &fate(), &holds);
}
