//! A real agent (`discoverd`) on a socket and, on request, a TCP address of its own, killed when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process::{dies_with_parent, spawn};
use crate::{DEADLINE, eventually, skip};

/// A running agent.
pub struct Agent {
    options: AgentOptions,
    directory: tempfile::TempDir,
    /// Where it listens over TCP, once started.
    address: Option<String>,
    child: Option<Child>,
}

/// Start options of an [`Agent`].
#[derive(Clone, Default)]
pub struct AgentOptions {
    program: PathBuf,
    bind: Option<String>,
    config: Option<String>,
    arguments: Vec<String>,
}

/// Returns the agent that was built beside the test programs, or `None` and reports a skipped test.
pub fn built_program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let built = test.parent()?.parent()?.join("discoverd");
    if built.exists() {
        return Some(built);
    }
    skip("agent", "it is not built; cargo build -p discoverd");
    None
}

impl AgentOptions {
    /// An agent of this program that listens on its socket only.
    pub fn new(program: impl Into<PathBuf>) -> AgentOptions {
        AgentOptions {
            program: program.into(),
            ..AgentOptions::default()
        }
    }

    /// Listens on this TCP address as well; port 0 is a free port.
    #[must_use]
    pub fn bind(mut self, address: &str) -> AgentOptions {
        self.bind = Some(address.to_owned());
        self
    }

    /// Runs in front of a store.
    #[must_use]
    pub fn store(mut self, url: &str) -> AgentOptions {
        self.arguments
            .extend(["--store".to_owned(), url.to_owned()]);
        self
    }

    /// Reads this text as its configuration file.
    #[must_use]
    pub fn config(mut self, text: &str) -> AgentOptions {
        self.config = Some(text.to_owned());
        self
    }

    /// Adds command-line arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> AgentOptions {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Starts the agent and waits until it listens.
    pub fn start(self) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        if let Some(config) = &self.config {
            std::fs::write(directory.path().join("config.toml"), config).unwrap();
        }
        let mut agent = Agent {
            address: self.bind.clone(),
            options: self,
            directory,
            child: None,
        };
        agent.restart();
        agent
    }
}

impl Agent {
    /// The URL of its socket.
    pub fn socket_url(&self) -> String {
        format!(
            "discoverd+unix://{}/socket",
            self.directory.path().display()
        )
    }

    /// The URL of its TCP address.
    pub fn url(&self) -> String {
        format!("discoverd://{}", self.address())
    }

    /// Its TCP address.
    pub fn address(&self) -> &str {
        self.address.as_deref().expect("an agent with bind()")
    }

    /// Its private directory, with `socket`, `config.toml` and `log`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Kills it (SIGKILL) if it runs, starts it at the same addresses, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.directory.path().join("log"));
        let mut command = dies_with_parent(&self.options.program);
        command
            .args([
                "run",
                "--bind",
                self.address.as_deref().unwrap_or("none"),
                "--socket",
            ])
            .arg(self.directory.path().join("socket"))
            .args(&self.options.arguments)
            .env("EXTERNAL_IP", "127.0.0.1")
            .stdout(Stdio::piped())
            .stderr(log.unwrap());
        if self.options.config.is_some() {
            let config = self.directory.path().join("config.toml");
            command.arg("--config").arg(config);
        }
        let mut child = spawn(command);
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert!(
            line.starts_with("listening on "),
            "{line:?}: {}",
            self.log()
        );
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("discoverd://"));
        if let Some(address) = address {
            self.address = Some(address.to_owned());
        }
        self.child = Some(child);
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Replaces its configuration file and reloads it (SIGHUP).
    pub fn reload(&self, config: &str) {
        std::fs::write(self.directory.path().join("config.toml"), config).unwrap();
        self.signal("HUP");
    }

    /// Waits until it has exited.
    pub fn wait_for_exit(&mut self) {
        let mut child = self.child.take().expect("it runs");
        eventually("the agent exits", || child.try_wait().unwrap());
    }

    /// Runs a command of the same program against its TCP address and returns the output.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.options.program)
            .args(arguments)
            .args(["--url", &self.url()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}{errors}");
        text
    }

    /// Sends an HTTP request over TCP and returns the status and the JSON of the response.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, method, path, body)
    }

    /// Sends an HTTP request over the Unix socket, as another client than those that use TCP.
    pub fn socket_request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let stream = UnixStream::connect(self.directory().join("socket")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, method, path, body)
    }
}

/// Sends a request and returns the status and the JSON of the response.
fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, text) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(text).unwrap_or_default())
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
