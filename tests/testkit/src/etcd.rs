//! A real etcd with one member on the loopback interface, killed when it is dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::process::{dies_with_parent, free_port, freeze, spawn, thaw};
use crate::{DEADLINE, skip};

/// How often a server is started on new ports before the test fails.
const MAX_START_ATTEMPTS: usize = 5;

/// The environment variables that name running servers, which `with-servers` starts for all test programs.
pub const SHARED_V3: &str = "DISCOVER_TEST_ETCD";
/// As [`SHARED_V3`], with the v2 API.
pub const SHARED_V2: &str = "DISCOVER_TEST_ETCD2";

/// An etcd server.
pub struct Etcd {
    options: EtcdOptions,
    name: String,
    client_port: u16,
    peer_port: u16,
    /// None if the server belongs to another process.
    data: Option<tempfile::TempDir>,
    child: Option<Child>,
}

/// Start options of an [`Etcd`].
#[derive(Clone, Default)]
pub struct EtcdOptions {
    tls: Option<Tls>,
    server_identity: Option<(String, String)>,
    client_certificates_optional: bool,
    v2: bool,
    in_memory: bool,
    quota_bytes: Option<u64>,
    jwt_ttl: Option<Duration>,
}

/// PEM files of a server that requires client certificates of the same authority.
#[derive(Clone)]
pub struct Tls {
    /// The certificate authority.
    pub ca: String,
    /// The server's certificate, also used by the client of the tests.
    pub cert: String,
    /// The key of `cert`.
    pub key: String,
}

impl EtcdOptions {
    /// Serves the v2 API as well.
    #[must_use]
    pub fn v2(mut self) -> EtcdOptions {
        self.v2 = true;
        self
    }

    /// Serves TLS and requires client certificates.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> EtcdOptions {
        self.tls = Some(tls);
        self
    }

    /// Uses another certificate and key for the server than for the client of the tests, which does not verify it.
    #[must_use]
    pub fn server_identity(mut self, cert: &str, key: &str) -> EtcdOptions {
        self.server_identity = Some((cert.to_owned(), key.to_owned()));
        self
    }

    /// Does not require client certificates.
    #[must_use]
    pub fn client_certificates_optional(mut self) -> EtcdOptions {
        self.client_certificates_optional = true;
        self
    }

    /// Stores its data in memory (`/dev/shm`), where that exists.
    #[must_use]
    pub fn in_memory(mut self) -> EtcdOptions {
        self.in_memory = true;
        self
    }

    /// Sets the maximum size of the database.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> EtcdOptions {
        self.quota_bytes = Some(bytes);
        self
    }

    /// Issues JWT tokens that expire after `ttl` (whole seconds), and with every change of users or permissions.
    #[must_use]
    pub fn jwt_ttl(mut self, ttl: Duration) -> EtcdOptions {
        self.jwt_ttl = Some(ttl);
        self
    }

    /// Starts the server and waits until it answers. Returns `None` and reports a skipped test if etcd is not
    /// installed.
    pub fn start(self) -> Option<Etcd> {
        if !is_installed() {
            skip("etcd", "it is not installed");
            return None;
        }
        // A port that was free may be taken by another test before etcd binds it.
        for _ in 0..MAX_START_ATTEMPTS {
            let mut etcd = Etcd {
                name: format!("test-{:016x}", fastrand::u64(..)),
                client_port: free_port(),
                peer_port: free_port(),
                data: Some(self.data_directory()),
                options: self.clone(),
                child: None,
            };
            if etcd.try_restart().is_ok() {
                return Some(etcd);
            }
        }
        panic!("etcd exited at each of {MAX_START_ATTEMPTS} attempts to start it");
    }

    fn data_directory(&self) -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        let parent = match self.in_memory && memory.is_dir() {
            true => memory.to_path_buf(),
            false => std::env::temp_dir(),
        };
        remove_abandoned_data(&parent);
        let prefix = format!("{DATA_PREFIX}{}-", std::process::id());
        tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(parent)
            .unwrap()
    }
}

/// Prefix of the data directories; the number of the process that created it follows.
const DATA_PREFIX: &str = "discover-etcd-";

/// Removes the data of processes that have ended without removing it: a killed test, and each test that used a server
/// of its own as the shared one. Each takes 120 MB.
fn remove_abandoned_data(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let (owner, _) = name.strip_prefix(DATA_PREFIX)?.split_once('-')?;
            owner.parse::<u32>().ok()
        });
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another test may remove it at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the server that all tests share, each under a key prefix of its own.
pub fn shared() -> Option<&'static Etcd> {
    static SHARED: OnceLock<Option<Etcd>> = OnceLock::new();
    let start = || Etcd::running(SHARED_V3).or_else(Etcd::start);
    SHARED.get_or_init(start).as_ref()
}

/// Returns the server that all tests of the v2 API share.
pub fn shared_v2() -> Option<&'static Etcd> {
    static SHARED: OnceLock<Option<Etcd>> = OnceLock::new();
    let start = || Etcd::running(SHARED_V2).or_else(Etcd::start_v2);
    SHARED.get_or_init(start).as_ref()
}

impl Etcd {
    /// Starts a server with the default options.
    pub fn start() -> Option<Etcd> {
        EtcdOptions::default().start()
    }

    /// Starts a server that serves the v2 API as well.
    pub fn start_v2() -> Option<Etcd> {
        EtcdOptions::default().v2().start()
    }

    /// A server of another process, if the environment names one.
    fn running(variable: &str) -> Option<Etcd> {
        let endpoint = std::env::var(variable).ok()?;
        let port = endpoint.rsplit(':').next()?.parse();
        Some(Etcd {
            options: EtcdOptions::default(),
            name: String::new(),
            client_port: port.unwrap_or_else(|_| panic!("{variable}={endpoint}: no port")),
            peer_port: 0,
            data: None,
            child: None,
        })
    }

    /// The client endpoint, `127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The client port.
    pub fn port(&self) -> u16 {
        self.client_port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Starts the server on its existing data and waits until it answers.
    pub fn restart(&mut self) {
        if let Err(status) = self.try_restart() {
            panic!("etcd exited: {status}");
        }
    }

    /// As `restart`; returns the exit status if the server exits.
    fn try_restart(&mut self) -> Result<(), ExitStatus> {
        let mut child = spawn(self.command());
        let deadline = SystemTime::now() + DEADLINE;
        while !self.answers() {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(SystemTime::now() < deadline, "etcd does not answer");
        }
        self.child = Some(child);
        Ok(())
    }

    fn command(&self) -> Command {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let client = format!("{scheme}://{}", self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let data = self.data.as_ref().expect("a server of this process");
        let mut command = dies_with_parent("etcd");
        command
            .args([
                "--unsafe-no-fsync",
                "--log-level",
                "error",
                "--name",
                &self.name,
                "--data-dir",
            ])
            .arg(data.path())
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
        if self.options.v2 {
            command.arg("--enable-v2");
        }
        if let Some(ttl) = self.options.jwt_ttl {
            let secret = data.path().join("jwt-secret");
            std::fs::write(&secret, "a secret of the test").unwrap();
            let (secret, ttl) = (secret.display(), ttl.as_secs());
            let provider = format!("jwt,sign-method=HS256,priv-key={secret},ttl={ttl}s");
            command.args(["--auth-token", &provider]);
        }
        if let Some(bytes) = self.options.quota_bytes {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        if let Some(Tls { ca, cert, key }) = &self.options.tls {
            if !self.options.client_certificates_optional {
                command.args(["--client-cert-auth", "--trusted-ca-file", ca]);
            }
            let own = self.options.server_identity.as_ref();
            let (cert, key) = own.map_or((cert, key), |(cert, key)| (cert, key));
            command.args(["--cert-file", cert, "--key-file", key]);
        }
        command
    }

    /// Kills the server (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Freezes the process, or continues it.
    pub fn pause(&self, paused: bool) {
        match paused {
            true => freeze(self.pid()),
            false => thaw(self.pid()),
        }
    }

    /// Moves the stopped server to another client port, by default a free one, and returns the previous one.
    pub fn listen_elsewhere(&mut self, port: Option<u16>) -> u16 {
        assert!(self.child.is_none(), "kill it first");
        std::mem::replace(&mut self.client_port, port.unwrap_or_else(free_port))
    }

    /// Deletes all data of the stopped server.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        self.data = Some(self.options.data_directory());
    }

    /// Sends an HTTP request line such as `GET /metrics`, and returns the response with its head.
    pub fn http(&self, request: &str) -> String {
        self.raw(&format!("{request} HTTP/1.0\r\n\r\n"))
    }

    /// Sends these bytes, and returns everything that the server sends until it closes the connection.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.endpoint()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Returns a value of etcd's own metrics, 0 if it does not exist.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.http("GET /metrics");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or(0.0) as u64
    }

    /// Runs etcdctl with the v3 API and returns its output.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()]);
        if let Some(Tls { ca, cert, key }) = &self.options.tls {
            command.args(["--cacert", ca, "--cert", cert, "--key", key]);
            if self.options.server_identity.is_some() {
                command.arg("--insecure-skip-tls-verify");
            }
        }
        let output = command.args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Creates the user `root` with the password `secret`, and enables authentication.
    pub fn enable_authentication(&self) {
        self.ctl(&["user", "add", "root:secret"]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        assert!(self.ctl(&["auth", "enable"]).contains("Enabled"));
    }

    /// Runs etcdctl with the v3 API as `root`; see [`Etcd::enable_authentication`].
    pub fn ctl_as_root(&self, arguments: &[&str]) -> String {
        self.ctl(&[&["--user=root:secret"], arguments].concat())
    }

    /// Runs etcdctl with the v2 API and returns its output and errors.
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

    /// Returns the keys that are attached to any lease. A lease without keys expires by itself.
    pub fn leased_keys(&self) -> Vec<String> {
        let listed = self.ctl(&["lease", "list"]);
        let ids = listed.lines().filter(|line| !line.starts_with("found"));
        let attached = |id: &str| {
            let text = self.ctl(&["lease", "timetolive", id, "--keys"]);
            let keys = text
                .split_once("attached keys([")
                .map_or("", |(_, keys)| keys);
            let keys = keys.split(']').next().unwrap_or_default();
            keys.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        ids.flat_map(attached).collect()
    }

    /// Returns true if the server that answers on the port is this one.
    fn answers(&self) -> bool {
        self.ctl(&["member", "list"]).contains(&self.name)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_installed() -> bool {
    let version = Command::new("etcd")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok()
}
