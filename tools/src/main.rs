//! The project's own tools, in one small program without dependencies:
//! `cargo run -p tools -- <command>`. The Makefile is the index.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod build;
mod counts;
mod install;
mod soak;
mod source;
mod stages;
mod step;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo run -p tools -- COMMAND

  build [--no-etcd]     build the C library, the Python package and the Node package for this tree
  test [STAGE...]       run the test stages (all of them, or those named) and count
  soak [LOOP...]        run the long loops of the tests (all, or those named) with their full counts
  tidy                  check the house rules
  install --prefix DIR [--libdir lib] [--destdir DIR] [--profile dist|release|debug]
                        install the built C library, its headers, pkg-config and CMake files
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.split_first() {
        Some((&"build", rest)) => build::run(rest),
        Some((&"test", rest)) => test::run(stages::all(), rest),
        Some((&"soak", rest)) => test::run(soak::all(), rest),
        Some((&"tidy", [])) => tidy::run(),
        Some((&"install", rest)) => install::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("{message}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository that we stand in. Not the one that we were built in: a target folder
/// may be moved along with its repository, or shared by two.
fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let top = here
        .ancestors()
        .find(|dir| dir.join("tools/Cargo.toml").exists());
    top.unwrap_or(&here).to_owned()
}

/// Where cargo builds: one folder for the workspace, maturin and npm, so that nothing is built twice.
fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}
