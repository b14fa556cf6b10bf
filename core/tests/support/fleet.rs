//! A directory of etcd that is shared with other programs, which etcdctl stands for.

use discover_core::{Client, Registration};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tokio::task::block_in_place;

use super::TestRegistry;
use super::etcd::{Etcd, shared, shared_v2};

/// A directory of etcd for one test, with access to its keys.
pub struct Fleet {
    pub etcd: &'static Etcd,
    pub root: String,
}

impl Fleet {
    pub fn new() -> Option<Fleet> {
        let root = format!("/{:016x}", fastrand::u64(..));
        Some(Fleet {
            etcd: shared()?,
            root,
        })
    }

    pub async fn client(&self, layout: &str) -> Client {
        let (endpoint, root) = (self.etcd.endpoint(), &self.root);
        let url = format!("etcd://{endpoint}{root}?ttl=2s&layout={layout}");
        Client::connect(&url).await.unwrap()
    }

    pub fn put(&self, key: &str, value: &str) {
        self.etcd
            .ctl(&["put", &format!("{}{key}", self.root), value]);
    }

    pub fn delete(&self, key: &str) {
        self.etcd.ctl(&["del", &format!("{}{key}", self.root)]);
    }

    /// Returns the value of a key, as etcdctl prints it.
    pub fn get(&self, key: &str) -> String {
        let key = format!("{}{key}", self.root);
        let value = self.etcd.ctl(&["get", "--print-value-only", &key]);
        value.trim_end_matches('\n').to_owned()
    }

    pub fn keys(&self) -> Vec<String> {
        let all = self
            .etcd
            .ctl(&["get", "--prefix", "--keys-only", &self.root]);
        let keys = all.lines().filter_map(|key| key.strip_prefix(&self.root));
        keys.map(str::to_owned).collect()
    }
}

pub fn at(service: &str, address: &str, attributes: &[(&str, &str)]) -> Registration {
    let registration = Registration::at(service, address).unwrap();
    registration.attributes(attributes.iter().copied()).unwrap()
}

/// A shared record that is written as careful programs write it, conditional on its last revision.
#[derive(Clone)]
pub struct Record {
    key: String,
    v2: bool,
}

impl Record {
    /// Returns the record at `key` of a registry on etcd.
    pub fn new(registry: &TestRegistry, key: &str) -> Record {
        let (scheme, rest) = registry.url.split_once("://").unwrap();
        let root = rest.split(['/', '?']).nth(1).unwrap();
        Record {
            key: format!("/{root}{key}"),
            v2: scheme == "etcd2",
        }
    }

    /// Returns the members of the JSON object, and the revision of its last change.
    pub async fn get(&self) -> Option<(Map<String, Value>, u64)> {
        let (text, revision) = if self.v2 {
            let request = format!("GET /v2/keys{}?quorum=true", self.key);
            let response = block_in_place(|| shared_v2().unwrap().http(&request));
            let response: Value = serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()?;
            let node = &response["node"];
            let text = node["value"].as_str()?.to_owned();
            (text, node["modifiedIndex"].as_u64()?)
        } else {
            let mut kv = self.v3().await;
            let mut response = kv.get(self.key.clone(), None).await.ok()?;
            let kv = response.take_kvs().pop()?;
            let text = kv.value_str().ok()?.to_owned();
            (text, kv.mod_revision() as u64)
        };
        Some((serde_json::from_str(&text).unwrap(), revision))
    }

    /// Writes the record if its revision is still `seen`. Returns true if it was written.
    pub async fn put(&self, seen: Option<u64>, value: &str) -> bool {
        if self.v2 {
            let only_if = seen.map_or("prevExist=false".to_owned(), |i| format!("prevIndex={i}"));
            let body = format!("value={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            let request = format!(
                "PUT /v2/keys{}?{only_if} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                self.key,
                body.len()
            );
            let response = block_in_place(|| shared_v2().unwrap().raw(&request));
            return !response.contains("errorCode");
        }
        let unchanged = CompareOp::Equal;
        let unchanged =
            Compare::mod_revision(self.key.clone(), unchanged, seen.unwrap_or(0) as i64);
        let put = TxnOp::put(self.key.clone(), value, None);
        let txn = Txn::new().when([unchanged]).and_then([put]);
        self.v3().await.txn(txn).await.unwrap().succeeded()
    }

    /// Adds a member, and tries again while other writers are faster.
    pub async fn add_member(&self, name: String) {
        loop {
            let (mut all, seen) = self.get().await.unwrap();
            all.insert(name.clone(), Value::Null);
            let value = serde_json::to_string(&all).unwrap();
            if self.put(Some(seen), &value).await {
                return;
            }
        }
    }

    async fn v3(&self) -> etcd_client::KvClient {
        let endpoint = shared().unwrap().endpoint();
        let client = etcd_client::Client::connect([endpoint], None);
        client.await.unwrap().kv_client()
    }
}
