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
    vec![
        fuzz(),
        idle(),
        c("c-cycles", "--test process leak_cycles"),
        c("c-resets", "--test process a_reset"),
        c("c-locks", "--test contract no_lock"),
        c("c-races", "--test thread_sanitizer -- --ignored"),
        python("python-exits", "test_exit.py"),
        python("python-callbacks", "test_callbacks.py"),
        forks(),
        node("node-workers", "workers.test.mjs"),
        node("node-exits", "exit.test.mjs"),
        node("node-cluster", "local.test.mjs"),
        agent_load(),
    ]
}

/// The decoders, over records that are changed in so many ways; `test` tries a few thousand.
fn fuzz() -> Stage {
    let command = "cargo test -p discover-core --lib -- fuzz";
    Stage {
        name: "fuzz",
        about: "core",
        steps: vec![in_full(Runner::Cargo, command).env("DISCOVER_PROVE", "1000000")],
    }
}

fn idle() -> Stage {
    Stage {
        name: "idle",
        about: "core",
        steps: vec![in_full(
            Runner::Cargo,
            "cargo test -p discover-core --test idle",
        )],
    }
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

/// A file of the Python package's tests.
fn python(name: &'static str, file: &str) -> Stage {
    let command = format!("python -m pytest -raP bindings/python/tests/{file}");
    Stage {
        name,
        about: "bindings/python",
        steps: vec![
            build::python(Features::Default),
            // What they print says how long the slowest took.
            in_full(Runner::Pytest, &command),
        ],
    }
}

fn forks() -> Stage {
    Stage {
        name: "forks",
        about: "tests",
        steps: vec![
            build::python(Features::Default),
            in_full(
                Runner::Pytest,
                "python -m pytest -ra tests/test_fork.py --durations=0",
            ),
        ],
    }
}

/// The agent as it is shipped, with nothing else beside it. What it prints are the figures.
fn agent_load() -> Stage {
    let command = "cargo test --release -p discoverd --test load -- --nocapture --test-threads 1";
    Stage {
        name: "agent-load",
        about: "agent",
        steps: vec![in_full(Runner::Cargo, command)],
    }
}

/// A file of the Node package's tests.
fn node(name: &'static str, file: &str) -> Stage {
    let command = format!("node --test test/{file}");
    Stage {
        name,
        about: "bindings/node",
        steps: vec![
            build::node(Features::Default),
            in_full(Runner::Node, &command).dir("bindings/node"),
        ],
    }
}

fn in_full(runner: Runner, command: &str) -> Step {
    tests(runner, command)
        .env("DISCOVER_SOAK", "1")
        .within(LONGEST)
}
