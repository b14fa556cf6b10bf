//! Random scenarios of one registration, shrunk when one fails.

use proptest::prelude::*;

use super::harness::Harness;
use super::operations::{Operation, any_operation};
use crate::prove;

type Scenario = (bool, bool, u64, Vec<Operation>);

pub(super) fn scenario() -> impl Strategy<Value = Scenario> {
    let operations = prop::collection::vec(any_operation(), 1..40);
    (
        prop::bool::weighted(0.25),
        any::<bool>(),
        0..1000u64,
        operations,
    )
}

pub(super) fn holds((manual, shared, seed, operations): Scenario) -> Result<(), String> {
    Harness::started(manual, shared, seed).run(&operations)
}

/// Scenarios that failed once: another owner during a heartbeat; a slow store that then revokes the lease
/// twice; an uncertain value under a lease that shared renewals keep alive.
fn past_failures() -> Vec<Scenario> {
    let slow = || Operation::Delay(true, true);
    let replaced = vec![slow(), Operation::Replace, Operation::Heartbeat];
    let loss_reported_twice = vec![
        Operation::Delay(true, false),
        Operation::Update,
        Operation::Replace,
    ];
    let rewritten = vec![
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
        Operation::Delay(true, false),
        Operation::Delete,
        Operation::Heartbeat,
    ];
    paused.extend(again);
    paused.extend([Operation::Delete, Operation::Update]);
    let single = [replaced, loss_reported_twice, rewritten, paused]
        .map(|operations| (false, false, 0, operations));
    let mut renewed = vec![
        Operation::Delay(true, false),
        Operation::SharedRenewals(true),
        Operation::Wait(2100),
    ];
    renewed.extend([Operation::Update, Operation::Serve, Operation::Lose(false)]);
    let shared = [renewed].map(|operations| (false, true, 0, operations));
    single.into_iter().chain(shared).collect()
}

#[test]
fn past_failures_do_not_recur() {
    for scenario in past_failures() {
        assert_eq!(holds(scenario), Ok(()));
    }
}

/// Never live without confirmation, never present after its release, always restored, never in conflict with
/// a new owner.
#[test]
fn a_registration_survives_every_random_scenario() {
    prove::check_property(file!(), 20_000, scenario(), holds);
}

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_the_lease_machine_is_found() {
    prove::check_mutants("lease", 20_000, past_failures, &scenario(), &holds);
}
