//! The programs under measure, one in each language, all of release builds, and those of the peers: others'
//! clients of etcd. `tools/bench.sh` makes the packages that they use.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The languages, as they are told in the table; the floor is one of them.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "node"];

/// The floor, told like a language.
pub const FLOOR: &str = "floor";

/// Others' clients of etcd: their name, the languages that they are laid beside, and where their packages are.
const PEERS: [(&str, &[&str], &str); 6] = [
    ("Go", &["rust", "c"], "go"),
    ("aetcd", &["python"], "python"),
    ("etcd3", &["python"], "python"),
    ("etcetra", &["python"], "etcetra"),
    ("nacos-sdk-rust", &["python"], "nacos"),
    ("npm etcd3", &["node"], "node"),
];

/// The floor, the languages, and those of these peers that could be installed.
pub fn with_peers(named: &[&'static str]) -> Vec<&'static str> {
    let installed = |name: &&str| place(name).is_ok_and(|place| place.join("installed").exists());
    let peers = named.iter().copied().filter(installed);
    [FLOOR].into_iter().chain(LANGUAGES).chain(peers).collect()
}

/// The peers of a language.
pub fn peers(language: &str) -> impl Iterator<Item = &'static str> {
    PEERS
        .into_iter()
        .filter(move |(_, beside, _)| beside.contains(&language))
        .map(|(name, ..)| name)
}

/// Where the packages of a peer are.
fn place(peer: &str) -> Result<PathBuf, String> {
    let found = PEERS.into_iter().find(|(name, ..)| *name == peer);
    let (.., folder) = found.ok_or_else(|| format!("no peer is called {peer}"))?;
    Ok(built()?.join("bench-packages/peers").join(folder))
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

/// The command of the program that loads the library and does nothing else.
pub fn loader() -> Result<Command, String> {
    Ok(command(&built()?.join("bench-load")))
}

/// Compiles the programs in C, the one of the library against that of this build.
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
        .arg(top().join("tests/bench/programs").join(source))
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where this program was built.
pub fn built() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}
