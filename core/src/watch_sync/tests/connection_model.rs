//! A connection to the store: what it answers and tells, and when that arrives.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::harness::{Check, Harness, Net};
use super::store_model::{Event, State, change, name, node};
use crate::error::{Error, ErrorKind};
use crate::watch_sync::{
    CancelReason, Checkpoint, CheckpointStatus, Input, KeyRevisions, Listing, RangeId, Time,
    WatchId,
};

/// How long making a connection may take: the driver's bound.
pub(super) const OPEN: Duration = Duration::from_secs(3);

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ConnectionModel {
    /// The other end is no more.
    pub(super) dead: bool,
    pub(super) heard: Time,
    /// When it was first asked for a sign since.
    pub(super) asked: Option<Time>,
    pub(super) watches: BTreeMap<WatchId, Watch>,
    pub(super) wire: VecDeque<Msg>,
    pub(super) calls: Vec<Call>,
    /// Something has happened for which it may be given up.
    pub(super) doubtful: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    pub(super) part: RangeId,
    /// The revision it is to go on with.
    pub(super) next: u64,
    pub(super) created: bool,
}

/// On its way on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Msg {
    Watching(WatchId),
    Events(WatchId, Vec<Event>),
    Canceled(WatchId, Why),
    Sign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    Compacted,
    Refused,
    Other,
}

/// A request beside the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) part: RangeId,
    pub(super) list: bool,
    /// What the store has answered.
    pub(super) read: Option<Result<(u64, State), Why>>,
}

pub(super) fn error(why: Why) -> Error {
    match why {
        Why::Refused => Error::new(ErrorKind::PermissionDenied, "refused"),
        Why::Compacted | Why::Other => Error::new(ErrorKind::Unavailable, "no leader"),
    }
}

impl Harness {
    /// The outcome of connecting, once there is one.
    pub(super) fn opened(&mut self) -> Option<Input> {
        let (since, mark) = self.opening.as_ref()?;
        match self.net {
            Net::Refused => Some(Input::Broken(error(Why::Other))),
            Net::Silent | Net::Mute => {
                let late = self.now >= *since + OPEN;
                late.then(|| Input::Broken(Error::new(ErrorKind::Timeout, "slow")))
            }
            Net::Up => {
                let (verdict, head) = self.verdict(mark.as_ref());
                self.opening = None;
                self.tries.since = self.now;
                self.line = Some(ConnectionModel {
                    heard: self.now,
                    ..ConnectionModel::default()
                });
                Some(Input::Opened { verdict, head })
            }
        }
    }

    fn verdict(&self, mark: Option<&Checkpoint>) -> (CheckpointStatus, u64) {
        let head = self.store.head();
        // Whoever may not read is not told the revision either.
        if self.barred {
            return (CheckpointStatus::Unknown, 0);
        }
        let Some(Checkpoint { node: marked }) = mark else {
            return (CheckpointStatus::Unknown, head);
        };
        if marked.modified > head {
            return (CheckpointStatus::Other, head);
        }
        if marked.modified < self.store.compacted {
            return (CheckpointStatus::Unknown, head);
        }
        let key = super::store_model::key(&marked.key);
        let then = self.store.now().at(marked.modified, 1 << key);
        let there = then.get(&key).map(|value| node(key, *value));
        let same = there.as_ref() == Some(marked);
        (
            if same {
                CheckpointStatus::Same
            } else {
                CheckpointStatus::Other
            },
            head,
        )
    }

    /// The end of a connection, where it is noticed.
    pub(super) fn ended(&self) -> Option<Input> {
        let dead = self.line.as_ref()?.dead && self.net != Net::Silent;
        dead.then(|| Input::Broken(Error::new(ErrorKind::Unavailable, "reset")))
    }

    /// The store reads for the n-th request.
    pub(super) fn read(&mut self, n: usize) {
        let reachable = matches!(self.net, Net::Up | Net::Refused);
        let (store, barred) = (&self.store, self.barred);
        let Some(line) = self.line.as_mut().filter(|line| !line.dead && reachable) else {
            return;
        };
        let Some(call) = line.calls.get_mut(n) else {
            return;
        };
        let scope = self.parts.get(&call.part).map_or(0, |told| told.scope);
        call.read.get_or_insert_with(|| match barred {
            true => Err(Why::Refused),
            false => Ok((store.head(), store.now().at(u64::MAX, scope))),
        });
        if let (false, Some(Ok((revision, _))), Some(told)) =
            (call.list, &call.read, self.parts.get_mut(&call.part))
        {
            told.compared(*revision);
        }
    }

    /// The answer to the n-th request arrives; false if there is none.
    pub(super) fn answer(&mut self, n: usize) -> Result<bool, String> {
        self.read(n);
        let reachable = self.net != Net::Silent;
        let Some(line) = self.line.as_mut().filter(|_| reachable) else {
            return Ok(false);
        };
        if line.calls.get(n).is_none_or(|call| call.read.is_none()) {
            return Ok(false);
        }
        let Call { part, list, read } = line.calls.remove(n);
        let read = read.unwrap_or(Err(Why::Other)).map_err(error);
        let input = match list {
            true => Input::Listed(
                part,
                read.map(|(revision, state)| listing(revision, &state)),
            ),
            false => Input::Compared(part, read.map(|(revision, state)| keys(revision, &state))),
        };
        self.step(input)?;
        Ok(true)
    }

    /// The n-th request fails; false if there is none.
    pub(super) fn fail(&mut self, n: usize) -> Check {
        match self.line.as_mut().and_then(|line| line.calls.get_mut(n)) {
            Some(call) => call.read = Some(Err(Why::Other)),
            None => return Ok(()),
        }
        self.answer(n).map(drop)
    }

    pub(super) fn pump_all(&mut self) -> bool {
        let watches = self.line.as_ref().map_or(0, |line| line.watches.len());
        (0..watches).any(|n| self.pump(n, u64::MAX))
    }

    /// The store says what it has to say of the n-th watch, up to so many revisions; false if nothing.
    pub(super) fn pump(&mut self, n: usize, revisions: u64) -> bool {
        let (reachable, asked) = (self.net != Net::Silent, self.net != Net::Mute);
        let Some(line) = self.line.as_mut().filter(|line| !line.dead && reachable) else {
            return false;
        };
        // They are made in the order in which they were asked for.
        let unmade = line.watches.iter().find(|(_, watch)| !watch.created);
        let nth = line.watches.iter().nth(n);
        let Some(ticket) = unmade.filter(|_| asked).or(nth).map(|(ticket, _)| *ticket) else {
            return false;
        };
        let Some(watch) = line.watches.get_mut(&ticket) else {
            return false;
        };
        let told = self.parts.get_mut(&watch.part);
        let head = self.store.head();
        let message = if !watch.created && self.barred {
            Msg::Canceled(ticket, Why::Refused)
        } else if !watch.created {
            watch.created = true;
            Msg::Watching(ticket)
        } else if watch.next < self.store.compacted {
            Msg::Canceled(ticket, Why::Compacted)
        } else if watch.next <= head {
            let to = watch.next.saturating_add(revisions.max(1) - 1).min(head);
            let scope = told.as_ref().map_or(0, |told| told.scope);
            let (events, swallowed) = self.store.events(watch.next, to, scope);
            if let Some(told) = told {
                told.swallowed.extend(swallowed);
            }
            watch.next = to + 1;
            Msg::Events(ticket, events)
        } else {
            return false;
        };
        match message {
            // Nothing of it for this part: the store says nothing.
            Msg::Events(_, events) if events.is_empty() => return true,
            Msg::Canceled(..) => drop(line.watches.remove(&ticket)),
            _ => {}
        }
        line.wire.push_back(message);
        true
    }

    /// The store says again what it has said already.
    pub(super) fn repeat(&mut self, n: usize, revisions: u64) {
        let Some(line) = self.line.as_mut().filter(|line| !line.dead) else {
            return;
        };
        let Some((ticket, watch)) = line.watches.iter().filter(|(_, w)| w.created).nth(n) else {
            return;
        };
        let scope = self.parts.get(&watch.part).map_or(0, |told| told.scope);
        let from = watch.next.saturating_sub(revisions);
        let (events, _) = self.store.events(from, watch.next - 1, scope);
        let again = events
            .into_iter()
            .filter(|(at, ..)| *at >= self.store.compacted);
        let again: Vec<Event> = again.collect();
        if !again.is_empty() {
            line.wire.push_back(Msg::Events(*ticket, again));
        }
    }

    /// The store ends the n-th watch.
    pub(super) fn cancel(&mut self, n: usize, why: Why) {
        if let Some(line) = self.line.as_mut()
            && let Some(ticket) = line.watches.keys().nth(n).copied()
        {
            line.watches.remove(&ticket);
            line.wire.push_back(Msg::Canceled(ticket, why));
        }
    }

    /// The next message on the stream arrives; false if there is none.
    pub(super) fn deliver(&mut self) -> Result<bool, String> {
        let reachable = self.net != Net::Silent;
        let Some(line) = self.line.as_mut().filter(|_| reachable) else {
            return Ok(false);
        };
        let Some(message) = line.wire.pop_front() else {
            return Ok(false);
        };
        (line.heard, line.asked) = (self.now, None);
        let input = match message {
            Msg::Watching(ticket) => Input::Watching(ticket),
            Msg::Events(ticket, events) => {
                Input::Events(ticket, events.iter().map(change).collect())
            }
            Msg::Canceled(ticket, Why::Compacted) => {
                Input::Canceled(ticket, CancelReason::Compacted)
            }
            Msg::Canceled(ticket, Why::Refused) => {
                Input::Canceled(ticket, CancelReason::Refused(error(Why::Refused)))
            }
            Msg::Canceled(ticket, Why::Other) => {
                Input::Canceled(ticket, CancelReason::Other(error(Why::Other)))
            }
            Msg::Sign => Input::Heard,
        };
        self.step(input)?;
        Ok(true)
    }
}

fn listing(revision: u64, state: &State) -> Listing {
    let nodes = state.iter().map(|(key, value)| node(*key, *value));
    let nodes = nodes.collect();
    Listing { revision, nodes }
}

pub(super) fn keys(revision: u64, state: &State) -> KeyRevisions {
    let modified = state
        .iter()
        .map(|(key, value)| (name(*key), value.modified));
    let modified = modified.collect();
    KeyRevisions { revision, modified }
}
