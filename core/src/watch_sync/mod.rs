//! Sans-I/O state machine that keeps key ranges in sync with a store without missing a change.
//!
//! [`WatchSync`] has no I/O, clock or randomness of its own. Its inputs are events with their time; its outputs
//! are requests to the store and notifications to subscribers (see [`messages`]). The driver of a store with
//! revisions performs them ([`crate::store::watch_driver`]); tests drive the machine through histories that no
//! server produces on demand.
//!
//! ```text
//!            WatchSync: ranges, watches, timers, epoch
//!             │                                 │ one per range
//!    ConnectionMachine                     WatchedRange ── Audit
//!    connect, back off,                    list, watch, resume,
//!    request progress                      compare, emit
//!
//!   Connect ──▶ Connected(checkpoint status) ──▶ each range: Watch from its revision, or List
//!      ▲                                                         │
//!      └── backoff ◀── ConnectionFailed ◀── silence, end of stream, cancelled watch
//! ```
//!
//! The machine relies on none of these properties of a server:
//!
//! - **One epoch.** A server that was restored from a backup reports nothing and accepts a watch from a revision
//!   that it never had. After connecting, the machine therefore reads the last received put (the checkpoint)
//!   at its revision. If the response differs, the store has a new *epoch* and every range is listed again.
//! - **Complete watches.** Some versions of etcd lose a delete at the revision of a compaction. After a watch is
//!   created, and every five minutes, the keys and their revisions are therefore compared with a list. Changes
//!   of a resumed watch are emitted only after this audit.
//! - **No duplicates.** A change that is not newer than the last emitted one is dropped.
//! - **Reported failures.** A silent stream must answer a progress request each second, or the connection is
//!   declared dead.

mod audit;
mod connection_machine;
mod messages;
#[cfg(test)]
mod tests;
mod watched_range;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
#[cfg(feature = "mutants")]
use crate::kv::Change;
use crate::kv::Changes;
use crate::mutants::mutant;
use connection_machine::{ConnectionAction, ConnectionMachine};
use watched_range::{RangeAction, WatchedRange};

pub(crate) use messages::{
    CancelReason, Checkpoint, CheckpointStatus, Input, KeyRevisions, Listing, Output, RangeId,
    SyncCounters, Time, WatchId,
};

/// Keeps all watched key ranges of one store in sync over one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WatchSync {
    connection: ConnectionMachine,
    ranges: BTreeMap<RangeId, WatchedRange>,
    /// The range of each watch.
    watches: BTreeMap<WatchId, RangeId>,
    /// The timers of the ranges.
    timers: BTreeSet<(Time, RangeId)>,
    /// Number of the store's current history; incremented when the store turns out to have another.
    epoch: u64,
    last_watch_id: WatchId,
    /// Whether the login is being renewed: no watch can be requested meanwhile.
    is_login_renewing: bool,
    /// The largest number of keys of a range.
    max_keys: u64,
    counters: SyncCounters,
}

impl WatchSync {
    /// Creates a machine for a store with this number of endpoints. Equal seeds make equal choices.
    pub(crate) fn new(endpoints: usize, seed: u64) -> WatchSync {
        WatchSync {
            connection: ConnectionMachine::new(endpoints, seed),
            ranges: BTreeMap::new(),
            watches: BTreeMap::new(),
            timers: BTreeSet::new(),
            epoch: 0,
            last_watch_id: 0,
            is_login_renewing: false,
            max_keys: u64::MAX,
            counters: SyncCounters::default(),
        }
    }

    /// Limits the keys of each range. A watch that exceeds the limit ends as a list that exceeds it does: the range is
    /// stale until a list is within the limit.
    pub(crate) fn with_max_keys(self, max_keys: u64) -> WatchSync {
        WatchSync { max_keys, ..self }
    }

    pub(crate) fn counters(&self) -> SyncCounters {
        self.counters
    }

    /// Returns the time of the store's last sign of life, or `None` while nothing is watched.
    pub(crate) fn last_activity(&self) -> Option<Time> {
        let last = self.connection.last_activity();
        last.filter(|_| !self.watches.is_empty())
    }

    /// Returns the time of the next timer: [`Input::Tick`] is due then.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        let range = self.timers.first().map(|(at, _)| *at);
        range.into_iter().chain(self.connection.next_timer()).min()
    }

    /// Handles one input and returns the outputs, in the order in which they must be performed.
    pub(crate) fn step(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::AddRange(id, known) => self.add_range(id, known, now, &mut out),
            Input::RemoveRange(id) => self.remove_range(id, &mut out),
            Input::RequestConnection => {
                self.step_connection(ConnectionMachine::request, now, &mut out);
            }
            Input::Connected {
                checkpoint,
                revision,
            } => self.connected(checkpoint, revision, now, &mut out),
            Input::ConnectionFailed(error) => self.connection_failed(&error, now, &mut out),
            Input::Listed(id, response) => {
                self.step_range(id, now, &mut out, |range| range.listed(response, now));
            }
            Input::KeysListed(id, response) => {
                self.step_range(id, now, &mut out, |range| range.keys_listed(response, now));
            }
            Input::WatchCreated(watch) => {
                self.step_watch(watch, now, &mut out, |range| range.watch_created(now));
            }
            Input::Events(watch, events) => {
                let max_keys = self.max_keys;
                self.step_watch(watch, now, &mut out, |range| {
                    range.events(events, max_keys, now)
                });
            }
            Input::WatchCanceled(watch, reason) => {
                let step = |range: &mut WatchedRange| range.watch_canceled(reason, now);
                self.step_watch(watch, now, &mut out, step);
            }
            Input::LoginRenewed => self.login_renewed(now, &mut out),
            Input::Activity => self.connection.record_activity(now),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn add_range(
        &mut self,
        id: RangeId,
        known: Option<KeyRevisions>,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        let mut range = WatchedRange::new(id, known);
        let revision = self.connection.connected_revision();
        if revision.is_none() {
            range.disconnected();
        }
        self.ranges.insert(id, range);
        if let Some(revision) = revision {
            self.step_range(id, now, out, |range| range.connected(true, revision));
        }
        self.step_connection(ConnectionMachine::request, now, out);
    }

    fn remove_range(&mut self, id: RangeId, out: &mut Vec<Output>) {
        let Some(range) = self.ranges.remove(&id) else {
            return;
        };
        if let Some(at) = range.next_timer() {
            self.timers.remove(&(at, id));
        }
        if let Some(watch) = range.watch_id() {
            self.watches.remove(&watch);
            out.push(Output::CancelWatch(watch));
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        let due: Vec<RangeId> = self
            .timers
            .range(..=(now, RangeId::MAX))
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.step_range(id, now, out, |range| range.tick(now));
        }
        let has_watches = mutant!(watches_are_not_counted: false, !self.watches.is_empty());
        let step = |connection: &mut ConnectionMachine| connection.tick(has_watches, now);
        self.step_connection(step, now, out);
    }

    fn connected(
        &mut self,
        status: CheckpointStatus,
        revision: u64,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        if !self.connection.connected(revision, now) {
            return;
        }
        let status = mutant!(checkpoint_is_ignored: CheckpointStatus::Unchanged, status);
        self.counters.connects += 1;
        let known = self.ranges.values().map(WatchedRange::revision);
        let known = known.max().unwrap_or(0);
        // A store behind an emitted revision has lost it. The revision is 0 if the login may not read it.
        let is_behind =
            revision > 0 && revision < known && mutant!(lower_revision_is_accepted: false, true);
        if status == CheckpointStatus::Diverged || is_behind {
            self.start_epoch(None, now, out);
        }
        let same_epoch = status == CheckpointStatus::Unchanged && !is_behind;
        let proven = self.connection.checkpoint_revision();
        let ids: Vec<RangeId> = self.ranges.keys().copied().collect();
        for id in ids {
            self.step_range(id, now, out, |range| {
                range.connected(same_epoch && range.is_within(proven), revision)
            });
        }
    }

    /// Starts a new epoch: discards the state of every range except the one that detected it.
    fn start_epoch(&mut self, detected_by: Option<RangeId>, now: Time, out: &mut Vec<Output>) {
        self.epoch += 1;
        self.counters.epochs += 1;
        self.connection.clear_checkpoint();
        let others = self.ranges.keys().copied();
        let others = others.filter(|id| Some(*id) != detected_by);
        let others = others.filter(|_| mutant!(new_epoch_resets_one_range: false, true));
        for id in others.collect::<Vec<_>>() {
            self.step_range(id, now, out, WatchedRange::reset);
        }
    }

    fn connection_failed(&mut self, error: &Error, now: Time, out: &mut Vec<Output>) {
        if !self.connection.failed(now) {
            return;
        }
        out.push(Output::Disconnect(error.clone()));
        self.is_login_renewing = false;
        self.watches.clear();
        self.timers.clear();
        for (id, range) in &mut self.ranges {
            range.disconnected();
            let stale = Output::MarkStale(*id, error.clone());
            out.push(mutant!(disconnect_emits_an_empty_range: empty_range(*id, self.epoch), stale));
        }
    }

    /// Renews the login, unless that is in progress, and suspends all watches.
    fn renew_login(&mut self, now: Time, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.is_login_renewing, true) {
            return;
        }
        out.push(Output::RenewLogin);
        for id in std::mem::take(&mut self.watches).into_values() {
            self.step_range(id, now, out, |range| {
                range.suspend();
                Vec::new()
            });
        }
    }

    /// Resumes the suspended watches.
    fn login_renewed(&mut self, now: Time, out: &mut Vec<Output>) {
        if !std::mem::take(&mut self.is_login_renewing) {
            return;
        }
        self.connection.record_activity(now);
        let suspended = self.ranges.iter().filter(|(_, range)| range.is_suspended());
        let suspended: Vec<RangeId> = suspended.map(|(id, _)| *id).collect();
        for id in mutant!(renewed_login_resumes_no_watch: Vec::new(), suspended) {
            self.step_range(id, now, out, WatchedRange::resume);
        }
    }

    /// Runs a step of the connection and its action.
    fn step_connection(
        &mut self,
        step: impl FnOnce(&mut ConnectionMachine) -> Option<ConnectionAction>,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        match step(&mut self.connection) {
            None => {}
            Some(ConnectionAction::Connect {
                endpoint,
                checkpoint,
            }) => out.push(Output::Connect {
                endpoint,
                checkpoint,
            }),
            Some(ConnectionAction::RequestProgress) => out.push(Output::RequestProgress),
            Some(ConnectionAction::Fail(error)) => self.connection_failed(&error, now, out),
        }
    }

    /// Runs a step of the range of a watch, for a response on the watch stream.
    fn step_watch(
        &mut self,
        watch: WatchId,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut WatchedRange) -> Vec<RangeAction>,
    ) {
        self.connection.record_activity(now);
        // A cancelled watch may still have responses in flight.
        if let Some(id) = self.watches.get(&watch) {
            self.step_range(*id, now, out, step);
        }
    }

    /// Runs a step of a range and its actions.
    fn step_range(
        &mut self,
        id: RangeId,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut WatchedRange) -> Vec<RangeAction>,
    ) {
        let Some(range) = self.ranges.get_mut(&id) else {
            return;
        };
        let (timer, watch) = (range.next_timer(), range.watch_id());
        let actions = step(range);
        self.reindex(id, timer, watch);
        self.apply(id, actions, now, out);
    }

    /// Updates the indexes of timers and watches; `timer` and `watch` are the values before the step.
    fn reindex(&mut self, id: RangeId, timer: Option<Time>, watch: Option<WatchId>) {
        let Some(range) = self.ranges.get(&id) else {
            return;
        };
        if range.next_timer() != timer {
            self.timers.extend(range.next_timer().map(|at| (at, id)));
            if let Some(at) = timer {
                self.timers.remove(&(at, id));
            }
        }
        if range.watch_id() != watch {
            self.watches.extend(range.watch_id().map(|new| (new, id)));
            if let Some(old) = watch {
                self.watches.remove(&old);
            }
        }
    }

    /// Translates the actions of a range into outputs.
    fn apply(&mut self, id: RangeId, actions: Vec<RangeAction>, now: Time, out: &mut Vec<Output>) {
        for action in actions {
            match action {
                RangeAction::List => {
                    let range = self.ranges.get_mut(&id);
                    let is_relist = range.is_some_and(WatchedRange::record_list);
                    self.counters.relists += u64::from(is_relist);
                    out.push(Output::List(id));
                }
                RangeAction::ListKeys => out.push(Output::ListKeys(id)),
                RangeAction::Watch { .. } if self.is_login_renewing => {
                    if let Some(range) = self.ranges.get_mut(&id) {
                        range.suspend();
                    }
                }
                RangeAction::Watch { from, resumed } => {
                    if self.watches.is_empty() {
                        // Until now the store had nothing to send.
                        self.connection.record_activity(now);
                    }
                    self.counters.resumes += u64::from(resumed);
                    self.last_watch_id += 1;
                    let watch = self.last_watch_id;
                    out.push(Output::Watch(id, watch, from));
                    self.watches.insert(watch, id);
                    if let Some(range) = self.ranges.get_mut(&id) {
                        range.set_watch_id(watch);
                    }
                }
                RangeAction::RenewLogin => self.renew_login(now, out),
                RangeAction::CancelWatch(watch) => out.push(Output::CancelWatch(watch)),
                RangeAction::StartEpoch => self.start_epoch(Some(id), now, out),
                RangeAction::RecordPut(node) => self.connection.record_put(node),
                RangeAction::CountMismatch => self.counters.mismatches += 1,
                RangeAction::CountDuplicates(n) => self.counters.duplicates += n,
                RangeAction::Emit { revision, changes } => {
                    let epoch = self.epoch;
                    let changes = Changes {
                        epoch,
                        revision,
                        changes,
                    };
                    out.push(Output::Emit(id, changes));
                }
                RangeAction::MarkStale(error) => out.push(Output::MarkStale(id, error)),
                RangeAction::FailConnection(error) => {
                    return self.connection_failed(&error, now, out);
                }
            }
        }
    }
}

/// The wrong output of a mutant: an empty range in place of a stale one.
#[cfg(feature = "mutants")]
fn empty_range(id: RangeId, epoch: u64) -> Output {
    let changes = vec![Change::Reset(Vec::new())];
    let revision = u64::MAX;
    Output::Emit(
        id,
        Changes {
            epoch,
            revision,
            changes,
        },
    )
}
