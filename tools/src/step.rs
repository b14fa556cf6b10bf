//! One command, run at the top of the repository with the environment that every build shares.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use crate::counts::{self, Counts, Runner};
use crate::{root, target_dir};

/// How the outcome of a step is counted.
#[derive(Clone, Copy)]
pub enum Counted {
    /// Nothing when it works, one failure when it does not.
    Build,
    /// One test.
    Check,
    /// As many tests as its output says.
    Tests(Runner),
}

/// How long one step may take, if it does not say: several times what the slowest does from nothing on
/// two cores.
const LONGEST: &str = "30m";

pub struct Step {
    counted: Counted,
    arguments: Vec<String>,
    dir: &'static str,
    env: Vec<(&'static str, &'static str)>,
    longest: &'static str,
}

impl Step {
    /// `command` is split at spaces; an argument that holds one goes through [`Step::arg`].
    pub fn new(counted: Counted, command: &str) -> Step {
        let arguments = command.split_whitespace().map(str::to_owned).collect();
        Step {
            counted,
            arguments,
            dir: ".",
            env: Vec::new(),
            longest: LONGEST,
        }
    }

    pub fn arg(mut self, argument: impl Into<String>) -> Step {
        self.arguments.push(argument.into());
        self
    }

    /// Runs in `dir`, relative to the top of the repository.
    pub fn dir(mut self, dir: &'static str) -> Step {
        self.dir = dir;
        self
    }

    pub fn env(mut self, name: &'static str, value: &'static str) -> Step {
        self.env.push((name, value));
        self
    }

    /// May take so long, as `timeout` reads it.
    pub fn within(mut self, longest: &'static str) -> Step {
        self.longest = longest;
        self
    }

    pub fn command_line(&self) -> String {
        self.arguments.join(" ")
    }

    /// Runs the command, shows what it prints as it prints it, and counts.
    pub fn run(&self) -> Counts {
        let (success, output) = match self.spawn() {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("cannot run {}: {error}", self.command_line());
                (false, String::new())
            }
        };
        match self.counted {
            Counted::Build if success => Counts::default(),
            Counted::Build => Counts::one(false),
            Counted::Check => Counts::one(success),
            Counted::Tests(runner) => counts::read(runner, &output).settle(success),
        }
    }

    fn spawn(&self) -> io::Result<(bool, String)> {
        // A step that hangs fails by itself, and the others still run.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", self.longest])
            .args(&self.arguments)
            .current_dir(root().join(self.dir));
        command
            .envs(shared_environment())
            .envs(self.env.iter().copied());
        // Only stdout is read: that is where every runner counts, and cargo keeps its colours.
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = match child.stdout.take() {
            Some(stdout) => show_and_keep(stdout)?,
            None => String::new(),
        };
        Ok((child.wait()?.success(), output))
    }
}

fn show_and_keep(mut from: impl Read) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&chunk[..length])?;
        stdout.flush()?;
        kept.extend_from_slice(&chunk[..length]);
    }
}

/// One target folder and one Python for all, whoever calls cargo: us, maturin or npm.
fn shared_environment() -> Vec<(&'static str, OsString)> {
    let venv = root().join(".venv");
    let mut path = venv.join("bin").into_os_string();
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    let mut environment = vec![
        ("CARGO_TARGET_DIR", target_dir().into_os_string()),
        ("LIBDISCOVER_BUILD_PROFILE", "dev".into()),
        ("PATH", path),
        ("npm_config_loglevel", "error".into()),
    ];
    if venv.exists() {
        environment.push(("PYO3_PYTHON", venv.join("bin/python").into_os_string()));
        environment.push(("VIRTUAL_ENV", venv.into_os_string()));
    }
    environment
}
