//! The short set: a few faults on one member and on three, in every language.

use discover_faults::netns;
use discover_faults::run::{describe, run};
use discover_faults::scenario::short;
use discover_faults::table::table;

/// The time in seconds in which a watcher must be current again: one second more than the guarantee, because other tests
/// run at the same time.
const BOUND: f64 = 4.0;

fn survives(name: &str) {
    if netns::skipped() {
        return;
    }
    let scenario = short()
        .into_iter()
        .find(|s| s.name == name)
        .expect("a scenario of the short set");
    let outcome = run(&scenario, BOUND);
    let description = describe(&outcome);
    assert!(outcome.passed(), "{description}\n{}", table(&[outcome]));
}

#[test]
fn leader_kill() {
    survives("leader-kill");
}

#[test]
fn client_cut() {
    survives("client-cut");
}

#[test]
fn reset() {
    survives("reset");
}

#[test]
fn compaction_while_cut() {
    survives("compaction-while-cut");
}
