//! State machine of one key range: list it, watch it, and audit it against the store.
//!
//! ```text
//!                 unknown or distant revision
//! Disconnected ──────────────────────────────▶ Listing ──listed──▶ Watching
//!      │  same epoch, revision close                ▲                  │
//!      └────────────────────────────────────────────│────────────▶ Watching
//!                                                   │ compacted, audit failed
//!                    PermissionDenied ──timer───────┴──────────────────┘
//! ```
//!
//! While the login is renewed, a range without a watch is *suspended*: its state stays current, and its watch is
//! resumed on the next stream.
//!
//! A resumed watch may have missed changes that the store lost. Its changes are withheld until an audit has
//! compared the keys with the store. Other watches are audited soon after they are created, and then every
//! five minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, Result};
use crate::kv::{Change, Key, Node, too_many_keys};
use crate::mutants::mutant;
use crate::watch_sync::audit::{AUDIT_INTERVAL, Audit, round_up_to_batch};
use crate::watch_sync::{CancelReason, KeyRevisions, Listing, RangeId, Time, WatchId};

/// The largest gap in revisions that is replayed by a watch. A larger one costs more than a list.
const MAX_REPLAYED_REVISIONS: u64 = 500;

/// Request of [`WatchedRange`] to [`WatchSync`](super::WatchSync).
pub(super) enum RangeAction {
    List,
    ListKeys,
    Watch {
        from: u64,
        resumed: bool,
    },
    CancelWatch(WatchId),
    /// The store's revision is lower than before: start a new epoch.
    StartEpoch,
    /// Make this put the checkpoint if it is the newest. It may not have been emitted yet.
    RecordPut(Node),
    CountMismatch,
    CountDuplicates(u64),
    RenewLogin,
    Emit {
        revision: u64,
        changes: Vec<Change>,
    },
    MarkStale(Error),
    FailConnection(Error),
}

/// Keeps one key range in sync with the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WatchedRange {
    phase: RangePhase,
    /// The revision up to which everything was received; `None` before the first list.
    revision: Option<u64>,
    /// The existing keys, each with the revision of its last change.
    keys: BTreeMap<Key, u64>,
    /// Changes of a resumed watch that are withheld until the audit.
    withheld: Option<Vec<Change>>,
    audit: Audit,
    /// Whether the state was read from the current connection.
    is_fresh: bool,
    /// Whether the range was listed, or known at the start.
    was_listed: bool,
    /// Whether a refused watch has already led to a new login.
    login_renewed: bool,
    backoff: Backoff,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RangePhase {
    Disconnected,
    Listing,
    /// The watch was requested or created.
    Watching(WatchId),
    /// The watch is resumed after the login was renewed.
    Suspended,
    /// The store denied access; the range is listed again at this time.
    PermissionDenied(Time),
}

impl WatchedRange {
    pub(super) fn new(id: RangeId, known: Option<KeyRevisions>) -> WatchedRange {
        WatchedRange {
            phase: RangePhase::Disconnected,
            revision: known.as_ref().map(|known| known.revision),
            is_fresh: known.is_some(),
            was_listed: known.is_some(),
            keys: known.map(|known| known.modified).unwrap_or_default(),
            withheld: None,
            audit: Audit::Inactive,
            login_renewed: false,
            backoff: Backoff::with_seed(Duration::from_secs(2), Duration::from_secs(10), id),
        }
    }

    pub(super) fn watch_id(&self) -> Option<WatchId> {
        match self.phase {
            RangePhase::Watching(watch) => Some(watch),
            _ => None,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.unwrap_or(0)
    }

    /// Returns the time at which `tick` is due.
    pub(super) fn next_timer(&self) -> Option<Time> {
        match self.phase {
            RangePhase::PermissionDenied(until) => Some(until),
            _ => self.audit.next_timer(),
        }
    }

    /// Sets the id of the watch that was requested.
    pub(super) fn set_watch_id(&mut self, watch: WatchId) {
        self.phase = RangePhase::Watching(watch);
    }

    /// Handles a new connection: resumes the watch if the store has the same epoch, or lists the range.
    pub(super) fn connected(&mut self, same_epoch: bool, revision: u64) -> Vec<RangeAction> {
        let same_epoch = mutant!(every_epoch_is_the_same: true, same_epoch);
        match self.revision {
            Some(known)
                if same_epoch && revision.saturating_sub(known) <= MAX_REPLAYED_REVISIONS =>
            {
                if !self.is_fresh && mutant!(resumed_changes_are_not_withheld: false, true) {
                    self.withheld.get_or_insert_default();
                }
                let from = mutant!(resume_skips_a_revision: known + 2, known + 1);
                vec![RangeAction::Watch {
                    from,
                    resumed: true,
                }]
            }
            _ => self.start_listing(),
        }
    }

    /// Returns true if no key was changed after the revision. A state known at the start may be newer than
    /// everything that was received.
    pub(super) fn is_within(&self, revision: u64) -> bool {
        let within = self.keys.values().all(|modified| *modified <= revision);
        mutant!(keys_newer_than_the_checkpoint_are_trusted: true, within)
    }

    pub(super) fn disconnected(&mut self) {
        self.phase = RangePhase::Disconnected;
        self.audit = Audit::Inactive;
        self.is_fresh = false;
    }

    /// Waits for the next watch stream, if the range is watched or to be watched.
    pub(super) fn suspend(&mut self) {
        self.phase = RangePhase::Suspended;
        self.audit = Audit::Inactive;
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.phase == RangePhase::Suspended
    }

    /// Resumes a suspended watch.
    pub(super) fn resume(&mut self) -> Vec<RangeAction> {
        match (self.is_suspended(), self.revision) {
            (true, Some(known)) => vec![RangeAction::Watch {
                from: known + 1,
                resumed: true,
            }],
            (true, None) => self.start_listing(),
            (false, _) => Vec::new(),
        }
    }

    /// Discards the state, which belongs to an earlier epoch.
    pub(super) fn reset(&mut self) -> Vec<RangeAction> {
        self.revision = None;
        self.withheld = None;
        self.keys.clear();
        match self.phase {
            RangePhase::Watching(_) | RangePhase::Suspended => self.start_listing(),
            RangePhase::Disconnected | RangePhase::Listing | RangePhase::PermissionDenied(_) => {
                Vec::new()
            }
        }
    }

    /// Records a list request. Returns true if it is not the first.
    pub(super) fn record_list(&mut self) -> bool {
        std::mem::replace(&mut self.was_listed, true)
    }

    fn start_listing(&mut self) -> Vec<RangeAction> {
        let ended = self.watch_id().map(RangeAction::CancelWatch);
        self.phase = RangePhase::Listing;
        self.audit = Audit::Inactive;
        ended.into_iter().chain([RangeAction::List]).collect()
    }

    /// Handles the response to a list: emits it and watches from its revision.
    pub(super) fn listed(&mut self, response: Result<Listing>, now: Time) -> Vec<RangeAction> {
        let Listing { revision, nodes } = match response {
            Ok(listing) if self.phase == RangePhase::Listing => listing,
            Ok(_) => return Vec::new(),
            Err(error) => return self.read_failed(error, now),
        };
        let mut actions = Vec::new();
        if revision < self.revision() {
            actions.push(RangeAction::StartEpoch);
        }
        self.revision = Some(revision);
        self.keys = nodes.iter().map(|n| (n.key.clone(), n.modified)).collect();
        self.withheld = None;
        self.is_fresh = true;
        let newest = nodes.iter().max_by_key(|node| node.modified).cloned();
        actions.extend(newest.map(RangeAction::RecordPut));
        let changes = vec![Change::Reset(nodes)];
        actions.push(RangeAction::Emit { revision, changes });
        let from = mutant!(watch_skips_after_list: revision + 2, revision + 1);
        actions.push(RangeAction::Watch {
            from,
            resumed: false,
        });
        actions
    }

    /// Handles a failed read. A retriable error concerns the connection; any other concerns this range alone.
    fn read_failed(&mut self, error: Error, now: Time) -> Vec<RangeAction> {
        if error.is_retriable() {
            return vec![RangeAction::FailConnection(error)];
        }
        let ended = self.watch_id().map(RangeAction::CancelWatch);
        self.phase = RangePhase::PermissionDenied(now + self.backoff.next_wait());
        self.audit = Audit::Inactive;
        ended
            .into_iter()
            .chain([RangeAction::MarkStale(error)])
            .collect()
    }

    pub(super) fn watch_created(&mut self, now: Time) -> Vec<RangeAction> {
        self.login_renewed = false;
        self.backoff.reset();
        if self.withheld.is_some() {
            return self.start_audit();
        }
        // Soon, because the store may have compacted between the list and the watch.
        let delay =
            Duration::from_secs(1) + Duration::from_secs(2).mul_f64(self.backoff.random_fraction());
        self.audit = Audit::Scheduled(round_up_to_batch(now + delay));
        Vec::new()
    }

    fn start_audit(&mut self) -> Vec<RangeAction> {
        self.audit = Audit::Requested(BTreeMap::new());
        vec![RangeAction::ListKeys]
    }

    pub(super) fn watch_canceled(&mut self, reason: CancelReason, now: Time) -> Vec<RangeAction> {
        self.phase = RangePhase::Disconnected;
        self.audit = Audit::Inactive;
        match reason {
            CancelReason::Compacted => {
                mutant!(compacted_watch_is_not_relisted: Vec::new(), self.start_listing())
            }
            CancelReason::LoginRefused(_) if !self.login_renewed => {
                self.login_renewed = true;
                self.suspend();
                vec![RangeAction::RenewLogin]
            }
            CancelReason::LoginRefused(error) | CancelReason::PermissionDenied(error) => {
                self.read_failed(error, now)
            }
            CancelReason::Other(error) => vec![RangeAction::FailConnection(error)],
        }
    }

    /// Handles changes of the watch: drops duplicates, then emits or withholds the rest.
    pub(super) fn events(
        &mut self,
        events: Vec<(u64, Change)>,
        max_keys: u64,
        now: Time,
    ) -> Vec<RangeAction> {
        let seen = self.revision();
        let all = events.len();
        let newer = |(modified, _): &(u64, Change)| {
            *modified > seen || mutant!(duplicates_are_emitted: true, false)
        };
        let events: Vec<_> = events.into_iter().filter(newer).collect();
        let mut actions = Vec::new();
        if events.len() < all {
            actions.push(RangeAction::CountDuplicates((all - events.len()) as u64));
        }
        let Some(last) = events.iter().map(|(modified, _)| *modified).max() else {
            return actions;
        };
        self.revision = Some(last.max(seen));
        events
            .iter()
            .for_each(|(modified, change)| self.record_change(*modified, change));
        if self.keys.len() as u64 > max_keys {
            let error = too_many_keys(self.keys.len(), max_keys);
            // The events are not emitted, so the range must be listed, also on another connection.
            (self.revision, self.withheld) = (None, None);
            self.keys.clear();
            actions.extend(self.read_failed(error, now));
            return actions;
        }
        let last_put = events.iter().rev().find_map(|(_, change)| match change {
            Change::Put(node) => Some(node.clone()),
            _ => None,
        });
        actions.extend(last_put.map(RangeAction::RecordPut));
        let changes = events.into_iter().map(|(_, change)| change);
        match &mut self.withheld {
            Some(withheld) => withheld.extend(changes),
            None => actions.push(RangeAction::Emit {
                revision: self.revision(),
                changes: changes.collect(),
            }),
        }
        actions.extend(self.finish_audit(now));
        actions
    }

    /// Updates the keys, and the audit in progress.
    fn record_change(&mut self, modified: u64, change: &Change) {
        match change {
            Change::Put(node) => match self.keys.get_mut(&node.key) {
                Some(last) => *last = modified,
                None => drop(self.keys.insert(node.key.clone(), modified)),
            },
            Change::Delete(key) => drop(self.keys.remove(key)),
            Change::Reset(_) => return,
        }
        self.audit.record_change(modified, change);
    }

    /// Handles the response to a list of the keys.
    pub(super) fn keys_listed(
        &mut self,
        response: Result<KeyRevisions>,
        now: Time,
    ) -> Vec<RangeAction> {
        if !self.audit.is_requested() {
            return Vec::new();
        }
        match response {
            Ok(listed) => self.audit.compare(&self.keys, &listed, now),
            Err(error) => return self.read_failed(error, now),
        }
        self.finish_audit(now)
    }

    /// Ends an audit whose differences are all explained, and emits what was withheld.
    fn finish_audit(&mut self, now: Time) -> Vec<RangeAction> {
        let Some(listed_at) = self.audit.explained_at() else {
            return Vec::new();
        };
        // The keys equal the list, so everything up to its revision was received.
        let revision = self.revision().max(listed_at);
        self.revision = Some(revision);
        let wait = AUDIT_INTERVAL.mul_f64(0.75 + 0.5 * self.backoff.random_fraction());
        self.audit = Audit::Scheduled(round_up_to_batch(now + wait));
        let emit = |changes| RangeAction::Emit { revision, changes };
        self.withheld.take().map(emit).into_iter().collect()
    }

    /// Handles expired timers.
    pub(super) fn tick(&mut self, now: Time) -> Vec<RangeAction> {
        match (&self.phase, &self.audit) {
            (RangePhase::PermissionDenied(until), _) if now >= *until => {
                mutant!(denied_range_is_never_retried: Vec::new(), self.start_listing())
            }
            (_, Audit::Scheduled(at)) if now >= *at => self.start_audit(),
            (_, Audit::Comparing { deadline, .. }) if now >= *deadline => {
                let list = self.start_listing();
                [RangeAction::CountMismatch]
                    .into_iter()
                    .chain(list)
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}
