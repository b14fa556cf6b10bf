//! The stages of `test`, in order: the cheap checks first.

use std::fs;

use crate::build::{self, Features};
use crate::counts::Runner;
use crate::step::{Counted, Step};
use crate::{root, target_dir};

pub struct Stage {
    pub name: &'static str,
    /// The directory that the stage tests. If it does not exist, the stage is skipped.
    pub about: &'static str,
    /// The steps, run until one fails.
    pub steps: Vec<Step>,
}

/// Returns all stages. Each builds what it needs, so that it can run alone; repeated builds are incremental.
pub fn all() -> Vec<Stage> {
    let stage = |name, about, steps| Stage { name, about, steps };
    vec![
        stage("fmt", ".", vec![check("cargo fmt --all --check")]),
        stage(
            "tidy",
            ".",
            vec![check("cargo run --quiet -p tools -- tidy")],
        ),
        stage(
            "clippy",
            ".",
            vec![check(
                "cargo clippy --workspace --all-targets -- -D warnings",
            )],
        ),
        stage(
            "no-etcd",
            "core",
            vec![
                builds_without_protoc("local"),
                builds_without_protoc("local,etcd2"),
            ],
        ),
        stage(
            "rust",
            "core",
            vec![
                // A test run alone builds neither the libraries that the C programs link, nor the agent, nor the
                // program that starts the shared servers.
                build::ffi(Features::Default),
                build::agent(),
                build::test_servers(),
                rust_tests(),
                tests(Runner::Cargo, "cargo test --workspace --doc"),
            ],
        ),
        stage(
            "mutants",
            "core",
            // Deliberate defects, which the model tests must detect.
            vec![tests(
                Runner::Cargo,
                "cargo test -p discover-core --lib --features mutants mutant",
            )],
        ),
        stage(
            "python",
            "bindings/python",
            vec![
                build::python(Features::Default),
                tests(Runner::Pytest, "python -m pytest -ra bindings/python/tests"),
            ],
        ),
        stage("python-types", "bindings/python", python_types()),
        stage(
            "node",
            "bindings/node",
            vec![
                build::node(Features::Default),
                check("npx tsc --noEmit").dir("bindings/node"),
                tests(Runner::Node, "npm test").dir("bindings/node"),
            ],
        ),
        stage("docs", "tools/docs", manuals()),
        stage(
            "faults",
            "tests/faultlab",
            vec![
                build::ffi(Features::Default),
                build::python(Features::Default),
                build::node(Features::Default),
                tests(
                    Runner::Cargo,
                    "cargo test -p discover-faults --no-fail-fast",
                ),
            ],
        ),
        stage(
            "e2e",
            "tests/e2e",
            vec![
                build::ffi(Features::Default),
                build::python(Features::Default),
                build::node(Features::Default),
                build::agent(),
                tests(Runner::Pytest, "python -m pytest -ra tests/e2e"),
            ],
        ),
    ]
}

pub fn check(command: &str) -> Step {
    Step::new(Counted::Check, command)
}

pub fn tests(runner: Runner, command: &str) -> Step {
    Step::new(Counted::Tests(runner), command)
}

/// All Rust tests except the fault lab, on shared servers: with cargo-nextest, else with `cargo test`.
fn rust_tests() -> Step {
    let crates = "--workspace --exclude discover-faults";
    let with_servers = target_dir().join("debug/with-servers");
    let nextest = check("cargo nextest --version").succeeds();
    let (runner, arguments) = match nextest {
        true => (
            Runner::Nextest,
            format!("cargo nextest run {crates} --profile ci"),
        ),
        false => (
            Runner::Cargo,
            format!("cargo test {crates} --lib --bins --tests --examples --no-fail-fast"),
        ),
    };
    let mut step = tests(runner, "").arg(with_servers.display().to_string());
    for argument in arguments.split_whitespace() {
        step = step.arg(argument);
    }
    if nextest {
        step = step.with_skip_log().with_stderr();
    }
    step.within("40m")
}

/// A build without etcd must not need protoc, because the demo does not install it.
fn builds_without_protoc(features: &str) -> Step {
    check("cargo check -p discover-core --no-default-features --features")
        .arg(features)
        .env("PROTOC", "/nonexistent")
}

/// Builds each manual; a warning fails the stage.
fn manuals() -> Vec<Step> {
    vec![
        build::python(Features::Default),
        build::node(Features::Default),
        check("tools/docs.sh rust"),
        check("tools/docs.sh c"),
        check("tools/docs.sh cpp"),
        check("tools/docs.sh python"),
        check("tools/docs.sh node"),
    ]
}

/// Tests the package and the programs that use it, and compares the stubs with the native module.
fn python_types() -> Vec<Step> {
    let mut steps = vec![
        build::python(Features::Default),
        check("python -m mypy --strict bindings/python/python"),
    ];
    let examples = python_files("examples");
    if !examples.is_empty() {
        steps.push(
            examples
                .into_iter()
                .fold(check("python -m mypy --strict"), Step::arg),
        );
    }
    let mut stubtest = check("python -m mypy.stubtest libdiscover._native");
    let allowlist = "bindings/python/stubtest-allowlist.txt";
    if root().join(allowlist).exists() {
        stubtest = stubtest.arg("--allowlist").arg(allowlist);
    }
    steps.push(stubtest);
    steps
}

fn python_files(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(dir))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names
        .filter(|name| name.ends_with(".py"))
        .map(|name| format!("{dir}/{name}"))
        .collect();
    files.sort();
    files
}
