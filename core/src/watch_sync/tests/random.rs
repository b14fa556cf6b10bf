//! Property test of random histories, with shrinking.

use proptest::prelude::*;

use super::connection_model::CancelCause;
use super::harness::Harness;
use super::operations::{Operation, any_operation};
use crate::prove;

pub(super) fn history() -> impl Strategy<Value = (bool, u64, Vec<Operation>)> {
    (
        any::<bool>(),
        0..1000u64,
        prop::collection::vec(any_operation(), 1..40),
    )
}

pub(super) fn holds((loses_deletes, seed, ops): (bool, u64, Vec<Operation>)) -> Result<(), String> {
    Harness::started(loses_deletes, seed)?.run(&ops)
}

/// Histories that once failed, with their seeds.
fn regressions() -> Vec<(bool, u64, Vec<Operation>)> {
    let put = |key| Operation::Write(vec![(key, true)]);
    let delete = |key| Operation::Write(vec![(key, false)]);
    let ghost = vec![
        Operation::WriteUnwatched(3),
        Operation::WriteUnwatched(497),
        Operation::ManualDelivery(true, false),
        delete(0),
        Operation::Wait(5557),
        Operation::PutAndDelete(3),
        Operation::DeliverRevision(0),
        Operation::DeliverRevision(0),
        Operation::DeliverRevision(1),
    ];
    let same_revision = vec![
        Operation::PutAndDelete(0),
        Operation::Cancel(0, CancelCause::Other),
        put(1),
        Operation::AddRange(2, true),
        put(0),
        Operation::RollBackAndWrite(3, vec![(0, false)]),
        put(1),
        delete(2),
        Operation::AddRange(0, false),
    ];
    let newer_than_the_store = vec![
        Operation::ManualDelivery(true, false),
        delete(0),
        put(1),
        Operation::AddRange(2, true),
        put(0),
        delete(0),
        Operation::RollBackAndWrite(3, vec![(0, true)]),
        Operation::AddRange(0, false),
    ];
    let came_and_went = vec![
        Operation::ManualDelivery(true, false),
        Operation::Write(vec![(0, false), (2, true)]),
        Operation::Reset,
        put(0),
        Operation::Wait(100),
        Operation::PutAndDelete(2),
        Operation::DeliverRevision(0),
        Operation::Serve(0, 1),
        Operation::Serve(0, 2),
        Operation::RequestConnection,
    ];
    let two_parts = vec![Operation::RollBack(1)];
    let reads_denied = vec![
        Operation::DenyReads(true),
        Operation::Reset,
        Operation::Wait(100),
    ];
    vec![
        (false, 0, ghost),
        (false, 375, same_revision),
        (false, 0, newer_than_the_store),
        (false, 0, came_and_went),
        (false, 0, two_parts),
        (false, 0, reads_denied),
    ]
}

#[test]
fn regressions_of_the_state_machine_pass() {
    for history in regressions() {
        assert_eq!(holds(history), Ok(()));
    }
}

/// No change is missed, split, repeated or invented, and every view is right soon after the last fault.
#[test]
fn the_state_machine_is_right_in_every_history() {
    prove::check_property(file!(), 20_000, history(), holds);
}

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_watch_sync_is_found() {
    prove::check_mutants("watch_sync", 20_000, regressions, &history(), &holds);
}
