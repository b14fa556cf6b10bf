//! A private etcd for one measure, its data in memory where the machine has a place for that.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, Txn, TxnOp};
use serde_json::json;

use crate::told::instance;

/// Killed when dropped.
pub struct Etcd {
    child: Child,
    /// Where it listens.
    pub port: u16,
    _data: tempfile::TempDir,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub async fn start() -> Result<Etcd, String> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let data = tempfile::tempdir_in(place).map_err(|e| e.to_string())?;
        let (port, peers) = (free_port()?, free_port()?);
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "etcd",
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ])
            .args(["--quota-backend-bytes", "4294967296", "--data-dir"])
            .arg(data.path())
            .args([
                "--listen-client-urls",
                &at(port),
                "--advertise-client-urls",
                &at(port),
            ])
            .args([
                "--listen-peer-urls",
                &at(peers),
                "--initial-advertise-peer-urls",
                &at(peers),
            ])
            .args(["--initial-cluster", &format!("default={}", at(peers))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("etcd: {error}"))?;
        let etcd = Etcd {
            child,
            port,
            _data: data,
        };
        for _ in 0..500 {
            let mut client = etcd.client().await?;
            if client.status().await.is_ok() {
                return Ok(etcd);
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // tidy: sleep, polling with a bound
        }
        Err("etcd does not answer".to_owned())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a program is given to find it.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The bare client.
    pub async fn client(&self) -> Result<Client, String> {
        Client::connect([format!("127.0.0.1:{}", self.port)], None)
            .await
            .map_err(|e| e.to_string())
    }

    /// How many watch streams are open, as it counts them itself.
    pub fn watch_streams(&self) -> Result<f64, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            std::io::read_to_string(stream)
        };
        let said = ask().map_err(|e| e.to_string())?;
        let name = "etcd_debugging_mvcc_watch_stream_total ";
        let counted = said.lines().find_map(|line| line.strip_prefix(name));
        counted
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| format!("etcd has no {name}"))
    }

    /// At which revision it is.
    pub async fn revision(&self) -> Result<i64, String> {
        let answer = self.client().await?.get("/", None).await;
        let answer = answer.map_err(|e| e.to_string())?;
        Ok(answer.header().map_or(0, |header| header.revision()))
    }

    /// Writes so many instances of the service `bench-0`, that stay.
    pub async fn fill(&self, instances: u64) -> Result<(), String> {
        let mut client = self.client().await?;
        let numbers: Vec<u64> = (0..instances).collect();
        for some in numbers.chunks(128) {
            let put = |number: &u64| {
                let key = format!("/discover/services/bench-0/{}:1000", instance(*number));
                let value = json!({"zone": "eu-central-1", "version": "1.4.2", "weight": "10",
                                   "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8"});
                TxnOp::put(key, value.to_string(), None)
            };
            let txn = Txn::new().and_then(some.iter().map(put).collect::<Vec<_>>());
            client.txn(txn).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The URL of an etcd on this machine.
pub fn url(port: u16) -> String {
    format!("etcd://127.0.0.1:{port}/?ttl=15s&connect_timeout=30s")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|e| e.to_string())
}
