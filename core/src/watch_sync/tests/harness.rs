//! Harness that drives a real [`WatchSync`] as its driver does, against a model of the store, the network
//! and time.
//!
//! The harness has the guarantees of the driver: responses of a closed connection are dropped, responses on
//! the stream arrive in order, unary responses may overtake them, and every denied request gets a response.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::connection_model::{
    CONNECT_TIMEOUT, Call, CancelCause, ConnectionModel, StreamMessage, Watch, keys,
};
use super::observer::Observer;
use super::store_model::{Scope, Store};
use crate::error::Error;
use crate::watch_sync::{CancelReason, Checkpoint, Input, Output, RangeId, Time, WatchSync};

pub(super) type Check = Result<(), String>;

/// Number of endpoints.
pub(super) const MEMBERS: usize = 3;
/// A connection with activity in this time must not be declared dead.
const MIN_SILENCE: Duration = Duration::from_millis(1400);
/// Bound of declaring a silent connection dead.
const DETECTION_BOUND: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    Up,
    /// Established connections work; new ones are refused.
    RefusesConnections,
    /// Drops everything in both directions, without an error.
    DropsAll,
    /// Drops what the client sends; what the store sends arrives.
    DropsRequests,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Harness {
    pub(super) sync: WatchSync,
    pub(super) store: Store,
    pub(super) now: Time,
    pub(super) net: Network,
    /// Whether messages of the stream, and unary responses, are delivered only by an operation.
    pub(super) manual_stream: bool,
    pub(super) manual_calls: bool,
    /// Whether the store denies reads.
    pub(super) reads_denied: bool,
    pub(super) ranges: BTreeMap<RangeId, Observer>,
    pub(super) last_range: RangeId,
    pub(super) connection: Option<ConnectionModel>,
    pub(super) connecting: Option<(Time, Option<Checkpoint>)>,
    /// State for the check of the backoff and of the endpoint order.
    pub(super) attempts: ConnectAttempts,
    /// Hash of all outputs of the machine.
    pub(super) output_hash: OutputHash,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ConnectAttempts {
    endpoint: Option<usize>,
    failures: u32,
    pub(super) since: Time,
    not_before: Time,
}

/// Hash of all outputs. Ignored in comparisons, so that states with different histories can be equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputHash(pub(super) u64);

impl PartialEq for OutputHash {
    fn eq(&self, _: &OutputHash) -> bool {
        true
    }
}

impl Eq for OutputHash {}

impl Hash for OutputHash {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl OutputHash {
    fn record(&mut self, output: &Output, now: Time) {
        let mut hasher = DefaultHasher::new();
        (self.0, now).hash(&mut hasher);
        match output {
            Output::Emit(id, emitted) => {
                (id, emitted.epoch, emitted.revision, &emitted.changes).hash(&mut hasher);
            }
            Output::Watch(id, watch_id, from) => (id, watch_id, from).hash(&mut hasher),
            Output::Connect {
                endpoint,
                checkpoint,
            } => (endpoint, checkpoint).hash(&mut hasher),
            other => std::mem::discriminant(other).hash(&mut hasher),
        }
        self.0 = hasher.finish();
    }
}

impl Harness {
    pub(super) fn new(store: Store, seed: u64) -> Harness {
        Harness {
            sync: WatchSync::new(MEMBERS, seed),
            store,
            now: Duration::from_secs(1),
            net: Network::Up,
            manual_stream: false,
            manual_calls: false,
            reads_denied: false,
            ranges: BTreeMap::new(),
            last_range: 0,
            connection: None,
            connecting: None,
            attempts: ConnectAttempts::default(),
            output_hash: OutputHash(0),
        }
    }

    /// Adds a range, without known state or with the state of this moment.
    pub(super) fn add_range(&mut self, scope: Scope, known: bool) -> Check {
        // Ids are never reused.
        self.last_range += 1;
        let id = self.last_range;
        let known = known.then(|| (self.store.head(), self.store.now().at(u64::MAX, scope)));
        self.ranges.insert(id, Observer::new(scope, known.clone()));
        let known = known.map(|(revision, state)| keys(revision, &state));
        self.step(Input::AddRange(id, known))
    }

    pub(super) fn remove_range(&mut self, id: RangeId) -> Check {
        self.ranges.remove(&id);
        self.step(Input::RemoveRange(id))
    }

    /// Runs one step of the machine and performs its outputs.
    pub(super) fn step(&mut self, input: Input) -> Check {
        if let (None, Some(connection)) = (self.sync.last_activity(), &mut self.connection) {
            // Without a watch, silence does not count.
            (connection.last_activity, connection.probed_since) = (self.now, None);
        }
        if let Input::ConnectionFailed(_)
        | Input::WatchCanceled(_, CancelReason::Compacted | CancelReason::Other(_))
        | Input::Listed(_, Err(_))
        | Input::KeysListed(_, Err(_)) = &input
            && let Some(connection) = &mut self.connection
        {
            connection.failure_expected = true;
        }
        for output in self.sync.step(input, self.now) {
            self.perform(output)?;
        }
        Ok(())
    }

    fn perform(&mut self, output: Output) -> Check {
        self.output_hash.record(&output, self.now);
        match output {
            Output::Connect {
                endpoint,
                checkpoint,
            } => self.connect(endpoint, checkpoint),
            Output::Disconnect(error) => self.disconnect(&error),
            Output::List(id) => self.call(id, true),
            Output::ListKeys(id) => self.call(id, false),
            Output::Watch(range, watch_id, next) => {
                let (connection, observer) =
                    (self.connection.as_mut(), self.ranges.get_mut(&range));
                let (connection, observer) =
                    connection.zip(observer).ok_or("a watch on no connection")?;
                if connection.login_renewing {
                    return Err("a watch with the old login".into());
                }
                observer.watched();
                let created = false;
                let fresh = connection.watches.insert(
                    watch_id,
                    Watch {
                        range,
                        next,
                        created,
                    },
                );
                fresh.map_or(Ok(()), |_| Err(format!("watch id {watch_id} used twice")))
            }
            Output::CancelWatch(watch_id) => {
                let connection = self
                    .connection
                    .as_mut()
                    .ok_or("an end of a watch on no connection")?;
                if connection.watches.remove(&watch_id).is_some() {
                    connection
                        .in_flight
                        .push_back(StreamMessage::Canceled(watch_id, CancelCause::Other));
                }
                Ok(())
            }
            Output::RenewLogin => {
                let connection = self.connection.as_mut();
                let connection = connection.ok_or("a login on no connection")?;
                connection.watches.clear();
                connection.in_flight.clear();
                connection.probed_since = None;
                connection.login_renewing = true;
                Ok(())
            }
            Output::RequestProgress => {
                let now = self.now;
                let connection = self
                    .connection
                    .as_mut()
                    .ok_or("a progress request on no connection")?;
                connection.probed_since.get_or_insert(now);
                if self.net != Network::DropsAll
                    && self.net != Network::DropsRequests
                    && !connection.dead
                {
                    connection.in_flight.push_back(StreamMessage::Progress);
                }
                Ok(())
            }
            Output::Emit(id, emitted) => {
                let observer = self.ranges.get_mut(&id).ok_or("emitted for no range")?;
                let checked = observer.check_emitted(&emitted, &self.store);
                checked.map_err(|error| format!("range {id} at {:?}: {error}", self.now))
            }
            Output::MarkStale(id, _) => {
                self.ranges
                    .get_mut(&id)
                    .ok_or("emitted for no range")?
                    .current = false;
                Ok(())
            }
        }
    }

    fn connect(&mut self, endpoint: usize, checkpoint: Option<Checkpoint>) -> Check {
        if self.connecting.is_some() || self.connection.is_some() {
            return Err("a second connection".into());
        }
        if self.now < self.attempts.not_before {
            let early = self.attempts.not_before - self.now;
            return Err(format!("a try {early:?} too early"));
        }
        if self.attempts.endpoint == Some(endpoint) {
            return Err(format!("endpoint {endpoint} twice in a row"));
        }
        self.attempts.endpoint = Some(endpoint);
        self.connecting = Some((self.now, checkpoint));
        Ok(())
    }

    fn disconnect(&mut self, why: &Error) -> Check {
        let connection = self.connection.take();
        if connection.is_none() && self.connecting.take().is_none() {
            return Err("closed what was not open".into());
        }
        let at_fault = |connection: &ConnectionModel| {
            connection.failure_expected
                || connection
                    .probed_since
                    .is_some_and(|at| self.now - at >= MIN_SILENCE)
        };
        if connection
            .as_ref()
            .is_some_and(|connection| !at_fault(connection))
        {
            return Err(format!("a good connection was given up: {why}"));
        }
        if connection.is_some() && self.now - self.attempts.since >= Duration::from_secs(5) {
            self.attempts.failures = 0;
        }
        // The lower bound of the backoff is a tenth of a wait that doubles from 200 ms to 1.5 s.
        let least = Duration::from_millis(20 << self.attempts.failures.min(8))
            .min(Duration::from_millis(150));
        self.attempts.failures += 1;
        self.attempts.not_before = self.now + least;
        Ok(())
    }

    fn call(&mut self, range: RangeId, list: bool) -> Check {
        let connection = self
            .connection
            .as_mut()
            .ok_or("a request on no connection")?;
        let read = None;
        connection.calls.push(Call { range, list, read });
        let same = connection
            .calls
            .iter()
            .filter(|call| call.range == range && call.list == list);
        match same.count() {
            1 => Ok(()),
            // The list of an abandoned audit may still be in flight.
            n if n <= 4 && !list => Ok(()),
            n => Err(format!("{n} requests at a time")),
        }
    }

    /// Delivers everything that needs no operation.
    pub(super) fn flow(&mut self) -> Check {
        for _ in 0..10_000 {
            let more = match self
                .connection_outcome()
                .or_else(|| self.login_outcome())
                .or_else(|| self.connection_closed())
            {
                Some(input) => {
                    self.step(input)?;
                    true
                }
                None => {
                    !self.manual_calls && self.answer(0)?
                        || !self.manual_stream && (self.deliver()? || self.serve_all())
                }
            };
            if !more {
                return Ok(());
            }
        }
        Err("no rest".into())
    }

    /// Lets time pass, and delivers everything that needs no operation.
    pub(super) fn wait(&mut self, time: Duration) -> Check {
        let until = self.now + time;
        for _ in 0..20_000 {
            self.flow()?;
            let slow = self
                .connecting
                .as_ref()
                .map(|(since, _)| *since + CONNECT_TIMEOUT);
            let wake = self.sync.next_timer().into_iter().chain(slow).min();
            match wake.filter(|wake| *wake <= until) {
                Some(wake) => self.now = self.now.max(wake),
                None => {
                    self.now = until;
                    return self.check_detection();
                }
            }
            if self.sync.next_timer().is_some_and(|wake| wake <= self.now) {
                self.step(Input::Tick)?;
            }
            self.check_detection()?;
        }
        Err("it never sleeps".into())
    }

    /// Suspends the process for a while.
    pub(super) fn sleep(&mut self, time: Duration) -> Check {
        self.now += time;
        if let Some(connection) = &mut self.connection {
            (connection.last_activity, connection.probed_since) = (self.now, None);
            connection.failure_expected = true;
        }
        self.step(Input::Tick)
    }

    /// Checks that a silent connection was closed in time.
    fn check_detection(&self) -> Check {
        match &self.connection {
            Some(connection)
                if !connection.watches.is_empty()
                    && self.now > connection.last_activity + DETECTION_BOUND =>
            {
                Err(format!(
                    "silent since {:?}, and not noticed at {:?}",
                    connection.last_activity, self.now
                ))
            }
            _ => Ok(()),
        }
    }
}
