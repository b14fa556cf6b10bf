//! A program under measure, running.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// Who says nothing for so long says nothing any more: the slowest peer takes a tenth of it.
const LONGEST: Duration = Duration::from_secs(120);

/// Killed when dropped.
pub struct Program {
    child: Child,
    /// What it says.
    lines: mpsc::Receiver<String>,
    /// Microseconds from its first step to being ready.
    pub took: f64,
    /// When it was ready.
    pub ready: u64,
    /// All that it said then.
    pub said: Value,
}

/// What a program saw.
pub struct Seen {
    /// All of it.
    pub values: Value,
}

impl Seen {
    /// How late each change came, in microseconds, the least first.
    pub fn latencies(&self) -> Vec<f64> {
        self.last(usize::MAX)
    }

    /// The same of so many that came last.
    pub fn last(&self, count: usize) -> Vec<f64> {
        let all = self.all("latencies");
        let mut last = all[all.len().saturating_sub(count)..].to_vec();
        last.sort_by(f64::total_cmp);
        last
    }

    /// When the last instance went.
    pub fn down(&self) -> Option<u64> {
        self.all("downs").last().map(|at| *at as u64)
    }

    fn all(&self, name: &str) -> Vec<f64> {
        let listed = self.values[name].as_array().into_iter().flatten();
        listed.filter_map(Value::as_f64).collect()
    }
}

impl Program {
    /// Starts one, and waits until it is ready.
    pub fn start(command: &mut Command) -> Result<Program, String> {
        let mut program = Program::new(command.stdin(Stdio::piped()))?;
        let said = program
            .line()
            .map_err(|why| format!("{command:?}: {why}"))?;
        let number = |name: &str| said[name].as_u64().unwrap_or(0);
        program.ready = number("ready");
        program.took = (program.ready - number("started")) as f64;
        program.said = said;
        Ok(program)
    }

    /// Starts one that tells only once, and gives that.
    pub fn ask(command: &mut Command) -> Result<Value, String> {
        Program::new(command.stdin(Stdio::null()))?.line()
    }

    fn new(command: &mut Command) -> Result<Program, String> {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines
                .map_while(Result::ok)
                .try_for_each(|line| tell.send(line))
        });
        Ok(Program {
            child,
            lines,
            took: 0.0,
            ready: 0,
            said: Value::Null,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for what it saw; it ends then.
    pub fn finish(mut self) -> Result<Seen, String> {
        if let Some(mut input) = self.child.stdin.take() {
            // One that has ended meanwhile says how below.
            let _ = input.write_all(b"\n");
        }
        let values = self.line()?;
        let _ = self.child.wait();
        Ok(Seen { values })
    }

    fn line(&mut self) -> Result<Value, String> {
        match self.lines.recv_timeout(LONGEST) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| format!("it said {line:?}")),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("it said nothing for {LONGEST:?}")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let ended = self.child.wait().map_err(|error| error.to_string())?;
                Err(format!("it ended with nothing said: {ended}"))
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

/// The value below which this part of the sorted ones lie.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
