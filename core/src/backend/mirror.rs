//! Edges folded into whole views: one instance for each identity, whatever records say it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;

use crate::backend::protect::FEW;
use crate::complain::Complaint;
use crate::layout::{Decoded, Layout};
use crate::model::{Instance, Seniority, ServiceName, View};
use crate::tree::{Change, Changes, Key, Node};

/// Folds edges into whole views, and is silent about what changes nothing.
///
/// In one layout an instance is known by its id. In several it is known by its address, because each has
/// ids of its own; what the first of them says counts before what the others say.
pub(super) struct Mirror {
    layouts: Arc<[Arc<dyn Layout>]>,
    service: ServiceName,
    /// The view before this watch, whose instances are used again where they are the same.
    last: View,
    records: BTreeMap<Place, Record>,
    members: BTreeMap<Box<str>, Member>,
    /// Whose records changed, and who is not yet shown as they say.
    touched: BTreeSet<Box<str>>,
    view: View,
    /// The instances that were given out last.
    given: OrdMap<Seniority, Arc<Instance>>,
    /// Whether the view is other than the one given out last. The first is, even when it is empty.
    changed: bool,
    /// Who came and who went, with the owner, since somebody asked.
    moves: Vec<Move>,
    /// How many bad records were read, here and by others.
    invalid: Arc<AtomicU64>,
    complaint: Complaint,
}

/// The number of a layout, and a key in it.
type Place = (usize, Key);

/// What a key holds.
struct Record {
    /// None for one that cannot be read.
    instance: Option<Arc<Instance>>,
    owner: u64,
}

/// Who is known by one identity.
#[derive(Default)]
struct Member {
    /// The records that say so.
    places: BTreeSet<Place>,
    /// As it is in the view, with its grant.
    shown: Option<(Arc<Instance>, u64)>,
    /// Whether all of its records went since then: what comes after is another one.
    is_another: bool,
}

/// An instance that came or went.
pub(super) enum Move {
    Came(Arc<Instance>),
    /// With the grant that it had.
    Went(Arc<Instance>, u64),
}

impl Mirror {
    pub(super) fn new(
        layouts: Arc<[Arc<dyn Layout>]>,
        service: ServiceName,
        last: View,
        invalid: Arc<AtomicU64>,
    ) -> Mirror {
        let (records, members, touched, view, given, moves) = Default::default();
        Mirror {
            layouts,
            service,
            last,
            records,
            members,
            touched,
            view,
            given,
            changed: true,
            moves,
            invalid,
            complaint: Complaint::default(),
        }
    }

    /// Takes note of changes in the folder of a layout.
    pub(super) fn fold(&mut self, layout: usize, item: Changes) {
        for change in item.changes {
            match change {
                Change::Reset(nodes) => {
                    let listed: BTreeSet<&Key> = nodes.iter().map(|node| &node.key).collect();
                    let gone = |(of, key): &&Place| *of == layout && !listed.contains(key);
                    let gone: Vec<Place> = self.records.keys().filter(gone).cloned().collect();
                    gone.iter().for_each(|place| self.forget(place));
                    nodes.iter().for_each(|node| self.put(layout, node));
                }
                Change::Put(node) => self.put(layout, &node),
                Change::Delete(key) => self.delete(layout, &key),
            }
        }
        for identity in std::mem::take(&mut self.touched) {
            self.settle(&identity);
        }
        // Each folder is told of for itself; what is told is never older than what was.
        if item.epoch > self.view.epoch {
            (self.view.epoch, self.view.revision) = (item.epoch, item.revision);
        }
        self.view.revision = self.view.revision.max(item.revision);
    }

    /// The whole view, if it is another than before. To be asked when all folders are known.
    pub(super) fn view(&mut self) -> Option<View> {
        self.last = View::default();
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
        self.given = self.view.instances.clone();
        std::mem::take(&mut self.moves)
    }

    fn identity(&self, instance: &Instance) -> Box<str> {
        match self.layouts.len() {
            1 => instance.id().into(),
            _ => instance.address().into(),
        }
    }

    fn put(&mut self, layout: usize, node: &Node) {
        let Some(form) = self.layouts.get(layout) else {
            return;
        };
        let place = (layout, node.key.clone());
        let instance = match form.decode(&self.service, node) {
            Decoded::Ignored => return self.forget(&place),
            Decoded::Malformed(why) => {
                self.invalid.fetch_add(1, Ordering::Relaxed);
                let text = || format!("skipping the record {:?}: {why}", node.key);
                self.complaint.warn(text);
                None
            }
            Decoded::Instance(new) => {
                let name = form.name().to_owned();
                Some(Arc::new(new.with_layouts([name].into())))
            }
        };
        let owner = node.owner;
        let before = self.records.get(&place).map(|record| &record.instance);
        if before.is_some_and(|before| self.goes_on(before, &instance)) {
            let record = Record { instance, owner };
            self.records.insert(place.clone(), record);
        } else {
            self.forget(&place);
            if instance.is_none() {
                self.view.invalid += 1;
                self.changed = true;
            }
            let record = Record { instance, owner };
            self.records.insert(place.clone(), record);
        }
        self.touch(&place, |member, place| {
            member.places.insert(place);
        });
    }

    /// Whether a record is of the one that it was of before, whatever else it says now.
    fn goes_on(&self, before: &Option<Arc<Instance>>, now: &Option<Arc<Instance>>) -> bool {
        match (before, now) {
            (Some(before), Some(now)) => {
                before.created() == now.created() && self.identity(before) == self.identity(now)
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// Notes that the record at a place changes something about whom it is of.
    fn touch(&mut self, place: &Place, change: impl FnOnce(&mut Member, Place)) {
        let record = self.records.get(place);
        if let Some(instance) = record.and_then(|record| record.instance.as_ref()) {
            let identity = self.identity(instance);
            let member = self.members.entry(identity.clone()).or_default();
            change(member, place.clone());
            self.touched.insert(identity);
        }
    }

    fn delete(&mut self, layout: usize, key: &Key) {
        let place = (layout, key.clone());
        self.forget(&place);
        let beneath = key.beneath();
        let from_here = self.records.range(place..).map(|(place, _)| place);
        let near =
            from_here.take_while(|(of, k)| *of == layout && k.as_str().starts_with(key.as_str()));
        let gone: Vec<Place> = near
            .filter(|(_, k)| k.under(&beneath).is_some())
            .cloned()
            .collect();
        gone.iter().for_each(|place| self.forget(place));
    }

    fn forget(&mut self, place: &Place) {
        self.touch(place, |member, place| {
            member.places.remove(&place);
            member.is_another |= member.places.is_empty();
        });
        let record = self.records.remove(place);
        if record.is_some_and(|record| record.instance.is_none()) {
            self.view.invalid -= 1;
            self.changed = true;
        }
    }

    /// Brings the view in line with what the records say about one instance.
    fn settle(&mut self, identity: &str) {
        let Some(mut member) = self.members.remove(identity) else {
            return;
        };
        let old = member.shown.take();
        let is_another = std::mem::take(&mut member.is_another);
        let Some((mut new, owner)) = self.merged(&member) else {
            if let Some((old, owner)) = old {
                self.hide(&old);
                self.moves.push(Move::Went(old, owner));
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
            // The same instance, changed, keeps its count of calls in flight.
            Some(known) => Arc::new(new.another().with_load_of(known)),
            None => new,
        };
        let same = old.as_ref().is_some_and(|(old, _)| Arc::ptr_eq(old, &new));
        if !same {
            if let Some((old, _)) = &old {
                self.hide(old);
            }
            self.view.instances.insert(seniority, new.clone());
            self.moves.push(Move::Came(new.clone()));
            self.changed = true;
        }
        member.shown = Some((new, owner));
        self.members.insert(identity.into(), member);
    }

    /// Takes an instance from the view, unless another one is in its place.
    fn hide(&mut self, old: &Arc<Instance>) {
        let seniority = old.seniority();
        let there = self.view.instances.get(&seniority);
        if there.is_some_and(|there| Arc::ptr_eq(there, old)) {
            self.view.instances.remove(&seniority);
        }
        self.changed = true;
    }

    /// What the records say together: where the first of them says it is, with what the others add, and
    /// as old as the oldest.
    fn merged(&self, member: &Member) -> Option<(Arc<Instance>, u64)> {
        let records = member.places.iter();
        let records = records.filter_map(|place| self.records.get(place));
        let mut all: Vec<&Arc<Instance>> = Vec::with_capacity(1);
        let mut owners = 0;
        for record in records {
            all.extend(&record.instance);
            owners = owners.max(record.owner);
        }
        match all[..] {
            [] => None,
            [only] => Some((only.clone(), owners)),
            [first, ref others @ ..] => Some((Arc::new(first.joined_by(others)), owners)),
        }
    }
}

#[cfg(test)]
mod tests;
