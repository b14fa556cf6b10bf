//! A set narrowed to those that match.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::ordmap::DiffItem;

use crate::model::{Attributes, Instance, View};
use crate::set::Snapshot;

/// What a narrowed set keeps. It is worked out by whoever reads first after a change, from what that
/// change was, and then shared.
pub(super) struct Filter {
    attributes: Attributes,
    tags: Vec<String>,
    narrowed: ArcSwap<Option<Narrowed>>,
}

struct Narrowed {
    whole: Arc<Snapshot>,
    part: Arc<Snapshot>,
}

impl Filter {
    /// What matches these as well as what `parent` wants.
    pub(super) fn new(
        parent: Option<&Filter>,
        attributes: impl Iterator<Item = (String, String)>,
        tags: impl Iterator<Item = String>,
    ) -> Filter {
        let mut wanted = parent.map_or_else(Attributes::new, |parent| parent.attributes.clone());
        wanted.extend(attributes);
        let mut all = parent.map_or_else(Vec::new, |parent| parent.tags.clone());
        all.extend(tags);
        Filter {
            attributes: wanted,
            tags: all,
            narrowed: ArcSwap::default(),
        }
    }

    /// Those of `whole` that match.
    pub(super) fn narrow(&self, whole: &Arc<Snapshot>) -> Arc<Snapshot> {
        let last = self.narrowed.load();
        if let Some(last) = &**last
            && Arc::ptr_eq(&last.whole, whole)
        {
            return last.part.clone();
        }
        let none = View::default();
        let (old, mut kept) = match &**last {
            Some(last) => (&last.whole.view, last.part.view.instances.clone()),
            None => (&none, none.instances.clone()),
        };
        for item in old.instances.diff(&whole.view.instances) {
            match item {
                DiffItem::Remove(key, _) => {
                    kept.remove(key);
                }
                DiffItem::Add(key, new)
                | DiffItem::Update {
                    new: (key, new), ..
                } => {
                    if self.matches(new) {
                        kept.insert(key.clone(), new.clone());
                    } else {
                        kept.remove(key);
                    }
                }
            }
        }
        let view = View {
            instances: kept,
            ..whole.view.clone()
        };
        let part = Arc::new(whole.narrowed(view, |instance| self.matches(instance)));
        self.narrowed.store(Arc::new(Some(Narrowed {
            whole: whole.clone(),
            part: part.clone(),
        })));
        part
    }

    fn matches(&self, instance: &Instance) -> bool {
        self.attributes
            .iter()
            .all(|(name, value)| instance.attributes().get(name) == Some(value))
            && self.tags.iter().all(|tag| instance.tags().contains(tag))
    }
}
