//! The programs under measure, one in each language, all of release builds. `tools/bench.sh` makes the
//! packages of Python and Node that they use.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The languages, as they are told in the table; the floor is one of them.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "node"];

/// The floor, told like a language.
pub const FLOOR: &str = "floor";

/// The command of the program in a language.
pub fn program(language: &str) -> Result<Command, String> {
    let (built, programs) = (built()?, top().join("tests/bench/programs"));
    Ok(match language {
        FLOOR => command(&built.join("bench-floor")),
        "rust" => command(&built.join("bench-rust")),
        "c" => command(&built.join("bench-c")),
        "python" => {
            let mut python = command(&top().join(".venv/bin/python"));
            python.env("PYTHONPATH", built.join("bench-packages/python"));
            python.arg(programs.join("bench.py"));
            python
        }
        _ => {
            let mut node = command(Path::new("node"));
            node.env(
                "LIBDISCOVER_NODE",
                built.join("bench-packages/node/index.js"),
            );
            node.arg(programs.join("bench.mjs"));
            node
        }
    })
}

fn command(program: &Path) -> Command {
    // Ended by the kernel with the harness, if all else fails.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Compiles the program in C against the library of this build.
pub fn compile() -> Result<(), String> {
    let built = built()?;
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-D_POSIX_C_SOURCE=200809L",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-pthread",
            "-o",
        ])
        .arg(built.join("bench-c"))
        .arg(top().join("tests/bench/programs/bench.c"))
        .arg("-I")
        .arg(top().join("include"))
        .arg("-L")
        .arg(&built)
        .arg(format!("-Wl,-rpath,{}", built.display()))
        .arg("-ldiscover")
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| errors.into_owned())
}

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where this program was built.
pub fn built() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}
