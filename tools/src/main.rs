//! Build and test tools of the project, without dependencies: `cargo run -p tools -- COMMAND`. The Makefile lists the
//! commands.

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

  build [--no-etcd]     build the C library, the Python package and the Node package in place
  test [STAGE...]       run the test stages (default: all) and print the counts
  soak [LOOP...]        run the long loops of the tests (default: all) with their full counts
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

/// Returns the top of the repository that contains the working directory. The repository of the build may be another
/// one, because target directories can be moved or shared.
fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let top = here
        .ancestors()
        .find(|dir| dir.join("tools/Cargo.toml").exists());
    top.unwrap_or(&here).to_owned()
}

/// Returns the target directory. The workspace, maturin and npm share it, so that nothing is built twice.
fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}
