//! Soak test: a compressed day of a busy store.

use std::time::Duration;

use super::connection_model::CancelCause;
use super::harness::{Check, Harness, Network};
use super::operations::Operation;
use crate::prove;

/// Operations of a day.
const CHANGES: u32 = 100_000;
const PARTITIONS: u32 = 500;
const COMPACTIONS: u32 = 50;
const ROLLBACKS: u32 = 10;
const CANCELED_WATCHES: u32 = 200;
/// Mean interval of the changes.
const CHANGE_INTERVAL: Duration = Duration::from_millis(24 * 3600 * 1000 / CHANGES as u64);

/// Number of operations, and a hash of the outputs.
#[derive(Debug, Default, PartialEq, Eq)]
struct DaySummary {
    changes: u32,
    partitions: u32,
    compactions: u32,
    rollbacks: u32,
    canceled_watches: u32,
    output_hash: u64,
    connects: u64,
    epochs: u64,
}

/// Runs the n-th part of a day.
fn run_day(divisor: u32, seed: u64) -> Result<DaySummary, String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut harness = Harness::started(true, seed)?;
    let mut summary = DaySummary::default();
    for change in 1..=CHANGES / divisor {
        let keys: Vec<(u8, bool)> = (0..5).map(|key| (key, chance.f32() < 0.7)).collect();
        let some = chance.usize(1..3);
        let at = chance.usize(..4);
        harness.store.write(&keys[at..(at + some).min(5)]);
        summary.changes += 1;
        if change % (CHANGES / PARTITIONS) == 0 {
            summary.partitions += 1;
            harness.net = chance
                .choice([
                    Network::DropsAll,
                    Network::RefusesConnections,
                    Network::DropsRequests,
                ])
                .unwrap_or(Network::DropsAll);
            harness.apply(&Operation::Reset)?;
        }
        if change % (CHANGES / PARTITIONS) == 7 {
            harness.net = Network::Up;
        }
        if change % (CHANGES / COMPACTIONS) == 1_003 {
            summary.compactions += 1;
            harness
                .store
                .compact(harness.store.head() - chance.u64(..4));
            harness
                .store
                .trim_before(harness.store.head().saturating_sub(2000));
        }
        if change % (CHANGES / ROLLBACKS) == 5_003 {
            summary.rollbacks += 1;
            harness.apply(&Operation::RollBackAndWrite(chance.u64(1..60), keys))?;
        }
        if change % (CHANGES / CANCELED_WATCHES) == 250 {
            summary.canceled_watches += 1;
            harness.cancel(0, CancelCause::Other);
        }
        advance(&mut harness, &mut chance)?;
    }
    harness.recover_and_check()?;
    let counts = harness.sync.counters();
    (summary.connects, summary.epochs) = (counts.connects, counts.epochs);
    summary.output_hash = harness.output_hash.0;
    Ok(summary)
}

/// Lets time pass until the next change; sometimes responses are late.
fn advance(harness: &mut Harness, chance: &mut fastrand::Rng) -> Check {
    (harness.manual_stream, harness.manual_calls) = (chance.f32() < 0.05, chance.f32() < 0.05);
    harness.wait(CHANGE_INTERVAL.mul_f32(chance.f32() * 2.0))
}

#[test]
fn a_compressed_day_passes_and_is_reproducible() {
    let divisor = if prove::requested_cases().is_some() {
        1
    } else {
        10
    };
    let day = run_day(divisor, 7).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{day:?}");
    assert_eq!(day.changes, CHANGES / divisor);
    assert_eq!(day.partitions, PARTITIONS / divisor);
    assert_eq!(day.compactions, COMPACTIONS / divisor);
    assert_eq!(day.rollbacks, ROLLBACKS / divisor);
    assert_eq!(day.canceled_watches, CANCELED_WATCHES / divisor);
    // A restore that undid only deletes shows in an audit, not as a new epoch.
    assert!(day.epochs > 0 && day.connects > u64::from(day.partitions));
    assert_eq!(
        run_day(divisor, 7).as_ref(),
        Ok(&day),
        "the same seed, another summary"
    );
    assert_ne!(
        run_day(10, 8).map(|other| other.output_hash),
        Ok(day.output_hash)
    );
}
