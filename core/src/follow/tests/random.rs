//! Random histories, made smaller when one of them shows a mistake.

use proptest::prelude::*;

use super::line::Why;
use super::ops::{Op, any_op};
use super::world::World;
use crate::prove;

pub(super) fn history() -> impl Strategy<Value = (bool, u64, Vec<Op>)> {
    (
        any::<bool>(),
        0..1000u64,
        prop::collection::vec(any_op(), 1..40),
    )
}

pub(super) fn holds((loses_deletes, seed, ops): (bool, u64, Vec<Op>)) -> Result<(), String> {
    World::started(loses_deletes, seed)?.run(&ops)
}

/// What once showed a mistake, and with which seed.
fn kept() -> Vec<(bool, u64, Vec<Op>)> {
    let put = |key| Op::Write(vec![(key, true)]);
    let delete = |key| Op::Write(vec![(key, false)]);
    let ghost = vec![
        Op::Elsewhere(3),
        Op::Elsewhere(497),
        Op::Slow(true, false),
        delete(0),
        Op::Wait(5557),
        Op::Churn(3),
        Op::Trickle(0),
        Op::Trickle(0),
        Op::Trickle(1),
    ];
    let same_revision = vec![
        Op::Churn(0),
        Op::Cancel(0, Why::Other),
        put(1),
        Op::Follow(2, true),
        put(0),
        Op::RollBackAndWrite(3, vec![(0, false)]),
        put(1),
        delete(2),
        Op::Follow(0, false),
    ];
    let newer_than_the_store = vec![
        Op::Slow(true, false),
        delete(0),
        put(1),
        Op::Follow(2, true),
        put(0),
        delete(0),
        Op::RollBackAndWrite(3, vec![(0, true)]),
        Op::Follow(0, false),
    ];
    let came_and_went = vec![
        Op::Slow(true, false),
        Op::Write(vec![(0, false), (2, true)]),
        Op::Reset,
        put(0),
        Op::Wait(100),
        Op::Churn(2),
        Op::Trickle(0),
        Op::Pump(0, 1),
        Op::Pump(0, 2),
        Op::Want,
    ];
    let two_parts = vec![Op::RollBack(1)];
    let barred = vec![Op::Barred(true), Op::Reset, Op::Wait(100)];
    vec![
        (false, 0, ghost),
        (false, 375, same_revision),
        (false, 0, newer_than_the_store),
        (false, 0, came_and_went),
        (false, 0, two_parts),
        (false, 0, barred),
    ]
}

#[test]
fn what_once_went_wrong_for_a_follower_goes_well() {
    for history in kept() {
        assert_eq!(holds(history), Ok(()));
    }
}

/// Never a change missed, split, repeated or invented; and all is right soon after all is well.
#[test]
fn a_follower_is_right_in_every_history() {
    prove::holds(file!(), 20_000, history(), holds);
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_mistake_of_the_follower_is_found() {
    prove::each_is_found("follow", 20_000, kept, &history(), &holds);
}
