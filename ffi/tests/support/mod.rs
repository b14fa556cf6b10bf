//! Shared support of the C library's tests: the built library, and programs compiled against it.

#![allow(dead_code, reason = "each test uses a part of it")]

mod header_parser;
mod program;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use header_parser::{Function, Parameter, functions};
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use program::{Program, path, scratch};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("ffi/ has a parent")
}

/// The folder with up-to-date libdiscover.so and libdiscover.a. `cargo test` does not build them, so the first
/// call in each process does.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(target(), &[]))
}

/// The folder with a variant of the library, built with extra cargo `arguments` and without etcd, which takes
/// the longest to compile. `name` is the name of its target folder.
pub fn variant(name: &str, arguments: &[&str]) -> PathBuf {
    let without_etcd = ["--no-default-features", "--features", "local"];
    build(&target().join(name), &[&without_etcd, arguments].concat())
}

fn build(target: &Path, arguments: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "discover-ffi", "--target-dir"]);
    run(cargo.arg(target).args(arguments).current_dir(root()));
    target.join("debug")
}

/// The target folder of this build.
fn target() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary
        .parent()
        .expect("the temporary folder is in the target folder")
}

/// Runs a command that must succeed and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{errors}",
        output.status
    );
    text
}

/// The number of rounds: `full` in `make soak`, a tenth of it in the ordinary test run.
pub fn rounds(full: usize) -> usize {
    match std::env::var_os("DISCOVER_SOAK") {
        Some(_) => full,
        None => full / 10,
    }
}

/// In `make soak`, prints to standard output past the capture of the test runner.
pub fn print_in_soak(text: &str) {
    if std::env::var_os("DISCOVER_SOAK").is_some() {
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// The names of the functions that the header declares, sorted.
pub fn declared_functions() -> Vec<String> {
    let mut names: Vec<String> = functions().into_iter().map(|one| one.name).collect();
    names.sort();
    names
}
