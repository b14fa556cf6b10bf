//! Model of a connection to the store: its responses and watch events, and when they arrive.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::harness::{Check, Harness, Network};
use super::store_model::{Event, State, change, name, node};
use crate::error::{Error, ErrorKind};
use crate::watch_sync::{
    CancelReason, Checkpoint, CheckpointStatus, Input, KeyRevisions, Listing, RangeId, Time,
    WatchId,
};

/// Bound of establishing a connection, as in the driver.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Model of an established connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ConnectionModel {
    /// Whether the other end has closed it.
    pub(super) dead: bool,
    pub(super) last_activity: Time,
    /// Time of the first progress request since the last activity.
    pub(super) probed_since: Option<Time>,
    pub(super) watches: BTreeMap<WatchId, Watch>,
    pub(super) in_flight: VecDeque<StreamMessage>,
    pub(super) calls: Vec<Call>,
    /// Whether the machine may fail the connection because of something that happened.
    pub(super) failure_expected: bool,
    /// Whether the login is being renewed.
    pub(super) login_renewing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    pub(super) range: RangeId,
    /// The next revision to deliver.
    pub(super) next: u64,
    pub(super) created: bool,
}

/// A message in flight on the watch stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum StreamMessage {
    Created(WatchId),
    Events(WatchId, Vec<Event>),
    Canceled(WatchId, CancelCause),
    Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CancelCause {
    Compacted,
    LoginRefused,
    PermissionDenied,
    Other,
}

/// A unary request, outside the watch stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) range: RangeId,
    pub(super) list: bool,
    /// The store's response, once it has read.
    pub(super) read: Option<Result<(u64, State), CancelCause>>,
}

pub(super) fn error(why: CancelCause) -> Error {
    match why {
        CancelCause::LoginRefused | CancelCause::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, "refused")
        }
        CancelCause::Compacted | CancelCause::Other => {
            Error::new(ErrorKind::Unavailable, "no leader")
        }
    }
}

impl Harness {
    /// Returns the outcome of connecting, once there is one.
    pub(super) fn connection_outcome(&mut self) -> Option<Input> {
        let (since, checkpoint) = self.connecting.as_ref()?;
        match self.net {
            Network::RefusesConnections => Some(Input::ConnectionFailed(error(CancelCause::Other))),
            Network::DropsAll | Network::DropsRequests => {
                let late = self.now >= *since + CONNECT_TIMEOUT;
                late.then(|| Input::ConnectionFailed(Error::new(ErrorKind::Timeout, "slow")))
            }
            Network::Up => {
                let (checkpoint, revision) = self.checkpoint_status(checkpoint.as_ref());
                self.connecting = None;
                self.attempts.since = self.now;
                self.connection = Some(ConnectionModel {
                    last_activity: self.now,
                    ..ConnectionModel::default()
                });
                Some(Input::Connected {
                    checkpoint,
                    revision,
                })
            }
        }
    }

    fn checkpoint_status(&self, checkpoint: Option<&Checkpoint>) -> (CheckpointStatus, u64) {
        let head = self.store.head();
        // A login without permission does not get the revision either.
        if self.reads_denied {
            return (CheckpointStatus::Unknown, 0);
        }
        let Some(Checkpoint { node: marked }) = checkpoint else {
            return (CheckpointStatus::Unknown, head);
        };
        if marked.modified > head {
            return (CheckpointStatus::Diverged, head);
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
                CheckpointStatus::Unchanged
            } else {
                CheckpointStatus::Diverged
            },
            head,
        )
    }

    /// Returns the end of the renewal of the login, once there is one.
    pub(super) fn login_outcome(&mut self) -> Option<Input> {
        let reachable = matches!(self.net, Network::Up | Network::RefusesConnections);
        let connection = self.connection.as_mut().filter(|_| reachable)?;
        std::mem::take(&mut connection.login_renewing).then_some(Input::LoginRenewed)
    }

    /// Returns the end of the connection, once the client can notice it.
    pub(super) fn connection_closed(&self) -> Option<Input> {
        let dead = self.connection.as_ref()?.dead && self.net != Network::DropsAll;
        dead.then(|| Input::ConnectionFailed(Error::new(ErrorKind::Unavailable, "reset")))
    }

    /// Lets the store read for the n-th request.
    pub(super) fn read(&mut self, n: usize) {
        let reachable = matches!(self.net, Network::Up | Network::RefusesConnections);
        let (store, reads_denied) = (&self.store, self.reads_denied);
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| !connection.dead && reachable)
        else {
            return;
        };
        let Some(call) = connection.calls.get_mut(n) else {
            return;
        };
        let scope = self
            .ranges
            .get(&call.range)
            .map_or(0, |observer| observer.scope);
        call.read.get_or_insert_with(|| match reads_denied {
            true => Err(CancelCause::PermissionDenied),
            false => Ok((store.head(), store.now().at(u64::MAX, scope))),
        });
        if let (false, Some(Ok((revision, _))), Some(observer)) =
            (call.list, &call.read, self.ranges.get_mut(&call.range))
        {
            observer.compared(*revision);
        }
    }

    /// Delivers the response to the n-th request. Returns false if there is none.
    pub(super) fn answer(&mut self, n: usize) -> Result<bool, String> {
        self.read(n);
        let reachable = self.net != Network::DropsAll;
        let Some(connection) = self.connection.as_mut().filter(|_| reachable) else {
            return Ok(false);
        };
        if connection
            .calls
            .get(n)
            .is_none_or(|call| call.read.is_none())
        {
            return Ok(false);
        }
        let Call { range, list, read } = connection.calls.remove(n);
        let read = read.unwrap_or(Err(CancelCause::Other)).map_err(error);
        let input = match list {
            true => Input::Listed(
                range,
                read.map(|(revision, state)| listing(revision, &state)),
            ),
            false => Input::KeysListed(range, read.map(|(revision, state)| keys(revision, &state))),
        };
        self.step(input)?;
        Ok(true)
    }

    /// Fails the n-th request, if there is one.
    pub(super) fn fail(&mut self, n: usize) -> Check {
        match self
            .connection
            .as_mut()
            .and_then(|connection| connection.calls.get_mut(n))
        {
            Some(call) => call.read = Some(Err(CancelCause::Other)),
            None => return Ok(()),
        }
        self.answer(n).map(drop)
    }

    pub(super) fn serve_all(&mut self) -> bool {
        let watches = self
            .connection
            .as_ref()
            .map_or(0, |connection| connection.watches.len());
        (0..watches).any(|n| self.serve_watch(n, u64::MAX))
    }

    /// Lets the store produce messages of the n-th watch, up to this number of revisions. Returns false if
    /// there are none.
    pub(super) fn serve_watch(&mut self, n: usize, revisions: u64) -> bool {
        let (reachable, probed_since) = (
            self.net != Network::DropsAll,
            self.net != Network::DropsRequests,
        );
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| !connection.dead && reachable)
        else {
            return false;
        };
        // Watches are created in the order in which they were requested.
        let unmade = connection.watches.iter().find(|(_, watch)| !watch.created);
        let nth = connection.watches.iter().nth(n);
        let Some(watch_id) = unmade
            .filter(|_| probed_since)
            .or(nth)
            .map(|(watch_id, _)| *watch_id)
        else {
            return false;
        };
        let Some(watch) = connection.watches.get_mut(&watch_id) else {
            return false;
        };
        let observer = self.ranges.get_mut(&watch.range);
        let head = self.store.head();
        let message = if !watch.created && self.reads_denied {
            StreamMessage::Canceled(watch_id, CancelCause::LoginRefused)
        } else if !watch.created {
            watch.created = true;
            StreamMessage::Created(watch_id)
        } else if watch.next < self.store.compacted {
            StreamMessage::Canceled(watch_id, CancelCause::Compacted)
        } else if watch.next <= head {
            let to = watch.next.saturating_add(revisions.max(1) - 1).min(head);
            let scope = observer.as_ref().map_or(0, |observer| observer.scope);
            let (events, swallowed) = self.store.events(watch.next, to, scope);
            if let Some(observer) = observer {
                observer.swallowed.extend(swallowed);
            }
            watch.next = to + 1;
            StreamMessage::Events(watch_id, events)
        } else {
            return false;
        };
        match message {
            // No event in this range: the store sends nothing.
            StreamMessage::Events(_, events) if events.is_empty() => return true,
            StreamMessage::Canceled(..) => drop(connection.watches.remove(&watch_id)),
            _ => {}
        }
        connection.in_flight.push_back(message);
        true
    }

    /// Lets the store send events again.
    pub(super) fn repeat(&mut self, n: usize, revisions: u64) {
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| !connection.dead)
        else {
            return;
        };
        let Some((watch_id, watch)) = connection.watches.iter().filter(|(_, w)| w.created).nth(n)
        else {
            return;
        };
        let scope = self
            .ranges
            .get(&watch.range)
            .map_or(0, |observer| observer.scope);
        let from = watch.next.saturating_sub(revisions);
        let (events, _) = self.store.events(from, watch.next - 1, scope);
        let again = events
            .into_iter()
            .filter(|(at, ..)| *at >= self.store.compacted);
        let again: Vec<Event> = again.collect();
        if !again.is_empty() {
            connection
                .in_flight
                .push_back(StreamMessage::Events(*watch_id, again));
        }
    }

    /// Lets the store cancel the n-th watch.
    pub(super) fn cancel(&mut self, n: usize, why: CancelCause) {
        if let Some(connection) = self.connection.as_mut()
            && let Some(watch_id) = connection.watches.keys().nth(n).copied()
        {
            connection.watches.remove(&watch_id);
            connection
                .in_flight
                .push_back(StreamMessage::Canceled(watch_id, why));
        }
    }

    /// Delivers the next message of the stream. Returns false if there is none.
    pub(super) fn deliver(&mut self) -> Result<bool, String> {
        let reachable = self.net != Network::DropsAll;
        let Some(connection) = self.connection.as_mut().filter(|_| reachable) else {
            return Ok(false);
        };
        let Some(message) = connection.in_flight.pop_front() else {
            return Ok(false);
        };
        (connection.last_activity, connection.probed_since) = (self.now, None);
        let input = match message {
            StreamMessage::Created(watch_id) => Input::WatchCreated(watch_id),
            StreamMessage::Events(watch_id, events) => {
                Input::Events(watch_id, events.iter().map(change).collect())
            }
            StreamMessage::Canceled(watch_id, CancelCause::Compacted) => {
                Input::WatchCanceled(watch_id, CancelReason::Compacted)
            }
            StreamMessage::Canceled(watch_id, why @ CancelCause::LoginRefused) => {
                Input::WatchCanceled(watch_id, CancelReason::LoginRefused(error(why)))
            }
            StreamMessage::Canceled(watch_id, why @ CancelCause::PermissionDenied) => {
                Input::WatchCanceled(watch_id, CancelReason::PermissionDenied(error(why)))
            }
            StreamMessage::Canceled(watch_id, CancelCause::Other) => {
                Input::WatchCanceled(watch_id, CancelReason::Other(error(CancelCause::Other)))
            }
            StreamMessage::Progress => Input::Activity,
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
