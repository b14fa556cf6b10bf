//! The programs under test, one per language, run on the host of the clients.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::check::Registrant;
use crate::netns::{Host, run};
use crate::watcher_output::{OutputLine, Snapshot, parse};
use discover_testkit::clock::{Micros, wait_until};

/// The languages, by their names in tables.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "node"];

/// Number of registrations of each program.
pub const REGISTRATIONS: usize = 2;

/// The service in which the programs register.
pub const MEMBERS: &str = "members";

/// The first port that the programs register.
const PORT: usize = 7000;

/// A running program. Killed when dropped.
pub struct Watcher {
    /// Its language.
    pub language: &'static str,
    host: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<OutputLine>>>,
    reader: Option<JoinHandle<()>>,
    ready: Micros,
}

impl Watcher {
    /// Starts the program of a language.
    pub fn start(
        language: &'static str,
        host: &Host,
        url: &str,
        pace: u32,
        services: &[&str],
        environment: &[(&str, PathBuf)],
        log: &Path,
    ) -> Result<Watcher, String> {
        let place = LANGUAGES
            .iter()
            .position(|l| *l == language)
            .ok_or("unknown language")?;
        let address = format!("10.9.0.{}", place + 1);
        let mut command = command(language, host)?;
        let log = std::fs::File::create(log.join(format!("{language}.log")))
            .map_err(|e| e.to_string())?;
        command
            .args([
                url,
                &address,
                &PORT.to_string(),
                &REGISTRATIONS.to_string(),
                &pace.to_string(),
            ])
            .args(services)
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let lines: Arc<Mutex<Vec<OutputLine>>> = Arc::default();
        let place = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let read = parse(&line).unwrap_or_else(OutputLine::Failed);
                place
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(read);
            }
        });
        Ok(Watcher {
            language,
            host: address,
            input: child.stdin.take(),
            child,
            lines,
            reader: Some(reader),
            ready: 0,
        })
    }

    /// Waits until it is registered and watching.
    pub fn wait_ready(&mut self) -> Result<(), String> {
        let mut ready = None;
        wait_until(30.0, || {
            ready = self.lines().iter().find_map(|line| match line {
                OutputLine::Ready(at) => Some(Ok(*at)),
                OutputLine::Failed(why) => Some(Err(why.clone())),
                _ => None,
            });
            ready.is_some()
        });
        let ready = ready.unwrap_or_else(|| Err("it does not become ready".to_owned()));
        self.ready = ready.map_err(|why| format!("{}: {why}", self.language))?;
        Ok(())
    }

    /// Returns the last snapshot of a service.
    pub fn last(&self, service: &str) -> Option<Snapshot> {
        self.lines().iter().rev().find_map(|line| match line {
            OutputLine::Snapshot(of, snapshot) if of == service => Some(snapshot.clone()),
            _ => None,
        })
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Removes and returns its output so far, for long runs.
    pub fn take_lines(&self) -> Vec<OutputLine> {
        std::mem::take(&mut *self.lines())
    }

    /// Stops it and waits; returns its output, and how it failed if it did.
    pub fn finish(mut self) -> (Vec<OutputLine>, Option<String>) {
        drop(self.input.take().map(|mut input| input.write_all(b"\n")));
        let ended = wait_until(15.0, || matches!(self.child.try_wait(), Ok(Some(_))));
        if !ended {
            let _ = self.child.kill();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let lines = self.take_lines();
        let reported = lines.iter().find_map(|line| match line {
            OutputLine::Failed(why) | OutputLine::Left(why) => Some(why.clone()),
            _ => None,
        });
        let died = match self.child.wait() {
            _ if !ended => Some("it does not exit".to_owned()),
            Ok(status) if status.success() => reported,
            Ok(status) => Some(reported.unwrap_or_else(|| status.to_string())),
            Err(error) => Some(error.to_string()),
        };
        (lines, died)
    }

    /// Returns its registrations, up to a time at which it lives.
    pub fn registrants(&self, until: Micros) -> Vec<Registrant> {
        let one = |number| Registrant {
            id: format!("{}:{}", self.host, PORT + number),
            from: self.ready,
            until,
        };
        (0..REGISTRATIONS).map(one).collect()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<OutputLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(language: &str, host: &Host) -> Result<Command, String> {
    let top = top();
    let source = |name: &str| top.join("tests/faultlab/watchers").join(name);
    Ok(match language {
        "rust" => host.command(built()?.join("faults-watch")),
        "c" => host.command(compiled()?),
        "python" => {
            let mut command = host.command(top.join(".venv/bin/python"));
            command.arg(source("watch.py"));
            command
        }
        _ => {
            let mut command = host.command("node");
            command
                .arg(source("watch.mjs"))
                .env("LIBDISCOVER_NODE", top.join("bindings/node/dist/index.js"));
            command
        }
    })
}

/// The top of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The directory of this program, with the C library.
fn built() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut folder = own.parent().unwrap_or(Path::new("/")).to_owned();
    // Test programs are one level deeper.
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

/// The program in C, compiled once per process.
fn compiled() -> Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let compile = || {
        let (built, top) = (built()?, top());
        let program = built.join("faults-watch-c");
        // Other labs may be running the existing one.
        let new = built.join(format!("faults-watch-c.{}", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler
            .args([
                "-std=c99",
                "-D_POSIX_C_SOURCE=200809L",
                "-FakeClock",
                "-Wextra",
                "-Werror",
                "-O1",
                "-o",
            ])
            .arg(&new)
            .arg(top.join("tests/faultlab/watchers/watch.c"))
            .arg("-I")
            .arg(top.join("include"))
            .arg("-L")
            .arg(&built)
            .arg(format!("-Wl,-rpath,{}", built.display()))
            .arg("-ldiscover");
        run(&mut compiler)?;
        std::fs::rename(&new, &program).map_err(|e| e.to_string())?;
        Ok(program)
    };
    PROGRAM.get_or_init(compile).clone()
}
