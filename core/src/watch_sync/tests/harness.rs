//! A store, a network, and time, driving a real [`Follower`] the way its driver does.
//!
//! What the driver keeps to, the world keeps to: answers of a connection that was given up are never
//! heard; answers on the stream come in order, others may overtake; what is refused says so.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::connection_model::{Call, ConnectionModel, Msg, OPEN, Watch, Why, keys};
use super::observer::Observer;
use super::store_model::{Scope, Store};
use crate::error::Error;
use crate::watch_sync::{Checkpoint, Follower, Input, Output, RangeId, Time};

pub(super) type Check = Result<(), String>;

/// How many members the store has.
pub(super) const MEMBERS: usize = 3;
/// A link on which something came more lately is not dead.
const QUIET: Duration = Duration::from_millis(1400);
/// In what time a dead link must be noticed.
const NOTICED: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Net {
    Up,
    /// What is connected stays so; nobody new is let in.
    Refused,
    /// Nothing arrives, in either direction, and nobody says so.
    Silent,
    /// What we say does not arrive; what the store says does.
    Mute,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Harness {
    pub(super) follower: Follower,
    pub(super) store: Store,
    pub(super) now: Time,
    pub(super) net: Net,
    /// Answers on the stream, and other answers, come only when they are let.
    pub(super) slow_stream: bool,
    pub(super) slow_calls: bool,
    /// We may not read.
    pub(super) barred: bool,
    pub(super) parts: BTreeMap<RangeId, Observer>,
    pub(super) followed: RangeId,
    pub(super) line: Option<ConnectionModel>,
    pub(super) opening: Option<(Time, Option<Checkpoint>)>,
    /// What is known of the tries to connect, to judge their pace.
    pub(super) tries: Tries,
    /// All that the machine has said.
    pub(super) trace: Trace,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tries {
    endpoint: Option<usize>,
    failures: u32,
    pub(super) since: Time,
    not_before: Time,
}

/// A hash of all that was said. Worlds that differ in their past alone are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace(pub(super) u64);

impl PartialEq for Trace {
    fn eq(&self, _: &Trace) -> bool {
        true
    }
}

impl Eq for Trace {}

impl Hash for Trace {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Trace {
    fn note(&mut self, output: &Output, now: Time) {
        let mut hasher = DefaultHasher::new();
        (self.0, now).hash(&mut hasher);
        match output {
            Output::Tell(id, told) => {
                (id, told.epoch, told.revision, &told.changes).hash(&mut hasher);
            }
            Output::Watch(id, ticket, from) => (id, ticket, from).hash(&mut hasher),
            Output::Open { endpoint, mark } => (endpoint, mark).hash(&mut hasher),
            other => std::mem::discriminant(other).hash(&mut hasher),
        }
        self.0 = hasher.finish();
    }
}

impl Harness {
    pub(super) fn new(store: Store, seed: u64) -> Harness {
        Harness {
            follower: Follower::new(MEMBERS, seed),
            store,
            now: Duration::from_secs(1),
            net: Net::Up,
            slow_stream: false,
            slow_calls: false,
            barred: false,
            parts: BTreeMap::new(),
            followed: 0,
            line: None,
            opening: None,
            tries: Tries::default(),
            trace: Trace(0),
        }
    }

    /// Somebody follows the scope, from nothing or from what was read just now.
    pub(super) fn follow(&mut self, scope: Scope, known: bool) -> Check {
        // No name is used twice.
        self.followed += 1;
        let id = self.followed;
        let known = known.then(|| (self.store.head(), self.store.now().at(u64::MAX, scope)));
        self.parts.insert(id, Observer::new(scope, known.clone()));
        let known = known.map(|(revision, state)| keys(revision, &state));
        self.step(Input::Follow(id, known))
    }

    pub(super) fn forget(&mut self, id: RangeId) -> Check {
        self.parts.remove(&id);
        self.step(Input::Forget(id))
    }

    /// One step of the machine, and what it says is to be done.
    pub(super) fn step(&mut self, input: Input) -> Check {
        if let (None, Some(line)) = (self.follower.heard(), &mut self.line) {
            // Nobody listens.
            (line.heard, line.asked) = (self.now, None);
        }
        if let Input::Broken(_)
        | Input::Canceled(..)
        | Input::Listed(_, Err(_))
        | Input::Compared(_, Err(_)) = &input
            && let Some(line) = &mut self.line
        {
            line.doubtful = true;
        }
        for output in self.follower.step(input, self.now) {
            self.obey(output)?;
        }
        Ok(())
    }

    fn obey(&mut self, output: Output) -> Check {
        self.trace.note(&output, self.now);
        match output {
            Output::Open { endpoint, mark } => self.open(endpoint, mark),
            Output::Close(error) => self.close(&error),
            Output::List(id) => self.call(id, true),
            Output::Compare(id) => self.call(id, false),
            Output::Watch(part, ticket, next) => {
                let (line, told) = (self.line.as_mut(), self.parts.get_mut(&part));
                let (line, told) = line.zip(told).ok_or("a watch on no connection")?;
                told.watched();
                let created = false;
                let fresh = line.watches.insert(
                    ticket,
                    Watch {
                        part,
                        next,
                        created,
                    },
                );
                fresh.map_or(Ok(()), |_| Err(format!("ticket {ticket} used twice")))
            }
            Output::Unwatch(ticket) => {
                let line = self
                    .line
                    .as_mut()
                    .ok_or("an end of a watch on no connection")?;
                if line.watches.remove(&ticket).is_some() {
                    line.wire.push_back(Msg::Canceled(ticket, Why::Other));
                }
                Ok(())
            }
            Output::AskSign => {
                let now = self.now;
                let line = self.line.as_mut().ok_or("a sign on no connection")?;
                line.asked.get_or_insert(now);
                if self.net != Net::Silent && self.net != Net::Mute && !line.dead {
                    line.wire.push_back(Msg::Sign);
                }
                Ok(())
            }
            Output::Tell(id, told) => {
                let part = self.parts.get_mut(&id).ok_or("told to nobody")?;
                let checked = part.tell(&told, &self.store);
                checked.map_err(|error| format!("part {id} at {:?}: {error}", self.now))
            }
            Output::Lost(id, _) => {
                self.parts.get_mut(&id).ok_or("told to nobody")?.current = false;
                Ok(())
            }
        }
    }

    fn open(&mut self, endpoint: usize, mark: Option<Checkpoint>) -> Check {
        if self.opening.is_some() || self.line.is_some() {
            return Err("a second connection".into());
        }
        if self.now < self.tries.not_before {
            let early = self.tries.not_before - self.now;
            return Err(format!("a try {early:?} too early"));
        }
        if self.tries.endpoint == Some(endpoint) {
            return Err(format!("endpoint {endpoint} twice in a row"));
        }
        self.tries.endpoint = Some(endpoint);
        self.opening = Some((self.now, mark));
        Ok(())
    }

    fn close(&mut self, why: &Error) -> Check {
        let line = self.line.take();
        if line.is_none() && self.opening.take().is_none() {
            return Err("closed what was not open".into());
        }
        let at_fault = |line: &ConnectionModel| {
            line.doubtful || line.asked.is_some_and(|at| self.now - at >= QUIET)
        };
        if line.as_ref().is_some_and(|line| !at_fault(line)) {
            return Err(format!("a good connection was given up: {why}"));
        }
        if line.is_some() && self.now - self.tries.since >= Duration::from_secs(5) {
            self.tries.failures = 0;
        }
        // A tenth of a wait that doubles from 200 ms to 1.5 s is what it is at least.
        let least =
            Duration::from_millis(20 << self.tries.failures.min(8)).min(Duration::from_millis(150));
        self.tries.failures += 1;
        self.tries.not_before = self.now + least;
        Ok(())
    }

    fn call(&mut self, part: RangeId, list: bool) -> Check {
        let line = self.line.as_mut().ok_or("a request on no connection")?;
        let read = None;
        line.calls.push(Call { part, list, read });
        let same = line
            .calls
            .iter()
            .filter(|call| call.part == part && call.list == list);
        match same.count() {
            1 => Ok(()),
            // A comparison whose answer is not awaited any more may still be under way.
            n if n <= 4 && !list => Ok(()),
            n => Err(format!("{n} requests at a time")),
        }
    }

    /// What comes by itself, comes.
    pub(super) fn flow(&mut self) -> Check {
        for _ in 0..10_000 {
            let more = match self.opened().or_else(|| self.ended()) {
                Some(input) => {
                    self.step(input)?;
                    true
                }
                None => {
                    !self.slow_calls && self.answer(0)?
                        || !self.slow_stream && (self.deliver()? || self.pump_all())
                }
            };
            if !more {
                return Ok(());
            }
        }
        Err("no rest".into())
    }

    /// Time passes, and all that comes by itself comes.
    pub(super) fn wait(&mut self, time: Duration) -> Check {
        let until = self.now + time;
        for _ in 0..20_000 {
            self.flow()?;
            let slow = self.opening.as_ref().map(|(since, _)| *since + OPEN);
            let wake = self.follower.wake().into_iter().chain(slow).min();
            match wake.filter(|wake| *wake <= until) {
                Some(wake) => self.now = self.now.max(wake),
                None => {
                    self.now = until;
                    return self.check_noticed();
                }
            }
            if self.follower.wake().is_some_and(|wake| wake <= self.now) {
                self.step(Input::Tick)?;
            }
            self.check_noticed()?;
        }
        Err("it never sleeps".into())
    }

    /// We are stopped for a while, and see nothing of it.
    pub(super) fn sleep(&mut self, time: Duration) -> Check {
        self.now += time;
        if let Some(line) = &mut self.line {
            (line.heard, line.asked) = (self.now, None);
            line.doubtful = true;
        }
        self.step(Input::Tick)
    }

    /// A link on which nothing comes is not kept.
    fn check_noticed(&self) -> Check {
        match &self.line {
            Some(line) if !line.watches.is_empty() && self.now > line.heard + NOTICED => {
                Err(format!(
                    "silent since {:?}, and not noticed at {:?}",
                    line.heard, self.now
                ))
            }
            _ => Ok(()),
        }
    }
}
