//! The programs under measure, one in each language, all of release builds, and those of the peers: others'
//! clients of etcd. `tools/bench.sh` makes the packages that they use.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The languages, as they are told in the table; the floor is one of them.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "node"];

/// The floor, told like a language.
pub const FLOOR: &str = "floor";

/// The peers that could be installed, of a language.
pub fn peers(language: &str) -> Result<Vec<&'static str>, String> {
    let known: &[&str] = match language {
        "python" => &["aetcd", "etcd3"],
        "node" => &["npm etcd3"],
        _ => &[],
    };
    let installed = place(language)?.join("installed").exists();
    Ok(known.iter().copied().filter(|_| installed).collect())
}

/// Where the packages of the peers of a language are.
fn place(language: &str) -> Result<PathBuf, String> {
    Ok(built()?.join("bench-packages/peers").join(language))
}

/// The command of the program in a language, or of a peer.
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
        "aetcd" | "etcd3" => {
            let mut python = command(&place("python")?.join("bin/python"));
            python.arg(programs.join("peers.py")).arg(language);
            if language == "etcd3" {
                // Its messages were generated for a protobuf that is older than the other's.
                python.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
            }
            python
        }
        "npm etcd3" => {
            let mut node = command(Path::new("node"));
            node.env("PEERS", place("node")?);
            node.arg(programs.join("peers.mjs"));
            node
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
