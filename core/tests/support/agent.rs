//! A real agent, started for the tests and ended with them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::etcd::spawn;

/// One agent on a socket of its own. Killed when dropped.
pub struct Agent {
    store: Option<String>,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// The program, which is built beside the tests; none, said loudly, where it was not.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let built = test.parent()?.parent()?.join("discoverd");
    if built.exists() {
        return Some(built);
    }
    let required = std::env::var("DISCOVER_REQUIRE_SERVERS").unwrap_or_default();
    assert!(
        !required.contains("agent"),
        "there is no {}",
        built.display()
    );
    // Past the capture of the test runner, so that the skip is counted.
    let skipped = b"SKIPPED: agent: it is not built; cargo build -p discoverd\n";
    std::io::stdout().write_all(skipped).unwrap();
    None
}

impl Agent {
    /// In front of this store, or with a registry of its own.
    pub fn start(store: Option<String>) -> Option<Agent> {
        program()?;
        let mut agent = Agent {
            store,
            directory: tempfile::tempdir().unwrap(),
            child: None,
        };
        agent.restart();
        Some(agent)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("discoverd+unix://{}/agent", self.directory.path().display())
    }

    /// Starts it, again or for the first time, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program().unwrap())
            .args(["run", "--bind", "none", "--socket"])
            .arg(self.directory.path().join("agent"))
            .env("EXTERNAL_IP", "127.0.0.1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        let mut child = spawn(command);
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "the agent says {line:?}");
        self.child = Some(child);
    }

    /// As a `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
