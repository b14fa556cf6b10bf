//! The measured programs, one per language and the floor, all release builds, and other clients of etcd (peers).
//! `tools/bench.sh` builds the packages that they use.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The languages, as named in the table.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "node"];

/// The floor, named like a language.
pub const FLOOR: &str = "floor";

/// Other clients of etcd: name, the languages they are compared with, and their package directory.
const PEERS: [(&str, &[&str], &str); 6] = [
    ("Go", &["rust", "c"], "go"),
    ("aetcd", &["python"], "python"),
    ("etcd3", &["python"], "python"),
    ("etcetra", &["python"], "etcetra"),
    ("nacos-sdk-rust", &["python"], "nacos"),
    ("npm etcd3", &["node"], "node"),
];

/// Returns the floor, the languages, and those of the named peers that are installed.
pub fn with_peers(named: &[&'static str]) -> Vec<&'static str> {
    let installed = |name: &&str| place(name).is_ok_and(|place| place.join("installed").exists());
    let peers = named.iter().copied().filter(installed);
    [FLOOR].into_iter().chain(LANGUAGES).chain(peers).collect()
}

/// Returns the peers of a language.
pub fn peers(language: &str) -> impl Iterator<Item = &'static str> {
    PEERS
        .into_iter()
        .filter(move |(_, beside, _)| beside.contains(&language))
        .map(|(name, ..)| name)
}

/// Returns the package directory of a peer.
fn place(peer: &str) -> Result<PathBuf, String> {
    let found = PEERS.into_iter().find(|(name, ..)| *name == peer);
    let (.., folder) = found.ok_or_else(|| format!("no peer is called {peer}"))?;
    Ok(built()?.join("bench-packages/peers").join(folder))
}

/// The command of the program in a language, or of a peer.
pub fn program(language: &str) -> Result<Command, String> {
    let (built, programs) = (built()?, top().join("bench/programs"));
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
        "Go" => command(&place(language)?.join("go")),
        "aetcd" | "etcd3" | "etcetra" | "nacos-sdk-rust" => {
            let mut python = command(&place(language)?.join("bin/python"));
            python.arg(programs.join("peers.py")).arg(language);
            if language == "etcd3" {
                // Its messages were generated for a protobuf that is older than the other's.
                python.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
            }
            python
        }
        "npm etcd3" => {
            let mut node = command(Path::new("node"));
            node.env("PEERS", place(language)?);
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

/// Returns the command of the program that only loads the library.
pub fn loader() -> Result<Command, String> {
    Ok(command(&built()?.join("bench-load")))
}

/// Compiles the programs in C against this build.
pub fn compile() -> Result<(), String> {
    let built = built()?;
    let found = format!("-Wl,-rpath,{}", built.display());
    cc("load.c", "bench-load", &["-ldl"])?;
    let libraries = ["-L", &built.to_string_lossy(), &found, "-ldiscover"];
    cc("bench.c", "bench-c", &libraries)
}

fn cc(source: &str, program: &str, libraries: &[&str]) -> Result<(), String> {
    let strict = [
        "-std=c11",
        "-D_POSIX_C_SOURCE=200809L",
        "-Wall",
        "-Wextra",
        "-Werror",
    ];
    let output = Command::new("cc")
        .args(strict)
        .args(["-O2", "-pthread", "-o"])
        .arg(built()?.join(program))
        .arg(top().join("bench/programs").join(source))
        .arg("-I")
        .arg(top().join("include"))
        .args(libraries)
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The directory of this program.
pub fn built() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}
