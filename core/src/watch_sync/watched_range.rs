//! One part of the store: what is known of it, and what is asked next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, Result};
use crate::kv::{Change, Key, Node};
use crate::mutants::mutant;
use crate::watch_sync::{CancelReason, KeyRevisions, Listing, RangeId, Time, WatchId};

/// After a gap of more revisions than this a list costs less than a replay.
const REPLAY: u64 = 500;
/// How long what a comparison showed may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How often to compare, more or less.
const AUDIT: Duration = Duration::from_secs(300);
/// Those that are due within this time are compared together, in one request.
const TOGETHER: Duration = Duration::from_millis(500);

/// What a part asks for.
pub(super) enum RangeAction {
    List,
    Compare,
    Watch {
        from: u64,
        resumed: bool,
    },
    Unwatch(WatchId),
    /// The store's revision is lower than it was.
    WentBack,
    /// The newest put that was seen, told or not.
    Saw(Node),
    Mismatch,
    Duplicates(u64),
    Tell {
        revision: u64,
        changes: Vec<Change>,
    },
    Lost(Error),
    Break(Error),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WatchedRange {
    phase: Phase,
    /// Everything up to here was seen; none before the first list.
    revision: Option<u64>,
    /// Each key there is, with the revision of its last change.
    keys: BTreeMap<Key, u64>,
    /// Seen after a resume, and not told before it is compared.
    held: Option<Vec<Change>>,
    audit: Audit,
    /// Whether what is known comes from this very connection.
    fresh: bool,
    /// Whether it was listed, or known, before.
    listed: bool,
    /// Whether a refused watch was answered with a new login already.
    logged_in_again: bool,
    pace: Backoff,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// There is no connection.
    Idle,
    Listing,
    /// The watch is asked for, or stands.
    Watching(WatchId),
    /// The store refuses it to us; asked again from time to time.
    Barred(Time),
}

/// The comparison of what we know with what there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Audit {
    No,
    Due(Time),
    /// With the revisions of what was deleted since, which the answer may not know yet.
    Asked(BTreeMap<Key, u64>),
    /// These differ, and must be explained by changes that are on their way.
    Doubt {
        at: u64,
        doubts: BTreeMap<Key, Differs>,
        until: Time,
    },
}

/// How the list differs from what we know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Differs {
    /// It was changed at this revision.
    Changed(u64),
    /// It is not there.
    Gone,
}

impl WatchedRange {
    pub(super) fn new(id: RangeId, known: Option<KeyRevisions>) -> WatchedRange {
        WatchedRange {
            phase: Phase::Idle,
            revision: known.as_ref().map(|known| known.revision),
            fresh: known.is_some(),
            listed: known.is_some(),
            keys: known.map(|known| known.modified).unwrap_or_default(),
            held: None,
            audit: Audit::No,
            logged_in_again: false,
            pace: Backoff::with_seed(Duration::from_secs(2), Duration::from_secs(10), id),
        }
    }

    pub(super) fn ticket(&self) -> Option<WatchId> {
        match self.phase {
            Phase::Watching(ticket) => Some(ticket),
            _ => None,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.unwrap_or(0)
    }

    pub(super) fn wake(&self) -> Option<Time> {
        let audit = match self.audit {
            Audit::No | Audit::Asked(_) => None,
            Audit::Due(at) => Some(at),
            Audit::Doubt { until, .. } => Some(until),
        };
        match self.phase {
            Phase::Barred(until) => Some(until),
            _ => audit,
        }
    }

    /// The watch that was asked for has this name.
    pub(super) fn issued(&mut self, ticket: WatchId) {
        self.phase = Phase::Watching(ticket);
    }

    /// There is a connection. `same` says that the store has the history that we know.
    pub(super) fn connected(&mut self, same: bool, head: u64) -> Vec<RangeAction> {
        let same = mutant!(every_store_is_the_same: true, same);
        match self.revision {
            Some(known) if same && head.saturating_sub(known) <= REPLAY => {
                if !self.fresh && mutant!(what_was_resumed_is_told_at_once: false, true) {
                    self.held.get_or_insert_default();
                }
                let from = mutant!(resume_one_too_far: known + 2, known + 1);
                vec![RangeAction::Watch {
                    from,
                    resumed: true,
                }]
            }
            _ => self.list(),
        }
    }

    /// Whether no key is newer. What was known from the beginning may be newer than what was seen.
    pub(super) fn is_within(&self, revision: u64) -> bool {
        let within = self.keys.values().all(|modified| *modified <= revision);
        mutant!(all_is_within_the_mark: true, within)
    }

    pub(super) fn disconnected(&mut self) {
        self.phase = Phase::Idle;
        self.audit = Audit::No;
        self.fresh = false;
    }

    /// The store has another history than the one that was seen.
    pub(super) fn know_nothing(&mut self) -> Vec<RangeAction> {
        self.revision = None;
        self.held = None;
        self.keys.clear();
        match self.phase {
            Phase::Watching(_) => self.list(),
            Phase::Idle | Phase::Listing | Phase::Barred(_) => Vec::new(),
        }
    }

    /// Whether this list is not the first.
    pub(super) fn is_listed_again(&mut self) -> bool {
        std::mem::replace(&mut self.listed, true)
    }

    fn list(&mut self) -> Vec<RangeAction> {
        let ended = self.ticket().map(RangeAction::Unwatch);
        self.phase = Phase::Listing;
        self.audit = Audit::No;
        ended.into_iter().chain([RangeAction::List]).collect()
    }

    pub(super) fn listed(&mut self, answer: Result<Listing>, now: Time) -> Vec<RangeAction> {
        let Listing { revision, nodes } = match answer {
            Ok(listing) if self.phase == Phase::Listing => listing,
            Ok(_) => return Vec::new(),
            Err(error) => return self.failed(error, now),
        };
        let mut asks = Vec::new();
        if revision < self.revision() {
            asks.push(RangeAction::WentBack);
        }
        self.revision = Some(revision);
        self.keys = nodes.iter().map(|n| (n.key.clone(), n.modified)).collect();
        self.held = None;
        self.fresh = true;
        asks.extend(
            nodes
                .iter()
                .max_by_key(|n| n.modified)
                .cloned()
                .map(RangeAction::Saw),
        );
        let changes = vec![Change::Reset(nodes)];
        asks.push(RangeAction::Tell { revision, changes });
        let from = mutant!(watch_skips_after_list: revision + 2, revision + 1);
        asks.push(RangeAction::Watch {
            from,
            resumed: false,
        });
        asks
    }

    /// What could not be read because of the connection says nothing of the part; what was refused does.
    fn failed(&mut self, error: Error, now: Time) -> Vec<RangeAction> {
        if error.is_retriable() {
            return vec![RangeAction::Break(error)];
        }
        let ended = self.ticket().map(RangeAction::Unwatch);
        self.phase = Phase::Barred(now + self.pace.next_wait());
        self.audit = Audit::No;
        ended
            .into_iter()
            .chain([RangeAction::Lost(error)])
            .collect()
    }

    pub(super) fn watching(&mut self, now: Time) -> Vec<RangeAction> {
        self.logged_in_again = false;
        self.pace.reset();
        if self.held.is_some() {
            return self.compare();
        }
        // Soon, because the store may have compacted between our list and our watch.
        let soon =
            Duration::from_secs(1) + Duration::from_secs(2).mul_f64(self.pace.random_fraction());
        self.audit = Audit::Due(together(now + soon));
        Vec::new()
    }

    fn compare(&mut self) -> Vec<RangeAction> {
        self.audit = Audit::Asked(BTreeMap::new());
        vec![RangeAction::Compare]
    }

    pub(super) fn canceled(&mut self, why: CancelReason, now: Time) -> Vec<RangeAction> {
        self.phase = Phase::Idle;
        self.audit = Audit::No;
        match why {
            CancelReason::Compacted => mutant!(compaction_is_forgotten: Vec::new(), self.list()),
            // The login may have run out; a new one is tried once.
            CancelReason::Refused(error) if !self.logged_in_again => {
                self.logged_in_again = true;
                vec![RangeAction::Break(error)]
            }
            CancelReason::Refused(error) => self.failed(error, now),
            CancelReason::Other(error) => vec![RangeAction::Break(error)],
        }
    }

    pub(super) fn events(&mut self, events: Vec<(u64, Change)>, now: Time) -> Vec<RangeAction> {
        let seen = self.revision();
        let all = events.len();
        let newer = |(modified, _): &(u64, Change)| {
            *modified > seen || mutant!(duplicates_are_told: true, false)
        };
        let events: Vec<_> = events.into_iter().filter(newer).collect();
        let mut asks = Vec::new();
        if events.len() < all {
            asks.push(RangeAction::Duplicates((all - events.len()) as u64));
        }
        let Some(last) = events.iter().map(|(modified, _)| *modified).max() else {
            return asks;
        };
        self.revision = Some(last.max(seen));
        events
            .iter()
            .for_each(|(modified, change)| self.note(*modified, change));
        let puts = events.iter().rev().find_map(|(_, change)| match change {
            Change::Put(node) => Some(node.clone()),
            _ => None,
        });
        asks.extend(puts.map(RangeAction::Saw));
        let changes = events.into_iter().map(|(_, change)| change);
        match &mut self.held {
            Some(held) => held.extend(changes),
            None => asks.push(RangeAction::Tell {
                revision: self.revision(),
                changes: changes.collect(),
            }),
        }
        asks.extend(self.settle_if_explained(now));
        asks
    }

    /// Brings what is known of a key up to date, and takes a doubt away that this explains.
    fn note(&mut self, modified: u64, change: &Change) {
        let deleted = matches!(change, Change::Delete(_));
        let key = match change {
            Change::Put(node) => {
                match self.keys.get_mut(&node.key) {
                    Some(last) => *last = modified,
                    None => drop(self.keys.insert(node.key.clone(), modified)),
                }
                &node.key
            }
            Change::Delete(key) => {
                self.keys.remove(key);
                if let Audit::Asked(deleted) = &mut self.audit {
                    deleted.insert(key.clone(), modified);
                }
                key
            }
            Change::Reset(_) => return,
        };
        if let Audit::Doubt { at, doubts, .. } = &mut self.audit {
            let explained = match doubts.get(key) {
                Some(Differs::Changed(changed)) => modified >= *changed,
                // A put from before the list was taken is followed by the delete that the list shows.
                Some(Differs::Gone) => {
                    deleted || modified > *at || mutant!(a_put_explains_a_loss: true, false)
                }
                None => false,
            };
            // One that came before the list was taken, and is not in it, is gone again in what follows.
            let comes_and_goes = !deleted && modified <= *at && !doubts.contains_key(key);
            if explained {
                doubts.remove(key);
            } else if comes_and_goes && mutant!(settled_before_it_went: false, true) {
                doubts.insert(key.clone(), Differs::Gone);
            }
        }
    }

    pub(super) fn compared(&mut self, answer: Result<KeyRevisions>, now: Time) -> Vec<RangeAction> {
        let Audit::Asked(deleted) = &self.audit else {
            return Vec::new();
        };
        let there = match answer {
            Ok(there) => there,
            Err(error) => return self.failed(error, now),
        };
        let mut doubts = BTreeMap::new();
        for (key, at) in &there.modified {
            let ours = self.keys.get(key);
            // What we saw after the list was taken is not in it.
            let newer = ours.or_else(|| deleted.get(key));
            let newer = newer.is_some_and(|ours| *ours > there.revision);
            if ours != Some(at) && !newer {
                doubts.insert(key.clone(), Differs::Changed(*at));
            }
        }
        for (key, ours) in &self.keys {
            if *ours <= there.revision && !there.modified.contains_key(key) {
                doubts.insert(key.clone(), Differs::Gone);
            }
        }
        if mutant!(comparison_is_not_looked_at: true, false) {
            doubts.clear();
        }
        self.audit = Audit::Doubt {
            at: there.revision,
            doubts,
            until: now + ON_ITS_WAY,
        };
        self.settle_if_explained(now)
    }

    /// Ends a comparison in which nothing is in doubt any more: what was resumed can be told.
    fn settle_if_explained(&mut self, now: Time) -> Vec<RangeAction> {
        let Audit::Doubt { at, doubts, .. } = &self.audit else {
            return Vec::new();
        };
        if !doubts.is_empty() {
            return Vec::new();
        }
        // The keys are as in the list, so nothing up to its revision is unseen.
        let revision = self.revision().max(*at);
        self.revision = Some(revision);
        let wait = AUDIT.mul_f64(0.75 + 0.5 * self.pace.random_fraction());
        self.audit = Audit::Due(together(now + wait));
        let tell = |changes| RangeAction::Tell { revision, changes };
        self.held.take().map(tell).into_iter().collect()
    }

    pub(super) fn tick(&mut self, now: Time) -> Vec<RangeAction> {
        match (&self.phase, &self.audit) {
            (Phase::Barred(until), _) if now >= *until => {
                mutant!(barred_for_ever: Vec::new(), self.list())
            }
            (_, Audit::Due(at)) if now >= *at => self.compare(),
            (_, Audit::Doubt { until, .. }) if now >= *until => {
                let asks = self.list();
                [RangeAction::Mismatch].into_iter().chain(asks).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The next of the moments at which parts are compared.
fn together(at: Time) -> Time {
    let slots = at.as_nanos().div_ceil(TOGETHER.as_nanos());
    TOGETHER * u32::try_from(slots).unwrap_or(u32::MAX)
}
