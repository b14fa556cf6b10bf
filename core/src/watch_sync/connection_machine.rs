//! State machine of the connection: when to connect, to which endpoint, and when to declare it dead.
//!
//! ```text
//! Idle ──request──▶ Connecting ──connected──▶ Connected ──progress requests──▶ Connected
//!                    ▲      │                    │
//!                  timer    └──────failed────────┤
//!                    │                           ▼
//!                    └──────────────────── BackingOff
//! ```

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::kv::Node;
use crate::mutants::mutant;
use crate::watch_sync::{Checkpoint, Time};

/// Silence on the watch stream after which a progress response is requested, and the interval of further
/// requests.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Time from the first unanswered progress request until the connection is declared dead.
const PROGRESS_TIMEOUT: Duration = Duration::from_millis(1500);
/// Lifetime of a connection after which a failure resets the backoff. A store that accepts connections and
/// drops them at once is retried like one that is down.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Request of [`ConnectionMachine`] to [`WatchSync`](super::WatchSync).
pub(super) enum ConnectionAction {
    Connect {
        endpoint: usize,
        checkpoint: Option<Checkpoint>,
    },
    RequestProgress,
    Fail(Error),
}

/// Decides when to connect, to which endpoint, and whether the connection is alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionMachine {
    phase: ConnectionPhase,
    backoff: Backoff,
    endpoints: usize,
    /// The index of the endpoint for the next attempt.
    next_endpoint: usize,
    checkpoint: Option<Checkpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ConnectionPhase {
    /// No connection was requested yet.
    Idle,
    BackingOff {
        until: Time,
    },
    Connecting,
    Connected {
        since: Time,
        /// The store's revision when the connection was established.
        revision: u64,
        last_activity: Time,
        /// The times of the first and the last progress request since `last_activity`.
        probed: Option<(Time, Time)>,
    },
}

impl ConnectionMachine {
    pub(super) fn new(endpoints: usize, seed: u64) -> ConnectionMachine {
        let mut backoff = Backoff::with_seed(
            Duration::from_millis(200),
            Duration::from_millis(1500),
            seed,
        );
        // Spreads clients over the members.
        let next_endpoint = (backoff.random_fraction() * endpoints as f64) as usize;
        ConnectionMachine {
            phase: ConnectionPhase::Idle,
            backoff,
            endpoints: endpoints.max(1),
            next_endpoint,
            checkpoint: None,
        }
    }

    /// Returns the store's revision at the time of connecting, or `None` while disconnected.
    pub(super) fn connected_revision(&self) -> Option<u64> {
        match self.phase {
            ConnectionPhase::Connected { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// Returns the time of the store's last sign of life, or `None` while disconnected.
    pub(super) fn last_activity(&self) -> Option<Time> {
        match self.phase {
            ConnectionPhase::Connected { last_activity, .. } => Some(last_activity),
            _ => None,
        }
    }

    /// Returns the time at which `tick` is due.
    pub(super) fn next_timer(&self) -> Option<Time> {
        match self.phase {
            ConnectionPhase::Idle | ConnectionPhase::Connecting => None,
            ConnectionPhase::BackingOff { until } => Some(until),
            ConnectionPhase::Connected {
                last_activity,
                probed,
                ..
            } => match probed {
                None => Some(last_activity + PROGRESS_INTERVAL),
                Some((first, last)) => {
                    Some((last + PROGRESS_INTERVAL).min(first + PROGRESS_TIMEOUT))
                }
            },
        }
    }

    /// Connects if no connection was requested before.
    pub(super) fn request(&mut self) -> Option<ConnectionAction> {
        matches!(self.phase, ConnectionPhase::Idle).then(|| self.connect())
    }

    fn connect(&mut self) -> ConnectionAction {
        let endpoint = self.next_endpoint % self.endpoints;
        self.next_endpoint = mutant!(endpoint_never_rotates: endpoint, endpoint + 1);
        self.phase = ConnectionPhase::Connecting;
        let checkpoint = self.checkpoint.clone();
        ConnectionAction::Connect {
            endpoint,
            checkpoint,
        }
    }

    /// Handles an established connection. Returns false if none was being established.
    pub(super) fn connected(&mut self, revision: u64, now: Time) -> bool {
        let expected = matches!(self.phase, ConnectionPhase::Connecting);
        if expected {
            self.phase = ConnectionPhase::Connected {
                since: now,
                revision,
                last_activity: now,
                probed: None,
            };
        }
        expected
    }

    /// Handles a failed connection and starts the backoff. Returns false if there was no connection.
    pub(super) fn failed(&mut self, now: Time) -> bool {
        match self.phase {
            ConnectionPhase::Idle | ConnectionPhase::BackingOff { .. } => return false,
            ConnectionPhase::Connected { since, .. }
                if now.saturating_sub(since) >= STABLE_AFTER =>
            {
                self.backoff.reset();
            }
            ConnectionPhase::Connected { .. } | ConnectionPhase::Connecting => {}
        }
        let wait = mutant!(reconnects_without_backoff: Duration::ZERO, self.backoff.next_wait());
        self.phase = ConnectionPhase::BackingOff { until: now + wait };
        true
    }

    /// Records a sign of life.
    pub(super) fn record_activity(&mut self, now: Time) {
        if let ConnectionPhase::Connected {
            last_activity,
            probed,
            ..
        } = &mut self.phase
        {
            (*last_activity, *probed) = (now, None);
        }
    }

    /// Handles expired timers: reconnects, requests progress, or declares the connection dead.
    pub(super) fn tick(&mut self, has_watches: bool, now: Time) -> Option<ConnectionAction> {
        // If this process was suspended, responses may be waiting in the socket.
        let suspended = self
            .next_timer()
            .is_some_and(|timer| now > timer + PROGRESS_INTERVAL);
        match &mut self.phase {
            ConnectionPhase::BackingOff { until } if now >= *until => Some(self.connect()),
            ConnectionPhase::Connected {
                last_activity,
                probed,
                ..
            } => {
                // Without a watch the store sends nothing by itself.
                if !has_watches || suspended {
                    (*last_activity, *probed) = (now, None);
                    return None;
                }
                let unanswered = probed.is_some_and(|(first, _)| now >= first + PROGRESS_TIMEOUT);
                if unanswered && mutant!(silent_connection_is_kept: false, true) {
                    let silent = now.saturating_sub(*last_activity).as_millis();
                    let text = format!("the watch stream was silent for {silent} ms");
                    return Some(ConnectionAction::Fail(Error::new(ErrorKind::Timeout, text)));
                }
                let due = probed.map_or(*last_activity, |(_, last)| last) + PROGRESS_INTERVAL;
                if now < due {
                    return None;
                }
                *probed = Some((probed.map_or(now, |(first, _)| first), now));
                mutant!(progress_is_never_requested: None, Some(ConnectionAction::RequestProgress))
            }
            _ => None,
        }
    }

    /// Makes the node the checkpoint if it is the newest put.
    pub(super) fn record_put(&mut self, node: Node) {
        if node.modified > self.checkpoint_revision() {
            self.checkpoint = Some(Checkpoint { node });
        }
    }

    /// Returns the revision up to which the checkpoint proves the epoch; 0 without one.
    pub(super) fn checkpoint_revision(&self) -> u64 {
        self.checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.node.modified)
    }

    pub(super) fn clear_checkpoint(&mut self) {
        self.checkpoint = None;
    }
}
