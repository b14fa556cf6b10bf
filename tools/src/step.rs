//! One command of a stage. It runs at the top of the repository, with the environment that all builds share.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::counts::{self, Counts, Runner};
use crate::{root, target_dir};

/// How the result of a step is counted.
#[derive(Clone, Copy)]
pub enum Counted {
    /// No test on success, one failure otherwise.
    Build,
    /// One test.
    Check,
    /// The counts in the output of its runner.
    Tests(Runner),
}

/// Default time limit of a step: several times what the slowest step takes from a clean tree on two cores.
const LONGEST: &str = "30m";

pub struct Step {
    counted: Counted,
    arguments: Vec<String>,
    dir: &'static str,
    env: Vec<(&'static str, &'static str)>,
    longest: &'static str,
    /// The file in which tests record that they were skipped.
    skip_log: Option<PathBuf>,
    with_stderr: bool,
}

impl Step {
    /// `command` is split at spaces; an argument with a space is added with [`Step::arg`].
    pub fn new(counted: Counted, command: &str) -> Step {
        let arguments = command.split_whitespace().map(str::to_owned).collect();
        Step {
            counted,
            arguments,
            dir: ".",
            env: Vec::new(),
            longest: LONGEST,
            skip_log: None,
            with_stderr: false,
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

    /// Sets the time limit, in the syntax of `timeout`.
    pub fn within(mut self, longest: &'static str) -> Step {
        self.longest = longest;
        self
    }

    /// Counts the tests that record a skip in the file of `DISCOVER_SKIP_LOG`, for runners that hide the output of
    /// passing tests.
    pub fn with_skip_log(mut self) -> Step {
        self.skip_log = Some(target_dir().join("skipped-tests.log"));
        self
    }

    /// Reads standard error as well, for runners that print their summary there.
    pub fn with_stderr(mut self) -> Step {
        self.with_stderr = true;
        self
    }

    pub fn command_line(&self) -> String {
        self.arguments.join(" ")
    }

    /// Runs the command, shows its output live, and returns the counts.
    pub fn run(&self) -> Counts {
        if let Some(log) = &self.skip_log {
            // A missing file is an empty log.
            let _ = std::fs::remove_file(log);
        }
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
            Counted::Tests(runner) => counts::read(runner, &output)
                .skip(self.recorded_skips())
                .settle(success),
        }
    }

    /// Runs the command without showing its output, and returns true if it exits with 0.
    pub fn succeeds(&self) -> bool {
        let mut command = Command::new(&self.arguments[0]);
        command
            .args(&self.arguments[1..])
            .envs(shared_environment());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn recorded_skips(&self) -> u32 {
        let log = self
            .skip_log
            .as_ref()
            .and_then(|log| std::fs::read_to_string(log).ok());
        log.map_or(0, |log| log.lines().count().try_into().unwrap_or(u32::MAX))
    }

    fn spawn(&self) -> io::Result<(bool, String)> {
        // A step that hangs fails by itself, and the other steps still run.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", self.longest]);
        if self.with_stderr {
            command.args(["sh", "-c", "exec \"$@\" 2>&1", "sh"]);
        }
        if let Some(log) = &self.skip_log {
            command.env("DISCOVER_SKIP_LOG", log);
        }
        command
            .args(&self.arguments)
            .current_dir(root().join(self.dir));
        command
            .envs(shared_environment())
            .envs(self.env.iter().copied());
        // Standard error stays a terminal where it is not read, so that cargo keeps its colours.
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

/// One target folder and one Python environment for cargo, maturin and npm.
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
