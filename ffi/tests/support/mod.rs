//! What the tests of the C library stand on: the library as it is built, and programs built against it.

#![allow(dead_code, reason = "each test uses a part of it")]

mod program;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("it is in the target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "discover-ffi", "--target-dir"]);
        run(cargo.arg(target).current_dir(root()));
        target.join("debug")
    })
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

/// The header with its comments taken out.
pub fn header_code() -> String {
    let text = std::fs::read_to_string(root().join("include/discover.h")).expect("the header");
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").expect("the comment ends").1;
    }
    code + rest
}

/// The functions that the header declares, in the order of their names.
pub fn declared_functions() -> Vec<String> {
    let code = header_code();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name_before = |text: &str| {
        let at = text.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
        text[at..].to_owned()
    };
    let mut names: Vec<String> = code
        .match_indices('(')
        .map(|(at, _)| name_before(&code[..at]))
        .filter(|name| name.starts_with("discover_"))
        .collect();
    names.sort();
    names
}
