//! A store seen through a layout.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::backend::Backend;
use crate::error::Result;
use crate::layout::{Decoded, Layout};
use crate::model::{Claim, Grant, Instance, Registration, ServiceName, View};
use crate::store::Store;
use crate::tree::{Change, Changes, Key, Node};

/// `create renew update remove watch` over entries become
/// `register heartbeat update unregister subscribe` over registrations.
pub struct TreeBackend {
    store: Arc<dyn Store>,
    layout: Arc<dyn Layout>,
}

impl TreeBackend {
    /// Reads and writes `store` in `layout`.
    pub fn new(store: Arc<dyn Store>, layout: Arc<dyn Layout>) -> TreeBackend {
        TreeBackend { store, layout }
    }
}

impl Backend for TreeBackend {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        self.store.probe()
    }

    fn register<'a>(&'a self, r: &'a Registration, claim: Claim) -> BoxFuture<'a, Result<Grant>> {
        let ttl = r.ttl.unwrap_or(Duration::from_secs(10));
        async move { self.store.create(&self.layout.encode(r)?, ttl, claim).await }.boxed()
    }

    fn heartbeat<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.renew(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn update<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.update(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.remove(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        let prefix = match self.layout.prefix(service) {
            Ok(prefix) => prefix,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let mut mirror = Mirror::new(self.layout.clone(), service.clone(), last);
        let views = self
            .store
            .watch(&prefix)
            .map(move |item| Ok(mirror.fold(item?)));
        views.filter_map(async |view| view.transpose()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.store.local_address()
    }
}

/// Folds edges into whole views, and is silent about what changes nothing.
struct Mirror {
    layout: Arc<dyn Layout>,
    service: ServiceName,
    /// The view before this watch, whose instances are used again where they are the same.
    last: View,
    /// What each key holds; `None` for a record that cannot be read.
    records: BTreeMap<Key, Option<Arc<Instance>>>,
    view: View,
    /// Whether the view is other than the one given out last. The first is, even when it is empty.
    changed: bool,
}

impl Mirror {
    fn new(layout: Arc<dyn Layout>, service: ServiceName, last: View) -> Mirror {
        let (records, view) = Default::default();
        Mirror {
            layout,
            service,
            last,
            records,
            view,
            changed: true,
        }
    }

    fn fold(&mut self, item: Changes) -> Option<View> {
        for change in item.changes {
            match change {
                Change::Reset(nodes) => {
                    let listed: BTreeSet<&Key> = nodes.iter().map(|node| &node.key).collect();
                    let unlisted = |key: &&Key| !listed.contains(key);
                    let gone: Vec<Key> = self.records.keys().filter(unlisted).cloned().collect();
                    gone.iter().for_each(|key| self.forget(key));
                    nodes.iter().for_each(|node| self.put(node));
                }
                Change::Put(node) => self.put(&node),
                Change::Delete(key) => self.delete(&key),
            }
        }
        self.last = View::default();
        self.view.revision = item.revision;
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    fn put(&mut self, node: &Node) {
        let record = match self.layout.decode(&self.service, node) {
            Decoded::Ignored => return self.forget(&node.key),
            Decoded::Malformed(why) => {
                // Told and counted already.
                if let Some(None) = self.records.get(&node.key) {
                    return;
                }
                log::warn!("skipping the record {}: {why}", node.key);
                None
            }
            Decoded::Instance(new) => {
                let seniority = new.seniority();
                let now = self.view.instances.get(&seniority);
                match now.or_else(|| self.last.instances.get(&seniority)) {
                    Some(old) if **old == new => Some(old.clone()),
                    // The same instance, changed, keeps its count of calls in flight.
                    Some(old) => Some(Arc::new(new.with_load_of(old))),
                    None => Some(Arc::new(new)),
                }
            }
        };
        if let (Some(Some(old)), Some(new)) = (self.records.get(&node.key), &record)
            && Arc::ptr_eq(old, new)
        {
            return;
        }
        self.forget(&node.key);
        self.changed = true;
        match &record {
            Some(new) => drop(self.view.instances.insert(new.seniority(), new.clone())),
            None => self.view.invalid += 1,
        }
        self.records.insert(node.key.clone(), record);
    }

    fn delete(&mut self, key: &Key) {
        self.forget(key);
        let beneath = key.beneath();
        let from_here = self.records.range(key.clone()..).map(|(key, _)| key);
        let near = from_here.take_while(|k| k.as_str().starts_with(key.as_str()));
        let gone: Vec<Key> = near
            .filter(|k| k.under(&beneath).is_some())
            .cloned()
            .collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: &Key) {
        let Some(record) = self.records.remove(key) else {
            return;
        };
        self.changed = true;
        match record {
            Some(instance) => drop(self.view.instances.remove(&instance.seniority())),
            None => self.view.invalid -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Native;

    fn node(name: &str, value: &str, created: u64) -> Node {
        let key = Key::new(&format!("/discover/services/web/{name}")).unwrap();
        Node {
            key,
            value: value.as_bytes().into(),
            created,
        }
    }

    fn mirror_after(last: View) -> Mirror {
        Mirror::new(Arc::new(Native), ServiceName::new("web").unwrap(), last)
    }

    fn mirror() -> Mirror {
        mirror_after(View::default())
    }

    fn fold(mirror: &mut Mirror, changes: impl Into<Vec<Change>>) -> Option<Vec<String>> {
        let view = mirror.fold(Changes {
            revision: 1,
            changes: changes.into(),
        })?;
        Some(view.instances.values().map(|i| i.id().to_owned()).collect())
    }

    #[test]
    fn the_first_view_is_told_even_when_empty_and_then_only_changes_are() {
        let mut mirror = mirror();
        assert_eq!(fold(&mut mirror, [Change::Reset(vec![])]), Some(vec![]));
        assert_eq!(fold(&mut mirror, [Change::Reset(vec![])]), None);
        assert!(fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]).is_some());
        assert_eq!(
            fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]),
            None
        );
        assert_eq!(
            fold(&mut mirror, [Change::Reset(vec![node("h:1", "null", 1)])]),
            None
        );
    }

    #[test]
    fn a_bad_record_hides_no_other_and_is_counted_while_it_is_there() {
        let mut mirror = mirror();
        let both = vec![node("h:1", "{", 1), node("h:2", "null", 2)];
        assert_eq!(fold(&mut mirror, [Change::Reset(both)]).unwrap(), ["h:2"]);
        assert_eq!(mirror.view.invalid, 1);
        fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]);
        assert_eq!((mirror.view.invalid, mirror.view.instances.len()), (0, 2));
    }

    #[test]
    fn an_instance_that_is_listed_again_is_the_very_same_and_keeps_its_calls() {
        let mut mirror = mirror();
        let list = || {
            vec![Change::Reset(vec![
                node("h:1", "null", 1),
                node("h:2", "null", 2),
            ])]
        };
        fold(&mut mirror, list());
        let before = mirror.view.instances.clone();
        before.values().for_each(|instance| instance.load().begin());
        assert_eq!(fold(&mut mirror, list()), None);
        assert!(mirror.view.instances.ptr_eq(&before));
        fold(&mut mirror, [Change::Put(node("h:1", r#"{"v":"2"}"#, 1))]);
        let busy = |mirror: &Mirror| mirror.view.instances.values().all(|i| i.load().get() == 1);
        assert!(busy(&mirror));
        // And after a reconnect, which begins with another mirror.
        let mut next = mirror_after(mirror.view.clone());
        fold(&mut next, list());
        assert!(busy(&next));
    }

    #[test]
    fn views_are_ordered_by_age_and_a_delete_takes_all_beneath() {
        let mut mirror = mirror();
        let nodes = vec![
            node("h:2", "null", 5),
            node("h:1", "null", 9),
            node("h:3", "null", 1),
        ];
        assert_eq!(
            fold(&mut mirror, [Change::Reset(nodes)]).unwrap(),
            ["h:3", "h:2", "h:1"]
        );
        let folder = Key::new("/discover/services/web").unwrap();
        assert_eq!(
            fold(&mut mirror, [Change::Delete(folder)]).unwrap(),
            Vec::<String>::new()
        );
    }
}
