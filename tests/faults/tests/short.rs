//! The short set: a few faults on one member and on three, met and survived in every language.

use discover_faults::netns;
use discover_faults::run::{describe, run};
use discover_faults::scenario::short;
use discover_faults::table::table;

/// How many seconds a watcher has to be current again. On a machine that does other things too, a
/// second more than is promised of one that does not.
const BOUND: f64 = 4.0;

fn survives(name: &str) {
    if netns::skipped() {
        return;
    }
    let scenario = short()
        .into_iter()
        .find(|s| s.name == name)
        .expect("it is in the short set");
    let outcome = run(&scenario, BOUND);
    let said = describe(&outcome);
    assert!(outcome.passed(), "{said}\n{}", table(&[outcome]));
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
