//! The loops of `soak`: tests that repeat an operation, with their full number of rounds.
//!
//! A test reads `DISCOVER_SOAK`: if it is not set, the test runs a tenth of its rounds. A loop runs the same test with
//! the variable set. To add a loop, read the variable in the test and list the test here.

use crate::build::{self, Features};
use crate::counts::Runner;
use crate::stages::{Stage, tests};
use crate::step::Step;

/// Time limit of one loop.
const LOOP_TIMEOUT: &str = "4h";

pub fn all() -> Vec<Stage> {
    vec![
        fuzz(),
        idle(),
        churn(),
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

/// Fuzzes the decoders with a million mutated records; `test` tries a few thousand.
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

/// Sets beside fleets in normal churn, five minutes on each API of etcd.
fn churn() -> Stage {
    let command = "cargo test -p discover-core --test expiry churn";
    Stage {
        name: "churn",
        about: "core",
        steps: vec![in_full(Runner::Cargo, command)],
    }
}

/// Tests of the C library, selected by arguments of `cargo test -p discover-ffi`.
fn c(name: &'static str, selection: &str) -> Stage {
    let command = format!("cargo test -p discover-ffi {selection}");
    Stage {
        name,
        about: "ffi",
        steps: vec![
            build::ffi(Features::Default),
            in_full(Runner::Cargo, &command),
        ],
    }
}

/// One test file of the Python package.
fn python(name: &'static str, file: &str) -> Stage {
    let command = format!("python -m pytest -raP bindings/python/tests/{file}");
    Stage {
        name,
        about: "bindings/python",
        steps: vec![
            build::python(Features::Default),
            // The output contains the time of the slowest round.
            in_full(Runner::Pytest, &command),
        ],
    }
}

fn forks() -> Stage {
    Stage {
        name: "forks",
        about: "tests/e2e",
        steps: vec![
            build::python(Features::Default),
            in_full(
                Runner::Pytest,
                "python -m pytest -ra tests/e2e/test_fork.py --durations=0",
            ),
        ],
    }
}

/// Load test of a release build of the agent, alone on the machine. Prints its figures.
fn agent_load() -> Stage {
    let command = "cargo test --release -p discoverd --test load -- --nocapture --test-threads 1";
    Stage {
        name: "agent-load",
        about: "agent",
        steps: vec![in_full(Runner::Cargo, command)],
    }
}

/// One test file of the Node package.
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
        .within(LOOP_TIMEOUT)
}
