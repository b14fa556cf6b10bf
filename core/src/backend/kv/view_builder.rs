//! Applies key changes to the view of a service and merges the records of all layouts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;

use crate::backend::kv::membership::MembershipChange;
use crate::backend::kv::written_layouts::WrittenLayouts;
use crate::kv::{Change, Changes, Key, Node};
use crate::layout::{Decoded, Layout};
use crate::model::{Instance, InstanceOrder, MetadataInterner, ServiceName, View};
use crate::rate_limited_log::LogRateLimit;

/// Builds the view of one service from the key changes of its layouts. Changes that do not affect the view
/// produce none.
///
/// With one layout the identity of an instance is its id. With several layouts it is the address, because each
/// layout has its own ids; on conflict, the value of the first layout counts.
pub(super) struct ViewBuilder {
    layouts: Arc<[Arc<dyn Layout>]>,
    /// The value of [`Instance::layouts`] for each layout.
    found_in: Vec<Arc<[String]>>,
    service: ServiceName,
    /// The view before this watch. Its instances are reused if they did not change.
    last: View,
    records: BTreeMap<RecordKey, Record>,
    /// Nodes that are not decoded yet. Of several writes of a key only the last is decoded.
    pending: HashMap<RecordKey, Node>,
    members: HashMap<Arc<str>, MergedInstance>,
    /// The identities whose records changed since the view was updated.
    changed_members: Vec<Arc<str>>,
    view: View,
    /// The metadata interner while a list is decoded.
    interner: Option<Box<MetadataInterner>>,
    /// True while a list is applied.
    is_listing: bool,
    /// The instances of the last published view.
    published: OrdMap<InstanceOrder, Arc<Instance>>,
    /// True if the view differs from the last published one. True for the first view, even if it is empty.
    changed: bool,
    /// The membership changes since `take_membership_changes`.
    membership_changes: Vec<MembershipChange>,
    /// The counter of malformed records, shared with the other sets of the backend.
    invalid: Arc<AtomicU64>,
    malformed_log: LogRateLimit,
    written: WrittenLayouts,
}

/// The index of a layout, and a key in it.
type RecordKey = (usize, Key);

/// The decoded value of a key.
struct Record {
    /// `None` if the value is malformed.
    instance: Option<Arc<Instance>>,
    owner: u64,
}

/// The instance of one identity, merged from its records.
#[derive(Default)]
struct MergedInstance {
    /// The keys of its records, in order; nearly always one.
    keys: Vec<RecordKey>,
    /// The instance in the view, with its grant.
    visible: Option<(Arc<Instance>, u64)>,
    /// True if all records were removed since then; a later record is a new instance.
    is_new_identity: bool,
    /// True if its records changed since then.
    is_queued: bool,
}

impl ViewBuilder {
    pub(super) fn new(
        layouts: Arc<[Arc<dyn Layout>]>,
        service: ServiceName,
        last: View,
        invalid: Arc<AtomicU64>,
    ) -> ViewBuilder {
        let (records, pending, members, changed_members, view, published, membership_changes) =
            Default::default();
        let name = |layout: &Arc<dyn Layout>| [layout.name().to_owned()].into();
        ViewBuilder {
            found_in: layouts.iter().map(name).collect(),
            layouts,
            service,
            last,
            records,
            pending,
            members,
            changed_members,
            interner: None,
            is_listing: false,
            view,
            published,
            changed: true,
            membership_changes,
            invalid,
            malformed_log: LogRateLimit::default(),
            written: WrittenLayouts::default(),
        }
    }

    /// Applies changes in the directory of a layout.
    pub(super) fn apply(&mut self, layout: usize, item: Changes) {
        let mut changes = item.changes.into_iter().peekable();
        while let Some(change) = changes.next() {
            match change {
                Change::Reset(nodes) => {
                    self.decode_pending();
                    self.is_listing = true;
                    self.remove_unlisted(layout, &nodes);
                    self.members.reserve(nodes.len());
                    // Many instances of a service have identical metadata.
                    self.interner = Some(Box::default());
                    nodes
                        .into_iter()
                        .for_each(|node| self.put_node(layout, node));
                    self.interner = None;
                    self.is_listing = false;
                    self.update_members();
                }
                Change::Put(node) => {
                    self.pending.insert((layout, node.key.clone()), node);
                }
                Change::Delete(key) => {
                    self.decode_pending();
                    self.delete(layout, &key);
                    // Updated before the next put, so that an instance that is deleted and rejoins counts as both.
                    if !matches!(changes.peek(), Some(Change::Delete(_))) {
                        self.update_members();
                    }
                }
            }
        }
        // The directories report independently; epoch and revision never decrease.
        if item.epoch > self.view.epoch {
            (self.view.epoch, self.view.revision) = (item.epoch, item.revision);
        }
        self.view.revision = self.view.revision.max(item.revision);
    }

    /// Decodes the pending nodes.
    fn decode_pending(&mut self) {
        for ((layout, _), node) in std::mem::take(&mut self.pending) {
            self.put_node(layout, node);
        }
        self.update_members();
    }

    fn update_members(&mut self) {
        for identity in std::mem::take(&mut self.changed_members) {
            self.update_member(&identity);
        }
    }

    /// Applies pending records and returns the view if it changed since the last call. Call only after all directories
    /// are listed.
    pub(super) fn view(&mut self) -> Option<View> {
        self.decode_pending();
        self.last = View::default();
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    /// Returns true if the records of an instance changed in some of its layouts only.
    pub(super) fn awaits_other_layouts(&self) -> bool {
        self.written.is_incomplete()
    }

    /// Waits no longer for the other layouts of what has changed.
    pub(super) fn forget_written_layouts(&mut self) {
        self.written.clear();
    }

    /// Notes that a record of an identity changes or is deleted, before its member does. A list shows records of any age,
    /// so nothing follows from it. A record without attributes and tags does not change when an instance is updated.
    fn note_written(&mut self, identity: &Arc<str>, layout: usize, is_deleted: bool) {
        if self.layouts.len() == 1 || self.is_listing {
            return;
        }
        let keys = self.members.get(identity).map(|member| &member.keys[..]);
        let follows = |(of, record): &(usize, &Record)| {
            let has_metadata = |instance: &Arc<Instance>| {
                !instance.attributes().is_empty() || !instance.tags().is_empty()
            };
            *of == layout || is_deleted || record.instance.as_ref().is_some_and(has_metadata)
        };
        match keys.unwrap_or_default() {
            [] => self.written.note(identity, layout, 0..self.layouts.len()),
            keys => {
                let records = keys
                    .iter()
                    .filter_map(|key| Some((key.0, self.records.get(key)?)));
                let expected = records.filter(follows).map(|(of, _)| of);
                self.written.note(identity, layout, expected);
            }
        }
    }

    /// Returns the epoch of the newest change.
    pub(super) fn epoch(&self) -> u64 {
        self.view.epoch
    }

    /// Makes `view` return the next view even if it did not change, as the signal of a recovery.
    pub(super) fn force_next_view(&mut self) {
        self.changed = true;
    }

    /// Returns and clears the membership changes, in order.
    pub(super) fn take_membership_changes(&mut self) -> Vec<MembershipChange> {
        self.decode_pending();
        self.published = self.view.instances.clone();
        std::mem::take(&mut self.membership_changes)
    }

    fn identity(&self, instance: &Instance) -> Arc<str> {
        match self.layouts.len() {
            1 => instance.shared_id(),
            _ => instance.shared_address(),
        }
    }

    fn put_node(&mut self, layout: usize, node: Node) {
        let instance = match self.decode(layout, &node) {
            Decoded::Instance(new) => Some(new),
            Decoded::Ignored => return self.remove_record(&(layout, node.key)),
            Decoded::Malformed(why) => {
                self.invalid.fetch_add(1, Ordering::Relaxed);
                if let Some(suppressed) = self.malformed_log.permit() {
                    tracing::warn!(service = %self.service, error = %why, key = ?node.key, suppressed, "skipping malformed record");
                }
                None
            }
        };
        let identity = instance.as_ref().map(|new| self.identity(new));
        let is_bad = instance.is_none();
        let by_id = self.layouts.len() == 1;
        let (key_of_record, owner) = ((layout, node.key), node.owner);
        let (is_new, before) = match self.records.entry(key_of_record.clone()) {
            Entry::Vacant(free) => {
                let instance = instance.map(Arc::new);
                free.insert(Record { instance, owner });
                (true, None)
            }
            Entry::Occupied(mut there) => {
                let is_same_instance = there.get().is_same_instance(instance.as_ref(), by_id);
                // A changed instance keeps its count of calls in flight.
                let older = there.get().instance.as_deref().filter(|_| is_same_instance);
                let instance = instance.map(|new| match older {
                    Some(older) => Arc::new(new.with_load_of(older)),
                    None => Arc::new(new),
                });
                let before = there.insert(Record { instance, owner });
                (!is_same_instance, (!is_same_instance).then_some(before))
            }
        };
        if let Some(before) = before {
            self.detach_record(&key_of_record, before);
        }
        if is_new && is_bad {
            self.view.invalid += 1;
            self.changed = true;
        }
        if let Some(identity) = identity {
            self.note_written(&identity, layout, false);
            let member = self.members.entry(identity.clone()).or_default();
            if let Err(at) = member.keys.binary_search(&key_of_record) {
                // More than one key is rare.
                member.keys.reserve_exact(1);
                member.keys.insert(at, key_of_record);
            }
            if !std::mem::replace(&mut member.is_queued, true) {
                self.changed_members.push(identity);
            }
        }
    }

    fn decode(&mut self, layout: usize, node: &Node) -> Decoded {
        let (Some(form), Some(found_in)) = (self.layouts.get(layout), self.found_in.get(layout))
        else {
            return Decoded::Ignored;
        };
        let decoded = match &mut self.interner {
            Some(interner) => form.decode_among(&self.service, node, interner),
            None => form.decode(&self.service, node),
        };
        match decoded {
            Decoded::Instance(new) if new.contains_nul() => {
                Decoded::Malformed("a text contains a NUL character".to_owned())
            }
            Decoded::Instance(new) => Decoded::Instance(new.with_layouts(found_in.clone())),
            other => other,
        }
    }

    fn delete(&mut self, layout: usize, key: &Key) {
        let key_of_record = (layout, key.clone());
        self.remove_record(&key_of_record);
        let beneath = key.as_prefix();
        let from_here = self
            .records
            .range(key_of_record..)
            .map(|(key_of_record, _)| key_of_record);
        let near =
            from_here.take_while(|(of, k)| *of == layout && k.as_str().starts_with(key.as_str()));
        let gone: Vec<RecordKey> = near
            .filter(|(_, k)| k.strip_prefix(&beneath).is_some())
            .cloned()
            .collect();
        gone.iter()
            .for_each(|key_of_record| self.remove_record(key_of_record));
    }

    /// Removes all records of a layout that are not among the listed nodes.
    fn remove_unlisted(&mut self, layout: usize, nodes: &[Node]) {
        if self.records.is_empty() {
            return;
        }
        let listed: HashSet<&Key> = nodes.iter().map(|node| &node.key).collect();
        let gone = |(of, key): &&RecordKey| *of == layout && !listed.contains(key);
        let gone: Vec<RecordKey> = self.records.keys().filter(gone).cloned().collect();
        gone.iter()
            .for_each(|key_of_record| self.remove_record(key_of_record));
    }

    fn remove_record(&mut self, key_of_record: &RecordKey) {
        if let Some(record) = self.records.remove(key_of_record) {
            self.detach_record(key_of_record, record);
        }
    }

    /// Detaches a removed or replaced record from its member.
    fn detach_record(&mut self, key_of_record: &RecordKey, record: Record) {
        let Some(instance) = record.instance else {
            self.view.invalid -= 1;
            self.changed = true;
            return;
        };
        let identity = self.identity(&instance);
        self.note_written(&identity, key_of_record.0, true);
        if let Some(member) = self.members.get_mut(&identity) {
            member.keys.retain(|other| other != key_of_record);
            member.is_new_identity |= member.keys.is_empty();
            if !std::mem::replace(&mut member.is_queued, true) {
                self.changed_members.push(identity);
            }
        }
    }

    /// Updates the view with the records of one member.
    fn update_member(&mut self, identity: &str) {
        let Some(member) = self.members.get_mut(identity) else {
            return;
        };
        member.is_queued = false;
        let old = member.visible.take();
        let is_new_identity = std::mem::take(&mut member.is_new_identity);
        let Some((mut new, owner)) = merge_records(&self.records, &member.keys) else {
            self.members.remove(identity);
            if let Some((old, owner)) = old {
                remove_from_view(&mut self.view, &old);
                self.changed = true;
                self.membership_changes
                    .push(MembershipChange::Left(old, owner));
            }
            return;
        };
        // Adding or removing one of several records does not change the age.
        if let Some((old, _)) = &old
            && !is_new_identity
            && old.created() != new.created()
            && self.published.contains_key(&old.order())
        {
            new = Arc::new(new.new_version().created_at(old.created()));
        }
        let seniority = new.order();
        let known = old.as_ref().map(|(old, _)| old);
        let known = known.filter(|old| old.order() == seniority);
        let new = match known.or_else(|| self.last.instances.get(&seniority)) {
            Some(known) if **known == *new => known.clone(),
            Some(known) if !new.has_load_of(known) => {
                Arc::new(new.new_version().with_load_of(known))
            }
            _ => new,
        };
        member.visible = Some((new.clone(), owner));
        if old.as_ref().is_some_and(|(old, _)| Arc::ptr_eq(old, &new)) {
            return;
        }
        // Inserting over the same key copies half as much of the tree as removing it first.
        if let Some((old, _)) = &old
            && old.order() != seniority
        {
            remove_from_view(&mut self.view, old);
        }
        self.view.instances.insert(seniority, new.clone());
        self.membership_changes.push(MembershipChange::Joined(new));
        self.changed = true;
    }
}

impl Record {
    /// Returns true if the new value describes the same instance as before.
    fn is_same_instance(&self, now: Option<&Instance>, by_id: bool) -> bool {
        match (&self.instance, now) {
            (Some(before), Some(now)) => {
                let same = match by_id {
                    true => before.id() == now.id(),
                    false => before.address() == now.address(),
                };
                same && before.created() == now.created()
            }
            (None, None) => true,
            _ => false,
        }
    }
}

/// Removes an instance from the view, unless another instance has taken its position.
fn remove_from_view(view: &mut View, old: &Arc<Instance>) {
    let seniority = old.order();
    let there = view.instances.get(&seniority);
    if there.is_some_and(|there| Arc::ptr_eq(there, old)) {
        view.instances.remove(&seniority);
    }
}

/// Merges the records of an instance: the address and values of the first, completed by the others, with the
/// age of the oldest.
fn merge_records(
    records: &BTreeMap<RecordKey, Record>,
    keys: &[RecordKey],
) -> Option<(Arc<Instance>, u64)> {
    let said = |key_of_record: &RecordKey| {
        let record = records.get(key_of_record)?;
        Some((record.instance.as_ref()?, record.owner))
    };
    if let [only] = keys {
        return said(only).map(|(instance, owner)| (instance.clone(), owner));
    }
    let (all, owners): (Vec<_>, Vec<u64>) = keys.iter().filter_map(said).unzip();
    let owner = owners.into_iter().max()?;
    match all[..] {
        [] => None,
        [only] => Some((only.clone(), owner)),
        [first, ref others @ ..] => Some((Arc::new(first.merged_with(others)), owner)),
    }
}

#[cfg(test)]
mod tests;
