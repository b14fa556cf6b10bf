//! What the tests of the C library stand on: the library as it is built, and programs built against it.

#![allow(dead_code, reason = "each test uses a part of it")]

mod declared;
mod program;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[allow(unused_imports, reason = "likewise")]
pub use declared::{Function, Parameter, functions};
#[allow(unused_imports, reason = "likewise")]
pub use program::{Program, path, scratch};

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("ffi/ is in the repository")
}

/// The folder with libdiscover.so and libdiscover.a, both as of now. Cargo builds them for users, but
/// not for tests, so it is asked to, once in each process.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(target(), &[]))
}

/// The folder with a library that is built in another way than the one that people get, without etcd,
/// which takes longest to compile. `name` tells it from others.
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

/// Where this test was built.
fn target() -> &'static Path {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    place.parent().expect("it is in the target folder")
}

/// Runs a command that must succeed, and gives what it printed.
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

/// So many rounds in `make soak`, and a tenth of them beside all the other tests.
pub fn rounds(full: usize) -> usize {
    match std::env::var_os("DISCOVER_SOAK") {
        Some(_) => full,
        None => full / 10,
    }
}

/// Says something past the capture of the test runner, for whoever runs the long loops.
pub fn tell(text: &str) {
    if std::env::var_os("DISCOVER_SOAK").is_some() {
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// The names of the functions that the header declares, in their order.
pub fn declared_functions() -> Vec<String> {
    let mut names: Vec<String> = functions().into_iter().map(|one| one.name).collect();
    names.sort();
    names
}
