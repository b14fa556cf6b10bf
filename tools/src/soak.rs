//! What `soak` runs: the loops of the tests, which `test` runs at a tenth of their counts, in full.
//!
//! A test asks `DISCOVER_SOAK`: unset, it makes a tenth of its rounds. A loop here is the same test, run
//! by itself with that variable set. To add one, mark its rounds in the test and name the test here.

use crate::build::{self, Features};
use crate::counts::Runner;
use crate::stages::{Stage, tests};
use crate::step::Step;

/// How long one loop may take.
const LONGEST: &str = "4h";

pub fn all() -> Vec<Stage> {
    vec![c("c-cycles", "--test hygiene cycles")]
}

/// Tests of the C library: what `cargo test -p discover-ffi` is given to run just them.
fn c(name: &'static str, which: &str) -> Stage {
    let command = format!("cargo test -p discover-ffi {which}");
    Stage {
        name,
        about: "ffi",
        steps: vec![
            build::ffi(Features::Default),
            in_full(Runner::Cargo, &command),
        ],
    }
}

fn in_full(runner: Runner, command: &str) -> Step {
    tests(runner, command)
        .env("DISCOVER_SOAK", "1")
        .within(LONGEST)
}
