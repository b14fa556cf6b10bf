//! A running program under measurement.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// Maximum time between two lines of a program: the slowest client takes a tenth of it.
const DEADLINE: Duration = Duration::from_secs(120);

/// The program. Killed when dropped.
pub struct Program {
    child: Child,
    /// Its output.
    lines: mpsc::Receiver<String>,
    /// Microseconds from its first step to being ready.
    pub took: f64,
    /// When it was ready.
    pub ready: u64,
    /// Its first line.
    pub report: Value,
}

/// The results of a program.
pub struct Observations {
    /// All values.
    pub values: Value,
}

impl Observations {
    /// Returns the delay of each change in microseconds, sorted.
    pub fn latencies(&self) -> Vec<f64> {
        self.last(usize::MAX)
    }

    /// Returns the delays of the last `count` changes, sorted.
    pub fn last(&self, count: usize) -> Vec<f64> {
        let all = self.all("latencies");
        let mut last = all[all.len().saturating_sub(count)..].to_vec();
        last.sort_by(f64::total_cmp);
        last
    }

    /// Returns when the last instance went offline.
    pub fn down(&self) -> Option<u64> {
        self.all("downs").last().map(|at| *at as u64)
    }

    fn all(&self, name: &str) -> Vec<f64> {
        let listed = self.values[name].as_array().into_iter().flatten();
        listed.filter_map(Value::as_f64).collect()
    }
}

impl Program {
    /// Starts a program and waits until it is ready.
    pub fn start(command: &mut Command) -> Result<Program, String> {
        let mut program = Program::new(command.stdin(Stdio::piped()))?;
        let report = program
            .line()
            .map_err(|why| format!("{command:?}: {why}"))?;
        let number = |name: &str| report[name].as_u64().unwrap_or(0);
        program.ready = number("ready");
        program.took = (program.ready - number("started")) as f64;
        program.report = report;
        Ok(program)
    }

    /// Runs a program that prints one line, and returns it.
    pub fn ask(command: &mut Command) -> Result<Value, String> {
        Program::new(command.stdin(Stdio::null()))?.line()
    }

    fn new(command: &mut Command) -> Result<Program, String> {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Ok(Program {
            child,
            lines,
            took: 0.0,
            ready: 0,
            report: Value::Null,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Requests the results; the program ends.
    pub fn finish(mut self) -> Result<Observations, String> {
        if let Some(mut input) = self.child.stdin.take() {
            // A program that has exited is reported below.
            let _ = input.write_all(b"\n");
        }
        let values = self.line()?;
        let _ = self.child.wait();
        Ok(Observations { values })
    }

    fn line(&mut self) -> Result<Value, String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| format!("not JSON: {line:?}")),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("no output for {DEADLINE:?}")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let ended = self.child.wait().map_err(|error| error.to_string())?;
                Err(format!("it ended with nothing report: {ended}"))
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a quantile of sorted values.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
