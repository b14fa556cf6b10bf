//! How parts of a store are followed without a gap: every decision, and nothing else.
//!
//! A [`Follower`] is one machine without I/O, clock or chance of its own. It is told what happened and
//! when, and says what to do: connect, list, watch, compare, tell. A store that keeps revisions drives
//! it ([`crate::store::etcd3`] does); tests drive it through histories that no server shows on demand.
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

mod link;
mod part;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::Error;
use crate::planted::planted;
use crate::tree::{Change, Changes, Key, Node};
use link::{Link, LinkAsks};
use part::{Part, PartAsks};

/// A moment, as the time since some fixed one.
pub(crate) type Time = Duration;

/// Names a part of the store that is followed.
pub(crate) type PartId = u64;

/// Names one watch on one connection; never used twice.
pub(crate) type Ticket = i64;

/// The newest put that was told: what must still be so in the same history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    pub(crate) node: Node,
}

/// What reading the mark again showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
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
pub(crate) struct Keys {
    pub(crate) revision: u64,
    pub(crate) modified: BTreeMap<Key, u64>,
}

/// Why the store ended a watch.
#[derive(Clone, Debug)]
pub(crate) enum Cancel {
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
    Follow(PartId, Option<Keys>),
    /// Follow it no more.
    Forget(PartId),
    /// Somebody needs the connection.
    Want,
    /// A connection was made, and shows the store at `head`.
    Opened { verdict: Verdict, head: u64 },
    /// The connection could not be made, or failed, or is not to be trusted any more.
    Broken(Error),
    /// The answer to `List`.
    Listed(PartId, Result<Listing, Error>),
    /// The answer to `Compare`.
    Compared(PartId, Result<Keys, Error>),
    /// The watch stands.
    Watching(Ticket),
    /// Changes, each with its revision, in order, never a part of a revision.
    Events(Ticket, Vec<(u64, Change)>),
    /// The store ended the watch.
    Canceled(Ticket, Cancel),
    /// A sign of life.
    Heard,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Connect to the `endpoint`-th and read the mark there.
    Open { endpoint: usize, mark: Option<Mark> },
    /// Drop the connection, for this reason; nothing of it is heard any more.
    Close(Error),
    /// List everything in the part.
    List(PartId),
    /// List the keys of the part.
    Compare(PartId),
    /// Watch the part from this revision on.
    Watch(PartId, Ticket, u64),
    /// End that watch.
    Unwatch(Ticket),
    /// Ask the stream for a sign of life.
    AskSign,
    /// Whole revisions, for whoever follows the part. Also says that the part is current again.
    Tell(PartId, Changes),
    /// The part may be out of date from now on.
    Lost(PartId, Error),
}

/// What a follower has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counts {
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
    link: Link,
    parts: BTreeMap<PartId, Part>,
    /// Whose each watch is.
    watches: BTreeMap<Ticket, PartId>,
    /// When which part is to be stepped.
    due: BTreeSet<(Time, PartId)>,
    /// Which history of the store this is; grows when it turns out to be another.
    epoch: u64,
    tickets: Ticket,
    counts: Counts,
}

impl Follower {
    /// For a store with so many endpoints. The same seed makes the same choices.
    pub(crate) fn new(endpoints: usize, seed: u64) -> Follower {
        Follower {
            link: Link::new(endpoints, seed),
            parts: BTreeMap::new(),
            watches: BTreeMap::new(),
            due: BTreeSet::new(),
            epoch: 0,
            tickets: 0,
            counts: Counts::default(),
        }
    }

    /// What it has been through.
    pub(crate) fn counts(&self) -> Counts {
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
            Input::Want => self.link(Link::want, now, &mut out),
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

    fn follow(&mut self, id: PartId, known: Option<Keys>, now: Time, out: &mut Vec<Output>) {
        let mut part = Part::new(id, known);
        let head = self.link.head();
        if head.is_none() {
            part.disconnected();
        }
        self.parts.insert(id, part);
        if let Some(head) = head {
            self.part(id, now, out, |part| part.connected(true, head));
        }
        self.link(Link::want, now, out);
    }

    fn forget(&mut self, id: PartId, out: &mut Vec<Output>) {
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
        let due: Vec<PartId> = self
            .due
            .range(..=(now, PartId::MAX))
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.part(id, now, out, |p| p.tick(now));
        }
        let watched = planted!(nobody_is_thought_to_watch: false, !self.watches.is_empty());
        self.link(|link| link.tick(watched, now), now, out);
    }

    fn opened(&mut self, verdict: Verdict, head: u64, now: Time, out: &mut Vec<Output>) {
        if !self.link.opened(head, now) {
            return;
        }
        let verdict = planted!(the_mark_is_not_compared: Verdict::Same, verdict);
        self.counts.connects += 1;
        // A store that is behind what it told before has lost it, whatever else it says.
        let known = self.parts.values().map(Part::revision).max().unwrap_or(0);
        // Who may not read is not told the revision: no store is at 0.
        let behind = head > 0 && head < known && planted!(a_lower_revision_is_fine: false, true);
        if verdict == Verdict::Other || behind {
            self.new_epoch(None, now, out);
        }
        let same = verdict == Verdict::Same && !behind;
        let proven = self.link.mark_revision();
        let ids: Vec<PartId> = self.parts.keys().copied().collect();
        for id in ids {
            self.part(id, now, out, |p| {
                p.connected(same && p.is_within(proven), head)
            });
        }
    }

    /// The store is not the one we knew: nothing that was seen says anything about it. Every part is
    /// told anew, but for the one that has just found it out.
    fn new_epoch(&mut self, but: Option<PartId>, now: Time, out: &mut Vec<Output>) {
        self.epoch += 1;
        self.counts.epochs += 1;
        self.link.forget_mark();
        let others = self.parts.keys().copied().filter(|id| Some(*id) != but);
        let others = others.filter(|_| planted!(a_new_history_is_told_to_one: false, true));
        for id in others.collect::<Vec<_>>() {
            self.part(id, now, out, Part::know_nothing);
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
            out.push(planted!(lost_is_told_as_empty: empty(*id, self.epoch), lost));
        }
    }

    /// A step of the link, and what it asks for.
    fn link(
        &mut self,
        step: impl FnOnce(&mut Link) -> Option<LinkAsks>,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        match step(&mut self.link) {
            None => {}
            Some(LinkAsks::Open { endpoint, mark }) => out.push(Output::Open { endpoint, mark }),
            Some(LinkAsks::Sign) => out.push(Output::AskSign),
            Some(LinkAsks::Break(error)) => self.broken(&error, now, out),
        }
    }

    /// A step of the part whose watch this is, heard from the stream.
    fn of(
        &mut self,
        ticket: Ticket,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut Part) -> Vec<PartAsks>,
    ) {
        self.link.heard(now);
        // A watch that was ended meanwhile may still speak.
        if let Some(id) = self.watches.get(&ticket) {
            self.part(*id, now, out, step);
        }
    }

    fn part(
        &mut self,
        id: PartId,
        now: Time,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut Part) -> Vec<PartAsks>,
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
    fn reschedule(&mut self, id: PartId, wake: Option<Time>, ticket: Option<Ticket>) {
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
    fn obey(&mut self, id: PartId, asks: Vec<PartAsks>, now: Time, out: &mut Vec<Output>) {
        for ask in asks {
            match ask {
                PartAsks::List => {
                    let again = self.parts.get_mut(&id).is_some_and(Part::is_listed_again);
                    self.counts.relists += u64::from(again);
                    out.push(Output::List(id));
                }
                PartAsks::Compare => out.push(Output::Compare(id)),
                PartAsks::Watch { from, resumed } => {
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
                PartAsks::Unwatch(ticket) => out.push(Output::Unwatch(ticket)),
                PartAsks::WentBack => self.new_epoch(Some(id), now, out),
                PartAsks::Saw(node) => self.link.saw(node),
                PartAsks::Mismatch => self.counts.mismatches += 1,
                PartAsks::Duplicates(n) => self.counts.duplicates += n,
                PartAsks::Tell { revision, changes } => {
                    let epoch = self.epoch;
                    let changes = Changes {
                        epoch,
                        revision,
                        changes,
                    };
                    out.push(Output::Tell(id, changes));
                }
                PartAsks::Lost(error) => out.push(Output::Lost(id, error)),
                PartAsks::Break(error) => return self.broken(&error, now, out),
            }
        }
    }
}

/// What is planted where a loss is told.
#[cfg(feature = "planted")]
fn empty(id: PartId, epoch: u64) -> Output {
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
