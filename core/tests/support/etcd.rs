//! A real etcd, started for the tests and ended with them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::PATIENCE;

/// One etcd of a single member. Killed when dropped.
pub struct Etcd {
    name: String,
    client_port: u16,
    peer_port: u16,
    data: tempfile::TempDir,
    tls: Option<Tls>,
    /// Whether it speaks the v2 API too.
    v2: bool,
    child: Option<Child>,
}

/// Files in PEM; the server asks its clients for a certificate of the same authority.
#[derive(Clone)]
pub struct Tls {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

/// The one that all tests of a program share, each under a prefix of its own.
pub fn shared() -> Option<&'static Etcd> {
    static SHARED: OnceLock<Option<Etcd>> = OnceLock::new();
    SHARED.get_or_init(Etcd::start).as_ref()
}

/// The same of those that use the v2 API.
pub fn shared_v2() -> Option<&'static Etcd> {
    static SHARED: OnceLock<Option<Etcd>> = OnceLock::new();
    SHARED.get_or_init(Etcd::start_v2).as_ref()
}

impl Etcd {
    /// Starts one on free ports, or says loudly that there is none to start.
    pub fn start() -> Option<Etcd> {
        Etcd::start_with(None, false)
    }

    /// One that speaks the v2 API too.
    pub fn start_v2() -> Option<Etcd> {
        Etcd::start_with(None, true)
    }

    pub fn start_with(tls: Option<Tls>, v2: bool) -> Option<Etcd> {
        if Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            let required = std::env::var("DISCOVER_REQUIRE_SERVERS").unwrap_or_default();
            assert!(
                !required.contains("etcd"),
                "etcd is required and not installed"
            );
            // Past the capture of the test runner, so that the skip is counted.
            let skipped = b"SKIPPED: etcd: it is not installed\n";
            std::io::stdout().write_all(skipped).unwrap();
            return None;
        }
        let mut etcd = Etcd {
            name: format!("test-{:016x}", fastrand::u64(..)),
            client_port: free_port(),
            peer_port: free_port(),
            data: tempfile::tempdir().unwrap(),
            tls,
            v2,
            child: None,
        };
        etcd.restart();
        Some(etcd)
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Starts it again on its old data.
    pub fn restart(&mut self) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("setpriv");
        command
            // Ended by the kernel with the thread that starts it, if all else fails.
            .args([
                "--pdeathsig",
                "KILL",
                "etcd",
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ])
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.data.path())
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("{}={peer}", self.name)])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.v2 {
            command.arg("--enable-v2");
        }
        if let Some(Tls { ca, cert, key }) = &self.tls {
            command.args(["--client-cert-auth", "--trusted-ca-file", ca]);
            command.args(["--cert-file", cert, "--key-file", key]);
        }
        let mut child = spawn(command);
        let deadline = std::time::SystemTime::now() + PATIENCE;
        while !self.answers() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "etcd ended at once: {ended:?}");
            assert!(
                std::time::SystemTime::now() < deadline,
                "etcd does not answer"
            );
        }
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the process where it stands, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let Some(child) = &self.child else { return };
        let signal = if paused { "-STOP" } else { "-CONT" };
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        // Its threads stop one after the other.
        while paused && !is_stopped(&pid) {
            std::thread::yield_now();
        }
    }

    /// What it answers to a request over HTTP, with its head.
    pub fn http(&self, request: &str) -> String {
        self.raw(&format!("{request} HTTP/1.0\r\n\r\n"))
    }

    /// What it answers to these very bytes.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.endpoint()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A number of etcd's own metrics.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.http("GET /metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
            .unwrap_or(0.0) as u64
    }

    /// Will listen for clients on another port, while it is not running; gives the one before.
    pub fn listen_elsewhere(&mut self, port: Option<u16>) -> u16 {
        assert!(self.child.is_none(), "kill it first");
        std::mem::replace(&mut self.client_port, port.unwrap_or_else(free_port))
    }

    /// Forgets all data, while it is not running.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        self.data = tempfile::tempdir().unwrap();
    }

    /// What etcdctl says to these arguments.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()]);
        if let Some(Tls { ca, cert, key }) = &self.tls {
            command.args(["--cacert", ca, "--cert", cert, "--key", key]);
        }
        let output = command.args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What etcdctl says to these arguments when it speaks v2.
    pub fn ctl2(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "2")
            .args(["--endpoints", &format!("http://{}", self.endpoint())])
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// The keys that still hang on any lease. A lease without keys is nothing: it runs out by itself.
    pub fn leased_keys(&self) -> Vec<String> {
        let listed = self.ctl(&["lease", "list"]);
        let ids = listed.lines().filter(|line| !line.starts_with("found"));
        ids.flat_map(|id| {
            let about = self.ctl(&["lease", "timetolive", id, "--keys"]);
            let keys = about
                .split_once("attached keys([")
                .map_or("", |(_, keys)| keys);
            let keys = keys.split(']').next().unwrap_or_default();
            keys.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// Whether the one that answers is the one that was started.
    fn answers(&self) -> bool {
        self.ctl(&["member", "list"]).contains(&self.name)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Starts a child from a thread that lives as long as the program: the parent whose death ends the
/// child is that thread, and a test's own thread is gone after the test.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<Child>);
    static NURSE: OnceLock<Sender<Order>> = OnceLock::new();
    let nurse = NURSE.get_or_init(|| {
        let (orders, inbox): (Sender<Order>, Receiver<Order>) = channel();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                reply.send(command.spawn().unwrap()).unwrap();
            }
        });
        orders
    });
    let (reply, child) = channel();
    nurse.send((command, reply)).unwrap();
    child.recv().unwrap()
}

fn is_stopped(pid: &str) -> bool {
    let states = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    states.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next();
        state.is_none_or(|state| state.starts_with('T'))
    })
}
