//! What etcd's answers say, in our words.

use etcd_client::{Event, EventType, KeyValue};

use crate::store::etcd3::Config;
use crate::tree::{Change, Key, Node, Scope};

impl Config {
    /// Our key as etcd has it.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The key or prefix of a scope as etcd has it, and whether it is a prefix.
    pub(super) fn range(&self, scope: &Scope) -> (Vec<u8>, bool) {
        match scope {
            Scope::Under(prefix) => (self.path(prefix.as_str()).into_bytes(), true),
            Scope::Only(key) => (self.path(key.as_str()).into_bytes(), false),
        }
    }

    pub(super) fn node(&self, kv: &KeyValue) -> Option<Node> {
        Some(Node {
            key: self.key(kv.key())?,
            value: kv.value().into(),
            created: kv.create_revision() as u64,
            modified: kv.mod_revision() as u64,
            owner: kv.lease() as u64,
        })
    }

    /// A change with its revision.
    pub(super) fn change(&self, event: &Event) -> Option<(u64, Change)> {
        let kv = event.kv()?;
        let change = match event.event_type() {
            EventType::Put => Change::Put(self.node(kv)?),
            EventType::Delete => Change::Delete(self.key(kv.key())?),
        };
        Some((kv.mod_revision() as u64, change))
    }

    /// The key below our root. One that is no path cannot be ours.
    pub(super) fn key(&self, key: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(key).ok();
        let ours = path
            .and_then(|p| p.strip_prefix(&self.root))
            .and_then(|p| Key::new(p).ok());
        if ours.is_none() {
            let shown = String::from_utf8_lossy(&key[..key.len().min(200)]);
            self.complaint
                .warn(|| format!("skipping the key {shown:?}: not a path"));
        }
        ours
    }
}
