//! Translation of etcd v3 responses into nodes and changes.

use std::sync::Arc;

use etcd_client::{Event, EventType, KeyValue};

use crate::kv::{Change, Node, Scope};
use crate::store::etcd::config::EtcdConfig;

impl EtcdConfig {
    /// Returns the etcd key or prefix of a scope, and whether it is a prefix.
    pub(super) fn range(&self, scope: &Scope) -> (Vec<u8>, bool) {
        match scope {
            Scope::Prefix(prefix) => (self.path(prefix.as_str()).into_bytes(), true),
            Scope::Key(key) => (self.path(key.as_str()).into_bytes(), false),
        }
    }

    pub(super) fn node(&self, kv: &KeyValue) -> Option<Node> {
        self.node_of(kv, kv.value().into())
    }

    /// Returns the nodes of a list. Equal values of adjacent keys, which are common in a service, are
    /// shared.
    pub(super) fn nodes(&self, kvs: Vec<KeyValue>) -> Vec<Node> {
        let mut last: Arc<[u8]> = Arc::default();
        let node = |kv: KeyValue| {
            if *last != *kv.value() {
                last = kv.value().into();
            }
            self.node_of(&kv, last.clone())
        };
        // Converts in place: each key-value pair is freed as soon as it is converted, so that memory does
        // not double.
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

    /// Returns a change with its revision.
    pub(super) fn change(&self, event: &Event) -> Option<(u64, Change)> {
        let kv = event.kv()?;
        let change = match event.event_type() {
            EventType::Put => Change::Put(self.node(kv)?),
            EventType::Delete => Change::Delete(self.key(kv.key())?),
        };
        Some((kv.mod_revision() as u64, change))
    }
}
