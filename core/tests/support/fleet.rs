//! A folder of etcd in which other systems are at home, etcdctl being one of them.

use discover_core::{Client, Registration};

use super::etcd::{Etcd, shared};

/// A folder of etcd for one test, and what is in it.
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

    /// The value of a key, as etcdctl prints it.
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
    let made = Registration::at(service, address).unwrap();
    made.attributes(attributes.iter().copied()).unwrap()
}
