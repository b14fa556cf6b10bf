//! How parts of a store are followed without a gap: every decision, and nothing else.
//!
//! A [`Follower`] is one machine without I/O, clock or chance of its own. It is told what happened and
//! when, and says what to do: connect, list, watch, compare, tell. A store that keeps revisions drives
//! it ([`crate::store::etcd::v3`] does); tests drive it through histories that no server shows on demand.
//!
//! ```text
//!            Open ──▶ Opened(same history?) ──▶ each part: Watch from where it was, or List
//!   Waiting ◀── Broken ◀── silence, an end, a cancelled watch
//! ```
//!
//! What it rests on:
//!
//! - **A server may lie.** One that was restored from a backup says nothing, and takes a watch from a
//!   revision it has never had. So on each connection the last change seen is read again at its own
//!   revision; another answer is another history, a new *epoch*, and everything is listed.
//! - **A server may lose.** Some versions swallow a delete at the very revision of a compaction. So
//!   after each watch is opened, and every five minutes, keys and revisions are compared with a list.
//!   What was resumed is told only after that.
//! - **A server may repeat.** What is not newer than what was told is dropped.
//! - **A link may be dead without a word.** A stream that is silent is asked for a sign each second.

mod connection_machine;
#[cfg(test)]
mod tests;
mod watched_range;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::Error;
use crate::kv::{Change, Changes, Key, Node};
use crate::mutants::mutant;
use connection_machine::{ConnectionAction, ConnectionMachine};
use watched_range::{RangeAction, WatchedRange};

/// A moment, as the time since some fixed one.
pub(crate) type Time = Duration;

/// Names a part of the store that is followed.
pub(crate) type RangeId = u64;

/// Names one watch on one connection; never used twice.
pub(crate) type WatchId = i64;

/// The newest put that was told: what must still be so in the same history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoint {
    pub(crate) node: Node,
}

/// What reading the mark again showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CheckpointStatus {
    /// It is as it was.
    Same,
    /// It never was: the store was restored from a backup, or is another one.
    Other,
    /// Compacted away, or there was no mark.
    Unknown,
}

/// Everything in a part at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listing {
    pub(crate) revision: u64,
    pub(crate) nodes: Vec<Node>,
}

/// The keys of a part at one revision, and the revision of each one's last change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyRevisions {
    pub(crate) revision: u64,
    pub(crate) modified: BTreeMap<Key, u64>,
}

/// Why the store ended a watch.
#[derive(Clone, Debug)]
pub(crate) enum CancelReason {
    /// What it was to begin with is compacted away.
    Compacted,
    /// The login is not, or no longer, good for it.
    Refused(Error),
    /// Anything else: no leader, too slow, going down.
    Other(Error),
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Follow this part. With `known`, it is at that state already, and told so.
    Follow(RangeId, Option<KeyRevisions>),
    /// Follow it no more.
    Forget(RangeId),
    /// Somebody needs the connection.
    Want,
    /// A connection was made, and shows the store at `head`.
    Opened {
        verdict: CheckpointStatus,
        head: u64,
    },
    /// The connection could not be made, or failed, or is not to be trusted any more.
    Broken(Error),
    /// The answer to `List`.
    Listed(RangeId, Result<Listing, Error>),
    /// The answer to `Compare`.
    Compared(RangeId, Result<KeyRevisions, Error>),
    /// The watch stands.
    Watching(WatchId),
    /// Changes, each with its revision, in order, never a part of a revision.
    Events(WatchId, Vec<(u64, Change)>),
    /// The store ended the watch.
    Canceled(WatchId, CancelReason),
    /// A sign of life.
    Heard,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Connect to the `endpoint`-th and read the mark there.
    Open {
        endpoint: usize,
        mark: Option<Checkpoint>,
    },
    /// Drop the connection, for this reason; nothing of it is heard any more.
    Close(Error),
    /// List everything in the part.
    List(RangeId),
    /// List the keys of the part.
    Compare(RangeId),
    /// Watch the part from this revision on.
    Watch(RangeId, WatchId, u64),
    /// End that watch.
    Unwatch(WatchId),
    /// Ask the stream for a sign of life.
    AskSign,
    /// Whole revisions, for whoever follows the part. Also says that the part is current again.
    Tell(RangeId, Changes),
    /// The part may be out of date from now on.
    Lost(RangeId, Error),
}

/// What a follower has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SyncCounters {
    /// Connections made.
    pub(crate) connects: u64,
    /// Lists asked for after the first of each part.
    pub(crate) relists: u64,
    /// Watches that went on from where they were.
    pub(crate) resumes: u64,
    /// Times the store turned out to have another history.
    pub(crate) epochs: u64,
    /// Changes dropped because they were told before.
    pub(crate) duplicates: u64,
    /// Comparisons that showed that the store had lost a change.
    pub(crate) mismatches: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    link: ConnectionMachine,
    parts: BTreeMap<RangeId, WatchedRange>,
    /// Whose each watch is.
    watches: BTreeMap<WatchId, RangeId>,
    /// When which part is to be stepped.
    due: BTreeSet<(Time, RangeId)>,
    /// Which history of the store this is; grows when it turns out to be another.
    epoch: u64,
    tickets: WatchId,
    counts: SyncCounters,
}

impl Follower {
    /// For a store with so many endpoints. The same seed makes the same choices.
    pub(crate) fn new(endpoints: usize, seed: u64) -> Follower {
        Follower {
            link: ConnectionMachine::new(endpoints, seed),
            parts: BTreeMap::new(),
            watches: BTreeMap::new(),
            due: BTreeSet::new(),
            epoch: 0,
            tickets: 0,
            counts: SyncCounters::default(),
        }
    }

    /// What it has been through.
    pub(crate) fn counts(&self) -> SyncCounters {
        self.counts
    }

    /// When the store last gave a sign of life, while something is watched.
    pub(crate) fn heard(&self) -> Option<Time> {
        self.link.last_heard().filter(|_| !self.watches.is_empty())
    }

    /// When to step with `Tick` at the latest.
    pub(crate) fn wake(&self) -> Option<Time> {
        let part = self.due.first().map(|(at, _)| *at);
        part.into_iter().chain(self.link.wake()).min()
    }

    /// The whole machine.
    pub(crate) fn step(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Follow(id, known) => self.follow(id, known, now, &mut out),
            Input::Forget(id) => self.forget(id, &mut out),
            Input::Want => self.link(ConnectionMachine::want, now, &mut out),
            Input::Opened { verdict, head } => self.opened(verdict, head, now, &mut out),
            Input::Broken(error) => self.broken(&error, now, &mut out),
            Input::Listed(id, answer) => self.part(id, now, &mut out, |p| p.listed(answer, now)),
            Input::Compared(id, answer) => {
                self.part(id, now, &mut out, |p| p.compared(answer, now));
            }
            Input::Watching(ticket) => self.of(ticket, now, &mut out, |p| p.watching(now)),
            Input::Events(ticket, events) => {
                self.of(ticket, now, &mut out, |p| p.events(events, now));
            }
            Input::Canceled(ticket, why) => {
                self.of(ticket, now, &mut out, |p| p.canceled(why, now));
            }
            Input::Heard => self.link.heard(now),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn follow(
        &mut self,
        id: RangeId,
        known: Option<KeyRevisions>,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        let mut part = WatchedRange::new(id, known);
        let head = self.link.head();
        if head.is_none() {
            part.disconnected();
        }
        self.parts.insert(id, part);
        if let Some(head) = head {
            self.part(id, now, out, |part| part.connected(true, head));
        }
        self.link(ConnectionMachine::want, now, out);
    }

    fn forget(&mut self, id: RangeId, out: &mut Vec<Output>) {
        let Some(part) = self.parts.remove(&id) else {
            return;
        };
        if let Some(at) = part.wake() {
            self.due.remove(&(at, id));
        }
        if let Some(ticket) = part.ticket() {
            self.watches.remove(&ticket);
            out.push(Output::Unwatch(ticket));
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        let due: Vec<RangeId> = self
            .due
            .range(..=(now, RangeId::MAX))
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.part(id, now, out, |p| p.tick(now));
        }
        let watched = mutant!(nobody_is_thought_to_watch: false, !self.watches.is_empty());
        self.link(|link| link.tick(watched, now), now, out);
    }

    fn opened(&mut self, verdict: CheckpointStatus, head: u64, now: Time, out: &mut Vec<Output>) {
        if !self.link.opened(head, now) {
            return;
        }
        let verdict = mutant!(the_mark_is_not_compared: CheckpointStatus::Same, verdict);
        self.counts.connects += 1;
        // A store that is behind what it told before has lost it, whatever else it says.
        let known = self
            .parts
            .values()
            .map(WatchedRange::revision)
            .max()
            .unwrap_or(0);
        // Who may not read is not told the revision: no store is at 0.
        let behind = head > 0 && head < known && mutant!(a_lower_revision_is_fine: false, true);
        if verdict == CheckpointStatus::Other || behind {
            self.new_epoch(None, now, out);
        }
        let same = verdict == CheckpointStatus::Same && !behind;
        let proven = self.link.mark_revision();
        let ids: Vec<RangeId> = self.parts.keys().copied().collect();
        for id in ids {
            self.part(id, now, out, |p| {
                p.connected(same && p.is_within(proven), head)
            });
        }
    }

    /// The store is not the one we knew: nothing that was seen says anything about it. Every part is
    /// told anew, but for the one that has just found it out.
    fn new_epoch(&mut self, but: Option<RangeId>, now: Time, out: &mut Vec<Output>) {
        self.epoch += 1;
        self.counts.epochs += 1;
        self.link.forget_mark();
        let others = self.parts.keys().copied().filter(|id| Some(*id) != but);
        let others = others.filter(|_| mutant!(a_new_history_is_told_to_one: false, true));
        for id in others.collect::<Vec<_>>() {
            self.part(id, now, out, WatchedRange::know_nothing);
        }
    }

    fn broken(&mut self, error: &Error, now: Time, out: &mut Vec<Output>) {
        if !self.link.broken(now) {
            return;
        }
        out.push(Output::Close(error.clone()));
        self.watches.clear();
        self.due.clear();
        for (id, part) in &mut self.parts {
            part.disconnected();
            let lost = Output::Lost(*id, error.clone());
            out.push(mutant!(lost_is_told_as_empty: empty(*id, self.epoch), lost));
        }
    }

    /// A step of the link, and what it asks for.
    fn link(
        &mut self,
        step: impl FnOnce(&mut ConnectionMachine) -> Option<ConnectionAction>,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        match step(&mut self.link) {
            None => {}
            Some(ConnectionAction::Open { endpoint, mark }) => {
                out.push(Output::Open { endpoint, mark })
            }
            Some(ConnectionAction::Sign) => out.push(Output::AskSign),
            Some(ConnectionAction::Break(error)) => self.broken(&error, now, out),
        }
    }

    /// A step of the part whose watch this is, heard from the stream.
    fn of(
        &mut self,
        ticket: WatchId,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut WatchedRange) -> Vec<RangeAction>,
    ) {
        self.link.heard(now);
        // A watch that was ended meanwhile may still speak.
        if let Some(id) = self.watches.get(&ticket) {
            self.part(*id, now, out, step);
        }
    }

    fn part(
        &mut self,
        id: RangeId,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut WatchedRange) -> Vec<RangeAction>,
    ) {
        let Some(part) = self.parts.get_mut(&id) else {
            return;
        };
        let (wake, ticket) = (part.wake(), part.ticket());
        let asks = step(part);
        self.reschedule(id, wake, ticket);
        self.obey(id, asks, now, out);
    }

    /// Keeps the tables of timers and watches in line with the part.
    fn reschedule(&mut self, id: RangeId, wake: Option<Time>, ticket: Option<WatchId>) {
        let Some(part) = self.parts.get(&id) else {
            return;
        };
        if part.wake() != wake {
            self.due.extend(part.wake().map(|at| (at, id)));
            if let Some(at) = wake {
                self.due.remove(&(at, id));
            }
        }
        if part.ticket() != ticket {
            self.watches.extend(part.ticket().map(|new| (new, id)));
            if let Some(old) = ticket {
                self.watches.remove(&old);
            }
        }
    }

    /// Makes of what a part asks for what is to be done.
    fn obey(&mut self, id: RangeId, asks: Vec<RangeAction>, now: Time, out: &mut Vec<Output>) {
        for ask in asks {
            match ask {
                RangeAction::List => {
                    let again = self
                        .parts
                        .get_mut(&id)
                        .is_some_and(WatchedRange::is_listed_again);
                    self.counts.relists += u64::from(again);
                    out.push(Output::List(id));
                }
                RangeAction::Compare => out.push(Output::Compare(id)),
                RangeAction::Watch { from, resumed } => {
                    if self.watches.is_empty() {
                        // Until now the store owed us no sign.
                        self.link.heard(now);
                    }
                    self.counts.resumes += u64::from(resumed);
                    self.tickets += 1;
                    let ticket = self.tickets;
                    out.push(Output::Watch(id, ticket, from));
                    self.watches.insert(ticket, id);
                    if let Some(part) = self.parts.get_mut(&id) {
                        part.issued(ticket);
                    }
                }
                RangeAction::Unwatch(ticket) => out.push(Output::Unwatch(ticket)),
                RangeAction::WentBack => self.new_epoch(Some(id), now, out),
                RangeAction::Saw(node) => self.link.saw(node),
                RangeAction::Mismatch => self.counts.mismatches += 1,
                RangeAction::Duplicates(n) => self.counts.duplicates += n,
                RangeAction::Tell { revision, changes } => {
                    let epoch = self.epoch;
                    let changes = Changes {
                        epoch,
                        revision,
                        changes,
                    };
                    out.push(Output::Tell(id, changes));
                }
                RangeAction::Lost(error) => out.push(Output::Lost(id, error)),
                RangeAction::Break(error) => return self.broken(&error, now, out),
            }
        }
    }
}

/// What is planted where a loss is told.
#[cfg(feature = "mutants")]
fn empty(id: RangeId, epoch: u64) -> Output {
    let changes = vec![Change::Reset(Vec::new())];
    let revision = u64::MAX;
    Output::Tell(
        id,
        Changes {
            epoch,
            revision,
            changes,
        },
    )
}
