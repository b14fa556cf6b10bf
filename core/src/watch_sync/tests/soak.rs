//! A day of a busy store, compressed.

use std::time::Duration;

use super::connection_model::Why;
use super::harness::{Check, Harness, Net};
use super::operations::Operation;
use crate::prove;

/// What happens in a day.
const CHANGES: u32 = 100_000;
const PARTITIONS: u32 = 500;
const COMPACTIONS: u32 = 50;
const ROLLBACKS: u32 = 10;
const LEADERS: u32 = 200;
/// How long after each other the changes come.
const PACE: Duration = Duration::from_millis(24 * 3600 * 1000 / CHANGES as u64);

/// What happened, and a hash of all that was said of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    changes: u32,
    partitions: u32,
    compactions: u32,
    rollbacks: u32,
    leaders: u32,
    trace: u64,
    connects: u64,
    epochs: u64,
}

/// A part of the day: the whole of it with 1.
fn live(part: u32, seed: u64) -> Result<Story, String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut world = Harness::started(true, seed)?;
    let mut story = Story::default();
    for change in 1..=CHANGES / part {
        let keys: Vec<(u8, bool)> = (0..5).map(|key| (key, chance.f32() < 0.7)).collect();
        let some = chance.usize(1..3);
        let at = chance.usize(..4);
        world.store.write(&keys[at..(at + some).min(5)]);
        story.changes += 1;
        if change % (CHANGES / PARTITIONS) == 0 {
            story.partitions += 1;
            world.net = chance
                .choice([Net::Silent, Net::Refused, Net::Mute])
                .unwrap_or(Net::Silent);
            world.apply(&Operation::Reset)?;
        }
        if change % (CHANGES / PARTITIONS) == 7 {
            world.net = Net::Up;
        }
        if change % (CHANGES / COMPACTIONS) == 1_003 {
            story.compactions += 1;
            world.store.compact(world.store.head() - chance.u64(..4));
            world
                .store
                .forget_before(world.store.head().saturating_sub(2000));
        }
        if change % (CHANGES / ROLLBACKS) == 5_003 {
            story.rollbacks += 1;
            world.apply(&Operation::RollBackAndWrite(chance.u64(1..60), keys))?;
        }
        if change % (CHANGES / LEADERS) == 250 {
            story.leaders += 1;
            world.cancel(0, Why::Other);
        }
        rest(&mut world, &mut chance)?;
    }
    world.settle()?;
    let counts = world.follower.counts();
    (story.connects, story.epochs) = (counts.connects, counts.epochs);
    story.trace = world.trace.0;
    Ok(story)
}

/// Time passes until the next change, now and then with answers that are late.
fn rest(world: &mut Harness, chance: &mut fastrand::Rng) -> Check {
    (world.slow_stream, world.slow_calls) = (chance.f32() < 0.05, chance.f32() < 0.05);
    world.wait(PACE.mul_f32(chance.f32() * 2.0))
}

#[test]
fn a_compressed_day_goes_well_and_the_same_again() {
    let part = if prove::asked().is_some() { 1 } else { 10 };
    let day = live(part, 7).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{day:?}");
    assert_eq!(day.changes, CHANGES / part);
    assert_eq!(day.partitions, PARTITIONS / part);
    assert_eq!(day.compactions, COMPACTIONS / part);
    assert_eq!(day.rollbacks, ROLLBACKS / part);
    assert_eq!(day.leaders, LEADERS / part);
    // A restore that took nothing but deletes shows in the comparison, not as another history.
    assert!(day.epochs > 0 && day.connects > u64::from(day.partitions));
    assert_eq!(
        live(part, 7).as_ref(),
        Ok(&day),
        "the same seed, another story"
    );
    assert_ne!(live(10, 8).map(|other| other.trace), Ok(day.trace));
}
