//! A store, a network, and time, driving a real [`Follower`] the way its driver does.
//!
//! What the driver keeps to, the world keeps to: answers of a connection that was given up are never
//! heard; answers on the stream come in order, others may overtake; what is refused says so.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::store::{Event, Scope, State, Store, change, name, node};
use super::told::Told;
use crate::error::{Error, Kind};
use crate::follow::{
    Cancel, Follower, Input, Keys, Listing, Mark, Output, PartId, Ticket, Time, Verdict,
};

pub(super) type Check = Result<(), String>;

/// How many members the store has.
pub(super) const MEMBERS: usize = 3;
/// How long making a connection may take: the driver's bound.
const OPEN: Duration = Duration::from_secs(3);
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
pub(super) struct World {
    pub(super) follower: Follower,
    pub(super) store: Store,
    pub(super) now: Time,
    pub(super) net: Net,
    /// Answers on the stream, and other answers, come only when they are let.
    pub(super) slow_stream: bool,
    pub(super) slow_calls: bool,
    /// We may not read.
    pub(super) barred: bool,
    pub(super) parts: BTreeMap<PartId, Told>,
    followed: PartId,
    pub(super) line: Option<Line>,
    opening: Option<(Time, Option<Mark>)>,
    /// What is known of the tries to connect, to judge their pace.
    tries: Tries,
    /// All that the machine has said.
    pub(super) trace: Trace,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Tries {
    endpoint: Option<usize>,
    failures: u32,
    since: Time,
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

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// The other end is no more.
    pub(super) dead: bool,
    heard: Time,
    /// When it was first asked for a sign since.
    asked: Option<Time>,
    pub(super) watches: BTreeMap<Ticket, Watch>,
    pub(super) wire: VecDeque<Msg>,
    pub(super) calls: Vec<Call>,
    /// Something has happened for which it may be given up.
    doubtful: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    part: PartId,
    /// The revision it is to go on with.
    pub(super) next: u64,
    created: bool,
}

/// On its way on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Msg {
    Watching(Ticket),
    Events(Ticket, Vec<Event>),
    Canceled(Ticket, Why),
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
    part: PartId,
    list: bool,
    /// What the store has answered.
    read: Option<Result<(u64, State), Why>>,
}

pub(super) fn error(why: Why) -> Error {
    match why {
        Why::Refused => Error::new(Kind::PermissionDenied, "refused"),
        Why::Compacted | Why::Other => Error::new(Kind::Unavailable, "no leader"),
    }
}

impl World {
    pub(super) fn new(store: Store, seed: u64) -> World {
        World {
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
        self.parts.insert(id, Told::new(scope, known.clone()));
        let known = known.map(|(revision, state)| keys(revision, &state));
        self.step(Input::Follow(id, known))
    }

    pub(super) fn forget(&mut self, id: PartId) -> Check {
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

    fn open(&mut self, endpoint: usize, mark: Option<Mark>) -> Check {
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
        let at_fault =
            |line: &Line| line.doubtful || line.asked.is_some_and(|at| self.now - at >= QUIET);
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

    fn call(&mut self, part: PartId, list: bool) -> Check {
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

    /// The outcome of connecting, once there is one.
    fn opened(&mut self) -> Option<Input> {
        let (since, mark) = self.opening.as_ref()?;
        match self.net {
            Net::Refused => Some(Input::Broken(error(Why::Other))),
            Net::Silent | Net::Mute => {
                let late = self.now >= *since + OPEN;
                late.then(|| Input::Broken(Error::new(Kind::Timeout, "slow")))
            }
            Net::Up => {
                let (verdict, head) = self.verdict(mark.as_ref());
                self.opening = None;
                self.tries.since = self.now;
                self.line = Some(Line {
                    heard: self.now,
                    ..Line::default()
                });
                Some(Input::Opened { verdict, head })
            }
        }
    }

    fn verdict(&self, mark: Option<&Mark>) -> (Verdict, u64) {
        let head = self.store.head();
        // Whoever may not read is not told the revision either.
        if self.barred {
            return (Verdict::Unknown, 0);
        }
        let Some(Mark { node: marked }) = mark else {
            return (Verdict::Unknown, head);
        };
        if marked.modified > head {
            return (Verdict::Other, head);
        }
        if marked.modified < self.store.compacted {
            return (Verdict::Unknown, head);
        }
        let key = super::store::key(&marked.key);
        let then = self.store.now().at(marked.modified, 1 << key);
        let there = then.get(&key).map(|value| node(key, *value));
        let same = there.as_ref() == Some(marked);
        (if same { Verdict::Same } else { Verdict::Other }, head)
    }

    /// The end of a connection, where it is noticed.
    fn ended(&self) -> Option<Input> {
        let dead = self.line.as_ref()?.dead && self.net != Net::Silent;
        dead.then(|| Input::Broken(Error::new(Kind::Unavailable, "reset")))
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

    fn pump_all(&mut self) -> bool {
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
            Msg::Canceled(ticket, Why::Compacted) => Input::Canceled(ticket, Cancel::Compacted),
            Msg::Canceled(ticket, Why::Refused) => {
                Input::Canceled(ticket, Cancel::Refused(error(Why::Refused)))
            }
            Msg::Canceled(ticket, Why::Other) => {
                Input::Canceled(ticket, Cancel::Other(error(Why::Other)))
            }
            Msg::Sign => Input::Heard,
        };
        self.step(input)?;
        Ok(true)
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

fn listing(revision: u64, state: &State) -> Listing {
    let nodes = state.iter().map(|(key, value)| node(*key, *value));
    let nodes = nodes.collect();
    Listing { revision, nodes }
}

fn keys(revision: u64, state: &State) -> Keys {
    let modified = state
        .iter()
        .map(|(key, value)| (name(*key), value.modified));
    let modified = modified.collect();
    Keys { revision, modified }
}
