//! What `test` runs, in order: the cheap checks first.

use std::fs;

use crate::build::{self, Features};
use crate::counts::Runner;
use crate::root;
use crate::step::{Counted, Step};

pub struct Stage {
    pub name: &'static str,
    /// The folder it is about. Where that does not exist, the stage is skipped.
    pub about: &'static str,
    /// Run until one fails.
    pub steps: Vec<Step>,
}

/// Each stage builds what it needs, so that it can be run alone; built twice is built once.
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
                // `cargo test` alone does not make the libraries that the C programs link.
                build::ffi(Features::Default),
                // Nor the agent, which the tests of the core start.
                build::agent(),
                tests(
                    Runner::Cargo,
                    "cargo test --workspace --exclude discover-faults --no-fail-fast",
                ),
            ],
        ),
        stage(
            "mutants",
            "core",
            // Mistakes made on purpose, which the proofs of the machines must find.
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
            "tests/faults",
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
            "all",
            "tests",
            vec![
                build::ffi(Features::Default),
                build::python(Features::Default),
                build::node(Features::Default),
                build::agent(),
                tests(Runner::Pytest, "python -m pytest -ra tests"),
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

/// Who does without etcd must not need its compiler: the demo's promise.
fn builds_without_protoc(features: &str) -> Step {
    check("cargo check -p discover-core --no-default-features --features")
        .arg(features)
        .env("PROTOC", "/nonexistent")
}

/// Each manual is built, and a warning fails it.
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

/// The package, the programs that use it, and the stubs against the module they describe.
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
