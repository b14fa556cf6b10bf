//! Edges folded into whole views: one instance for each identity, whatever records say it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;

use crate::backend::kv::mass_expiry::FEW;
use crate::kv::{Change, Changes, Key, Node};
use crate::layout::{Decoded, Layout};
use crate::model::{Instance, InstanceOrder, MetadataInterner, ServiceName, View};
use crate::rate_limited_log::LogRateLimit;

/// Folds edges into whole views, and is silent about what changes nothing.
///
/// In one layout an instance is known by its id. In several it is known by its address, because each has
/// ids of its own; what the first of them says counts before what the others say.
pub(super) struct ViewBuilder {
    layouts: Arc<[Arc<dyn Layout>]>,
    /// What is said of an instance that was found in each.
    found_in: Vec<Arc<[String]>>,
    service: ServiceName,
    /// The view before this watch, whose instances are used again where they are the same.
    last: View,
    records: BTreeMap<RecordKey, Record>,
    /// What was written since somebody looked, and is not read yet: of what is written again and again
    /// only the last is.
    unread: HashMap<RecordKey, Node>,
    members: HashMap<Arc<str>, MergedInstance>,
    /// Whose records changed, and who is not yet shown as they say.
    touched: Vec<Arc<str>>,
    view: View,
    /// What was said in the list that is read just now.
    said: Option<Box<MetadataInterner>>,
    /// The instances that were given out last.
    given: OrdMap<InstanceOrder, Arc<Instance>>,
    /// Whether the view is other than the one given out last. The first is, even when it is empty.
    changed: bool,
    /// Who came and who went, with the owner, since somebody asked.
    moves: Vec<MembershipChange>,
    /// How many bad records were read, here and by others.
    invalid: Arc<AtomicU64>,
    malformed_log: LogRateLimit,
}

/// The number of a layout, and a key in it.
type RecordKey = (usize, Key);

/// What a key holds.
struct Record {
    /// None for one that cannot be read.
    instance: Option<Arc<Instance>>,
    owner: u64,
}

/// Who is known by one identity.
#[derive(Default)]
struct MergedInstance {
    /// The records that say so, in order. Nearly always one.
    places: Vec<RecordKey>,
    /// As it is in the view, with its grant.
    shown: Option<(Arc<Instance>, u64)>,
    /// Whether all of its records went since then: what comes after is another one.
    is_another: bool,
    /// Whether its records changed since then.
    is_touched: bool,
}

/// An instance that came or went.
pub(super) enum MembershipChange {
    Came(Arc<Instance>),
    /// With the grant that it had.
    Went(Arc<Instance>, u64),
}

impl ViewBuilder {
    pub(super) fn new(
        layouts: Arc<[Arc<dyn Layout>]>,
        service: ServiceName,
        last: View,
        invalid: Arc<AtomicU64>,
    ) -> ViewBuilder {
        let (records, unread, members, touched, view, given, moves) = Default::default();
        let name = |layout: &Arc<dyn Layout>| [layout.name().to_owned()].into();
        ViewBuilder {
            found_in: layouts.iter().map(name).collect(),
            layouts,
            service,
            last,
            records,
            unread,
            members,
            touched,
            said: None,
            view,
            given,
            changed: true,
            moves,
            invalid,
            malformed_log: LogRateLimit::default(),
        }
    }

    /// Takes note of changes in the folder of a layout.
    pub(super) fn fold(&mut self, layout: usize, item: Changes) {
        let mut changes = item.changes.into_iter().peekable();
        while let Some(change) = changes.next() {
            match change {
                Change::Reset(nodes) => {
                    self.read();
                    self.forget_all_but(layout, &nodes);
                    self.members.reserve(nodes.len());
                    // Many of a service say the same of themselves.
                    self.said = Some(Box::default());
                    nodes.into_iter().for_each(|node| self.put(layout, node));
                    self.said = None;
                    self.settle_all();
                }
                Change::Put(node) => {
                    self.unread.insert((layout, node.key.clone()), node);
                }
                Change::Delete(key) => {
                    self.read();
                    self.delete(layout, &key);
                    // Who went and is back has come, too: nobody is missed between the two.
                    if !matches!(changes.peek(), Some(Change::Delete(_))) {
                        self.settle_all();
                    }
                }
            }
        }
        // Each folder is told of for itself; what is told is never older than what was.
        if item.epoch > self.view.epoch {
            (self.view.epoch, self.view.revision) = (item.epoch, item.revision);
        }
        self.view.revision = self.view.revision.max(item.revision);
    }

    /// Reads what was written.
    fn read(&mut self) {
        for ((layout, _), node) in std::mem::take(&mut self.unread) {
            self.put(layout, node);
        }
        self.settle_all();
    }

    fn settle_all(&mut self) {
        for identity in std::mem::take(&mut self.touched) {
            self.settle(&identity);
        }
    }

    /// The whole view, if it is another than before. To be asked when all folders are known.
    pub(super) fn view(&mut self) -> Option<View> {
        self.read();
        self.last = View::default();
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    /// The next view is told even if it is as it was: it says that it holds again.
    pub(super) fn tell_again(&mut self) {
        self.changed = true;
    }

    /// Whether some of several went, with a grant that may be gone.
    pub(super) fn may_be_a_mass(&self) -> bool {
        let went = |step: &&MembershipChange| matches!(step, MembershipChange::Went(_, owner) if *owner != 0);
        let went = self.moves.iter().filter(went).count();
        went > 0 && went + self.view.instances.len() >= FEW
    }

    /// Who came and who went since the last time this was asked, in order.
    pub(super) fn moves(&mut self) -> Vec<MembershipChange> {
        self.read();
        self.given = self.view.instances.clone();
        std::mem::take(&mut self.moves)
    }

    fn identity(&self, instance: &Instance) -> Arc<str> {
        match self.layouts.len() {
            1 => instance.shared_id(),
            _ => instance.shared_address(),
        }
    }

    fn put(&mut self, layout: usize, node: Node) {
        let instance = match self.decode(layout, &node) {
            Decoded::Instance(new) => Some(new),
            Decoded::Ignored => return self.forget(&(layout, node.key)),
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
        let (place, owner) = ((layout, node.key), node.owner);
        let (is_new, before) = match self.records.entry(place.clone()) {
            Entry::Vacant(free) => {
                let instance = instance.map(Arc::new);
                free.insert(Record { instance, owner });
                (true, None)
            }
            Entry::Occupied(mut there) => {
                let goes_on = there.get().goes_on(instance.as_ref(), by_id);
                // The same instance, changed, keeps its count of calls in flight.
                let older = there.get().instance.as_deref().filter(|_| goes_on);
                let instance = instance.map(|new| match older {
                    Some(older) => Arc::new(new.with_load_of(older)),
                    None => Arc::new(new),
                });
                let before = there.insert(Record { instance, owner });
                (!goes_on, (!goes_on).then_some(before))
            }
        };
        if let Some(before) = before {
            self.leave(&place, before);
        }
        if is_new && is_bad {
            self.view.invalid += 1;
            self.changed = true;
        }
        if let Some(identity) = identity {
            let member = self.members.entry(identity.clone()).or_default();
            if let Err(at) = member.places.binary_search(&place) {
                // Room for more than one is rarely needed.
                member.places.reserve_exact(1);
                member.places.insert(at, place);
            }
            if !std::mem::replace(&mut member.is_touched, true) {
                self.touched.push(identity);
            }
        }
    }

    fn decode(&mut self, layout: usize, node: &Node) -> Decoded {
        let (Some(form), Some(found_in)) = (self.layouts.get(layout), self.found_in.get(layout))
        else {
            return Decoded::Ignored;
        };
        let decoded = match &mut self.said {
            Some(said) => form.decode_among(&self.service, node, said),
            None => form.decode(&self.service, node),
        };
        match decoded {
            Decoded::Instance(new) => Decoded::Instance(new.with_layouts(found_in.clone())),
            other => other,
        }
    }

    fn delete(&mut self, layout: usize, key: &Key) {
        let place = (layout, key.clone());
        self.forget(&place);
        let beneath = key.as_prefix();
        let from_here = self.records.range(place..).map(|(place, _)| place);
        let near =
            from_here.take_while(|(of, k)| *of == layout && k.as_str().starts_with(key.as_str()));
        let gone: Vec<RecordKey> = near
            .filter(|(_, k)| k.strip_prefix(&beneath).is_some())
            .cloned()
            .collect();
        gone.iter().for_each(|place| self.forget(place));
    }

    /// Forgets what is in the folder of a layout, but for what was listed just now.
    fn forget_all_but(&mut self, layout: usize, nodes: &[Node]) {
        if self.records.is_empty() {
            return;
        }
        let listed: HashSet<&Key> = nodes.iter().map(|node| &node.key).collect();
        let gone = |(of, key): &&RecordKey| *of == layout && !listed.contains(key);
        let gone: Vec<RecordKey> = self.records.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|place| self.forget(place));
    }

    fn forget(&mut self, place: &RecordKey) {
        if let Some(record) = self.records.remove(place) {
            self.leave(place, record);
        }
    }

    /// What this record said there, it says no more.
    fn leave(&mut self, place: &RecordKey, record: Record) {
        let Some(instance) = record.instance else {
            self.view.invalid -= 1;
            self.changed = true;
            return;
        };
        let identity = self.identity(&instance);
        if let Some(member) = self.members.get_mut(&identity) {
            member.places.retain(|other| other != place);
            member.is_another |= member.places.is_empty();
            if !std::mem::replace(&mut member.is_touched, true) {
                self.touched.push(identity);
            }
        }
    }

    /// Brings the view in line with what the records say about one instance.
    fn settle(&mut self, identity: &str) {
        let Some(member) = self.members.get_mut(identity) else {
            return;
        };
        member.is_touched = false;
        let old = member.shown.take();
        let is_another = std::mem::take(&mut member.is_another);
        let Some((mut new, owner)) = merged(&self.records, &member.places) else {
            self.members.remove(identity);
            if let Some((old, owner)) = old {
                hide(&mut self.view, &old);
                self.changed = true;
                self.moves.push(MembershipChange::Went(old, owner));
            }
            return;
        };
        // One record of several that goes, or comes, makes nobody younger or older.
        if let Some((old, _)) = &old
            && !is_another
            && old.created() != new.created()
            && self.given.contains_key(&old.seniority())
        {
            new = Arc::new(new.another().created_at(old.created()));
        }
        let seniority = new.seniority();
        let known = old.as_ref().map(|(old, _)| old);
        let known = known.filter(|old| old.seniority() == seniority);
        let new = match known.or_else(|| self.last.instances.get(&seniority)) {
            Some(known) if **known == *new => known.clone(),
            Some(known) if !new.has_load_of(known) => Arc::new(new.another().with_load_of(known)),
            _ => new,
        };
        member.shown = Some((new.clone(), owner));
        if old.as_ref().is_some_and(|(old, _)| Arc::ptr_eq(old, &new)) {
            return;
        }
        // Who keeps its place is written over: to take it out first would copy twice as much of the tree.
        if let Some((old, _)) = &old
            && old.seniority() != seniority
        {
            hide(&mut self.view, old);
        }
        self.view.instances.insert(seniority, new.clone());
        self.moves.push(MembershipChange::Came(new));
        self.changed = true;
    }
}

impl Record {
    /// Whether it says now of the one of whom it spoke before, whatever else it says.
    fn goes_on(&self, now: Option<&Instance>, by_id: bool) -> bool {
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

/// Takes an instance from the view, unless another one is in its place.
fn hide(view: &mut View, old: &Arc<Instance>) {
    let seniority = old.seniority();
    let there = view.instances.get(&seniority);
    if there.is_some_and(|there| Arc::ptr_eq(there, old)) {
        view.instances.remove(&seniority);
    }
}

/// What the records at these places say together: where the first of them says it is, with what the
/// others add, and as old as the oldest.
fn merged(
    records: &BTreeMap<RecordKey, Record>,
    places: &[RecordKey],
) -> Option<(Arc<Instance>, u64)> {
    let said = |place: &RecordKey| {
        let record = records.get(place)?;
        Some((record.instance.as_ref()?, record.owner))
    };
    if let [only] = places {
        return said(only).map(|(instance, owner)| (instance.clone(), owner));
    }
    let (all, owners): (Vec<_>, Vec<u64>) = places.iter().filter_map(said).unzip();
    let owner = owners.into_iter().max()?;
    match all[..] {
        [] => None,
        [only] => Some((only.clone(), owner)),
        [first, ref others @ ..] => Some((Arc::new(first.joined_by(others)), owner)),
    }
}

#[cfg(test)]
mod tests;
