//! Random histories, made smaller when one of them shows a mistake.

use proptest::prelude::*;

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

/// Never a change missed, split, repeated or invented; and all is right soon after all is well.
#[test]
fn a_follower_is_right_in_every_history() {
    prove::holds(file!(), 20_000, history(), holds);
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_mistake_of_the_follower_is_found() {
    prove::each_is_found("follow", 20_000, &history(), &holds);
}
