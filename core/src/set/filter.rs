//! Filter of a set by attributes and tags.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::ordmap::DiffItem;

use crate::model::{Attributes, Instance, View};
use crate::set::snapshot::Snapshot;

/// Filter with its last result. The first reader after a change computes the result incrementally; all others
/// share it.
pub(super) struct Filter {
    attributes: Attributes,
    tags: Vec<String>,
    filtered: ArcSwap<Option<FilteredSnapshot>>,
}

struct FilteredSnapshot {
    source: Arc<Snapshot>,
    filtered: Arc<Snapshot>,
}

impl Filter {
    /// Creates a filter that requires these attributes and tags in addition to those of `parent`.
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
            filtered: ArcSwap::default(),
        }
    }

    /// Returns the part of `source` that matches.
    pub(super) fn apply(&self, source: &Arc<Snapshot>) -> Arc<Snapshot> {
        let last = self.filtered.load();
        if let Some(last) = &**last
            && Arc::ptr_eq(&last.source, source)
        {
            return last.filtered.clone();
        }
        let none = View::default();
        let (old, mut cache_writer) = match &**last {
            Some(last) => (&last.source.view, last.filtered.view.instances.clone()),
            None => (&none, none.instances.clone()),
        };
        for item in old.instances.diff(&source.view.instances) {
            match item {
                DiffItem::Remove(key, _) => {
                    cache_writer.remove(key);
                }
                DiffItem::Add(key, new)
                | DiffItem::Update {
                    new: (key, new), ..
                } => {
                    if self.matches(new) {
                        cache_writer.insert(key.clone(), new.clone());
                    } else {
                        cache_writer.remove(key);
                    }
                }
            }
        }
        let view = View {
            instances: cache_writer,
            ..source.view.clone()
        };
        let filtered = Arc::new(source.filtered(view, |instance| self.matches(instance)));
        self.filtered.store(Arc::new(Some(FilteredSnapshot {
            source: source.clone(),
            filtered: filtered.clone(),
        })));
        filtered
    }

    fn matches(&self, instance: &Instance) -> bool {
        self.attributes
            .iter()
            .all(|(name, value)| instance.attributes().get(name) == Some(value))
            && self.tags.iter().all(|tag| instance.tags().contains(tag))
    }
}
