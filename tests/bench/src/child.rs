//! A program under measure, running.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// Killed when dropped.
pub struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Microseconds from its first step to being ready.
    pub took: f64,
    /// When it was ready.
    pub ready: u64,
    /// Microseconds to load the library, where that is told.
    pub load: f64,
}

/// What a program saw.
pub struct Seen {
    /// How late each change came, in microseconds, the least first.
    pub latencies: Vec<f64>,
    /// When the last instance went.
    pub down: Option<u64>,
    /// All of it.
    pub values: Value,
}

impl Program {
    /// Starts one, and waits until it is ready.
    pub fn start(command: &mut Command) -> Result<Program, String> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut program = Program::new(child)?;
        let ready = program
            .line()
            .map_err(|why| format!("{command:?}: {why}"))?;
        let number = |name: &str| ready[name].as_u64().unwrap_or(0);
        program.ready = number("ready");
        program.took = (program.ready - number("started")) as f64;
        program.load = number("load") as f64;
        Ok(program)
    }

    /// Starts one that tells only once, and gives that.
    pub fn ask(command: &mut Command) -> Result<Value, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Program::new(child)?.line()
    }

    fn new(mut child: Child) -> Result<Program, String> {
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Program {
            child,
            output: BufReader::new(output),
            took: 0.0,
            ready: 0,
            load: 0.0,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for what it saw; it ends then.
    pub fn finish(mut self) -> Result<Seen, String> {
        if let Some(mut input) = self.child.stdin.take() {
            input.write_all(b"\n").map_err(|e| e.to_string())?;
        }
        let values = self.line()?;
        let all = |name: &str| {
            let listed = values[name].as_array().cloned().unwrap_or_default();
            listed
                .iter()
                .filter_map(Value::as_f64)
                .collect::<Vec<f64>>()
        };
        let mut latencies = all("latencies");
        latencies.sort_by(f64::total_cmp);
        let down = all("downs").last().map(|at| *at as u64);
        let _ = self.child.wait();
        Ok(Seen {
            latencies,
            down,
            values,
        })
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        serde_json::from_str(&line).map_err(|_| format!("it said {line:?}"))
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
