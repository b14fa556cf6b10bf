//! A real agent for a test, and how it is asked.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One agent on a free port and a socket. Killed when dropped.
pub struct Agent {
    child: Child,
    address: String,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Agent {
    /// With these arguments, besides those that keep it away from other agents.
    pub fn start(arguments: &[&str]) -> Agent {
        Agent::with_config("", arguments)
    }

    /// With a configuration file.
    pub fn with_config(config: &str, arguments: &[&str]) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let (child, address) = run(directory.path(), "127.0.0.1:0", &arguments);
        Agent {
            child,
            address,
            directory,
            arguments,
        }
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        (self.child, _) = run(self.directory.path(), &self.address, &self.arguments);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where programs reach it.
    pub fn url(&self) -> String {
        format!("discoverd://{}", self.address)
    }

    /// A folder of its own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Writes the configuration anew, and has it read.
    pub fn reload(&self, config: &str) {
        std::fs::write(self.directory.path().join("config.toml"), config).unwrap();
        self.signal("HUP");
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) {
        eventually("the agent ends", || {
            self.child.try_wait().unwrap().map(drop)
        });
    }

    /// Runs a command of the same program.
    pub fn command(&self, arguments: &[&str]) -> String {
        let ran = Command::new(env!("CARGO_BIN_EXE_discoverd"))
            .args(arguments)
            .args(["--url", &self.url()])
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success(),
            "{arguments:?}: {said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        said
    }

    /// Asks, and gives the status and the answer.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(text).unwrap_or_default())
    }

    /// Registers with a check.
    pub fn register(&self, service: &str, id: &str, body: &Value) -> Value {
        let path = format!("/v1/services/{service}/instances/{id}");
        let (status, answer) = self.ask("PUT", &path, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The ids of a service that others see, each with `!` where it warns.
    pub fn seen(&self, service: &str) -> Vec<String> {
        let (status, answer) = self.ask("GET", &format!("/v1/services/{service}"), &Value::Null);
        assert_eq!(status, 200, "{answer}");
        let all = answer["instances"].as_array().unwrap();
        let id = |one: &Value| {
            let mark = if one["attributes"]["health"] == "warning" {
                "!"
            } else {
                ""
            };
            format!("{}{mark}", one["id"].as_str().unwrap())
        };
        all.iter().map(id).collect()
    }

    /// What the agent says of its own registration: state and note.
    pub fn state(&self, id: &str) -> (String, String) {
        let (_, answer) = self.ask("GET", "/v1/registrations", &Value::Null);
        let all = answer["registrations"].as_array().unwrap();
        let one = all.iter().find(|one| one["id"] == id);
        let text = |name: &str| {
            one.map_or("gone", |one| one[name].as_str().unwrap())
                .to_owned()
        };
        (text("state"), text("note"))
    }

    /// Waits until an instance is in this state, and gives what was said of it.
    pub fn until(&self, id: &str, state: &str) -> String {
        eventually(&format!("{id} is {state}"), || {
            let (now, note) = self.state(id);
            (now == state).then_some(note)
        })
    }

    /// Waits until others see just these.
    pub fn until_seen(&self, service: &str, ids: &[&str]) {
        eventually(&format!("{ids:?} of {service} are seen"), || {
            (self.seen(service) == ids).then_some(())
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it, and waits until it says where it listens.
fn run(directory: &Path, bind: &str, arguments: &[String]) -> (Child, String) {
    let log = directory.join("log");
    let appended = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log);
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            env!("CARGO_BIN_EXE_discoverd"),
            "run",
        ])
        .args(["--bind", bind, "--check-interval", "10ms", "--config"])
        .arg(directory.join("config.toml"))
        .arg("--socket")
        .arg(directory.join("socket"))
        .args(arguments)
        .env("EXTERNAL_IP", "127.0.0.1")
        .stdout(Stdio::piped())
        .stderr(appended.unwrap());
    if !arguments.iter().any(|a| a == "--state") {
        command.args(["--state", "none"]);
    }
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let address = words.find_map(|word| word.strip_prefix("discoverd://"));
    let why = || std::fs::read_to_string(&log).unwrap_or_default();
    let address = address.unwrap_or_else(|| panic!("{line:?}: {}", why()));
    (child, address.to_owned())
}

/// Waits for what must happen.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20)); // tidy: sleep, between two looks
    }
}

/// The lines of a file, once there are any.
pub fn lines(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
