//! What etcd's answers say, in our words.

use etcd_client::{Event, EventType, KeyValue};

use crate::store::servers::Config;
use crate::tree::{Change, Node, Scope};

impl Config {
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
}
