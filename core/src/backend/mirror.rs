//! Edges folded into whole views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::protect::FEW;
use crate::complain::Complaint;
use crate::layout::{Decoded, Layout};
use crate::model::{Instance, ServiceName, View};
use crate::tree::{Change, Changes, Key, Node};

/// Folds edges into whole views, and is silent about what changes nothing.
pub(super) struct Mirror {
    layout: Arc<dyn Layout>,
    service: ServiceName,
    /// The view before this watch, whose instances are used again where they are the same.
    last: View,
    records: BTreeMap<Key, Record>,
    view: View,
    /// Whether the view is other than the one given out last. The first is, even when it is empty.
    changed: bool,
    /// Who came and who went, with the owner, since somebody asked.
    moves: Vec<Move>,
    /// How many bad records were read, here and by others.
    invalid: Arc<AtomicU64>,
    complaint: Complaint,
}

/// What a key holds.
struct Record {
    /// None for one that cannot be read.
    instance: Option<Arc<Instance>>,
    owner: u64,
}

/// An instance that came or went.
pub(super) enum Move {
    Came(Arc<Instance>),
    /// With the grant that it had.
    Went(Arc<Instance>, u64),
}

impl Mirror {
    pub(super) fn new(
        layout: Arc<dyn Layout>,
        service: ServiceName,
        last: View,
        invalid: Arc<AtomicU64>,
    ) -> Mirror {
        let (records, view, moves) = Default::default();
        Mirror {
            layout,
            service,
            last,
            records,
            view,
            changed: true,
            moves,
            invalid,
            complaint: Complaint::default(),
        }
    }

    /// The whole view after these changes, if it is another.
    pub(super) fn fold(&mut self, item: Changes) -> Option<View> {
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
        self.view.epoch = item.epoch;
        self.view.revision = item.revision;
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    /// The next view is told even if it is as it was: it says that it holds again.
    pub(super) fn tell_again(&mut self) {
        self.changed = true;
    }

    /// Whether some of several went, with a grant that may be gone.
    pub(super) fn may_be_a_mass(&self) -> bool {
        let went = |step: &&Move| matches!(step, Move::Went(_, owner) if *owner != 0);
        let went = self.moves.iter().filter(went).count();
        went > 0 && went + self.view.instances.len() >= FEW
    }

    /// Who came and who went since the last time this was asked, in order.
    pub(super) fn moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }

    fn put(&mut self, node: &Node) {
        let instance = match self.layout.decode(&self.service, node) {
            Decoded::Ignored => return self.forget(&node.key),
            Decoded::Malformed(why) => {
                self.invalid.fetch_add(1, Ordering::Relaxed);
                let text = || format!("skipping the record {:?}: {why}", node.key);
                self.complaint.warn(text);
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
        let owner = node.owner;
        if let Some(record) = self.records.get_mut(&node.key) {
            let same = match (&record.instance, &instance) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            if same {
                record.owner = owner;
                return;
            }
        }
        self.forget(&node.key);
        self.changed = true;
        match &instance {
            Some(new) => {
                self.view.instances.insert(new.seniority(), new.clone());
                self.moves.push(Move::Came(new.clone()));
            }
            None => self.view.invalid += 1,
        }
        self.records
            .insert(node.key.clone(), Record { instance, owner });
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
        match record.instance {
            Some(instance) => {
                self.view.instances.remove(&instance.seniority());
                self.moves.push(Move::Went(instance, record.owner));
            }
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
            modified: created,
            owner: 0,
        }
    }

    fn mirror_after(last: View) -> Mirror {
        Mirror::new(
            Arc::new(Native),
            ServiceName::new("web").unwrap(),
            last,
            Arc::default(),
        )
    }

    fn mirror() -> Mirror {
        mirror_after(View::default())
    }

    fn fold(mirror: &mut Mirror, changes: impl Into<Vec<Change>>) -> Option<Vec<String>> {
        let view = mirror.fold(Changes {
            revision: 1,
            changes: changes.into(),
            ..Changes::default()
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
