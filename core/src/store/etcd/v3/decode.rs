//! What etcd's answers say, in our words.

use std::sync::Arc;

use etcd_client::{Event, EventType, KeyValue};

use crate::kv::{Change, Node, Scope};
use crate::store::etcd::config::EtcdConfig;

impl EtcdConfig {
    /// The key or prefix of a scope as etcd has it, and whether it is a prefix.
    pub(super) fn range(&self, scope: &Scope) -> (Vec<u8>, bool) {
        match scope {
            Scope::Under(prefix) => (self.path(prefix.as_str()).into_bytes(), true),
            Scope::Only(key) => (self.path(key.as_str()).into_bytes(), false),
        }
    }

    pub(super) fn node(&self, kv: &KeyValue) -> Option<Node> {
        self.node_of(kv, kv.value().into())
    }

    /// All of a list. What neighbours say alike is held once: those of one service often do.
    pub(super) fn nodes(&self, kvs: Vec<KeyValue>) -> Vec<Node> {
        let mut last: Arc<[u8]> = Arc::default();
        let node = |kv: KeyValue| {
            if *last != *kv.value() {
                last = kv.value().into();
            }
            self.node_of(&kv, last.clone())
        };
        // Each is let go as soon as it is read, and this list takes the place of that one: both at once would
        // be twice the memory.
        kvs.into_iter().filter_map(node).collect()
    }

    fn node_of(&self, kv: &KeyValue, value: Arc<[u8]>) -> Option<Node> {
        Some(Node {
            key: self.key(kv.key())?,
            value,
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
}
