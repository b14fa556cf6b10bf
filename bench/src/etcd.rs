//! A private etcd for one measurement, with its data in memory where possible.

use etcd_client::{Client, Txn, TxnOp};
use serde_json::json;

use crate::protocol::instance_host;

/// The maximum size of the database: 100,000 instances and their history fit.
const QUOTA_BYTES: u64 = 4 << 30;

/// An etcd server, killed when dropped.
pub struct Etcd(discover_testkit::etcd::Etcd);

impl Etcd {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Result<Etcd, String> {
        let options = discover_testkit::etcd::EtcdOptions::default()
            .in_memory()
            .quota_bytes(QUOTA_BYTES);
        let started = tokio::task::block_in_place(|| options.start());
        started
            .map(Etcd)
            .ok_or_else(|| "etcd is not installed".to_owned())
    }

    /// Its client port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The URL for the programs.
    pub fn url(&self) -> String {
        url(self.port())
    }

    /// Returns a plain client.
    pub async fn client(&self) -> Result<Client, String> {
        Client::connect([format!("127.0.0.1:{}", self.port())], None)
            .await
            .map_err(|e| e.to_string())
    }

    /// Returns the number of open watch streams from the metrics of etcd.
    pub fn watch_streams(&self) -> Result<f64, String> {
        let text = self.0.http("GET /metrics");
        let name = "etcd_debugging_mvcc_watch_stream_total ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| format!("etcd has no metric {name}"))
    }

    /// Returns its current revision.
    pub async fn revision(&self) -> Result<i64, String> {
        let answer = self.client().await?.get("/", None).await;
        let answer = answer.map_err(|e| e.to_string())?;
        Ok(answer.header().map_or(0, |header| header.revision()))
    }

    /// Writes this many instances of the service `bench-0`, without a lease.
    pub async fn fill(&self, instances: u64) -> Result<(), String> {
        let mut client = self.client().await?;
        let numbers: Vec<u64> = (0..instances).collect();
        for some in numbers.chunks(128) {
            let put = |number: &u64| {
                let key = format!("/discover/services/bench-0/{}:1000", instance_host(*number));
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

/// Returns the URL of an etcd on this host.
pub fn url(port: u16) -> String {
    format!("etcd://127.0.0.1:{port}/?ttl=15s&connect_timeout=30s")
}
