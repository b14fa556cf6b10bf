//! Random histories, made smaller when one of them shows a mistake.

use proptest::prelude::*;

use super::connection_model::Why;
use super::harness::Harness;
use super::operations::{Operation, any_op};
use crate::prove;

pub(super) fn history() -> impl Strategy<Value = (bool, u64, Vec<Operation>)> {
    (
        any::<bool>(),
        0..1000u64,
        prop::collection::vec(any_op(), 1..40),
    )
}

pub(super) fn holds((loses_deletes, seed, ops): (bool, u64, Vec<Operation>)) -> Result<(), String> {
    Harness::started(loses_deletes, seed)?.run(&ops)
}

/// What once showed a mistake, and with which seed.
fn kept() -> Vec<(bool, u64, Vec<Operation>)> {
    let put = |key| Operation::Write(vec![(key, true)]);
    let delete = |key| Operation::Write(vec![(key, false)]);
    let ghost = vec![
        Operation::Elsewhere(3),
        Operation::Elsewhere(497),
        Operation::Slow(true, false),
        delete(0),
        Operation::Wait(5557),
        Operation::Churn(3),
        Operation::Trickle(0),
        Operation::Trickle(0),
        Operation::Trickle(1),
    ];
    let same_revision = vec![
        Operation::Churn(0),
        Operation::CancelReason(0, Why::Other),
        put(1),
        Operation::Follow(2, true),
        put(0),
        Operation::RollBackAndWrite(3, vec![(0, false)]),
        put(1),
        delete(2),
        Operation::Follow(0, false),
    ];
    let newer_than_the_store = vec![
        Operation::Slow(true, false),
        delete(0),
        put(1),
        Operation::Follow(2, true),
        put(0),
        delete(0),
        Operation::RollBackAndWrite(3, vec![(0, true)]),
        Operation::Follow(0, false),
    ];
    let came_and_went = vec![
        Operation::Slow(true, false),
        Operation::Write(vec![(0, false), (2, true)]),
        Operation::Reset,
        put(0),
        Operation::Wait(100),
        Operation::Churn(2),
        Operation::Trickle(0),
        Operation::Pump(0, 1),
        Operation::Pump(0, 2),
        Operation::Want,
    ];
    let two_parts = vec![Operation::RollBack(1)];
    let barred = vec![
        Operation::Barred(true),
        Operation::Reset,
        Operation::Wait(100),
    ];
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

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_the_follower_is_found() {
    prove::each_is_found("watch_sync", 20_000, kept, &history(), &holds);
}
