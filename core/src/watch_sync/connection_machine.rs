//! The connection: when to make it, where, and when it is dead.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::kv::Node;
use crate::mutants::mutant;
use crate::watch_sync::{Checkpoint, Time};

/// A stream that was silent for this long is asked for a sign.
const ASK: Duration = Duration::from_secs(1);
/// One that gives none for this long after it was first asked is dead.
const ANSWER: Duration = Duration::from_millis(1500);
/// A link must hold this long before a failure counts as the first again: a store that accepts and
/// drops us at once is paced like one that is down.
const HEALTHY: Duration = Duration::from_secs(5);

/// What the link asks for.
pub(super) enum ConnectionAction {
    Open {
        endpoint: usize,
        mark: Option<Checkpoint>,
    },
    Sign,
    Break(Error),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionMachine {
    phase: Phase,
    backoff: Backoff,
    endpoints: usize,
    /// The endpoint that is tried next.
    next: usize,
    mark: Option<Checkpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Nobody needs it yet.
    Off,
    Waiting {
        until: Time,
    },
    Opening,
    Up {
        since: Time,
        head: u64,
        heard: Time,
        /// When it was first asked for a sign since, and when last.
        asked: Option<(Time, Time)>,
    },
}

impl ConnectionMachine {
    pub(super) fn new(endpoints: usize, seed: u64) -> ConnectionMachine {
        let mut backoff = Backoff::with_seed(
            Duration::from_millis(200),
            Duration::from_millis(1500),
            seed,
        );
        // Not every client begins with the same member.
        let next = (backoff.random_fraction() * endpoints as f64) as usize;
        ConnectionMachine {
            phase: Phase::Off,
            backoff,
            endpoints: endpoints.max(1),
            next,
            mark: None,
        }
    }

    /// The store's revision when the connection was made, while there is one.
    pub(super) fn head(&self) -> Option<u64> {
        match self.phase {
            Phase::Up { head, .. } => Some(head),
            _ => None,
        }
    }

    /// When the store last gave a sign of life; none while there is no connection.
    pub(super) fn last_heard(&self) -> Option<Time> {
        match self.phase {
            Phase::Up { heard, .. } => Some(heard),
            _ => None,
        }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        match self.phase {
            Phase::Off | Phase::Opening => None,
            Phase::Waiting { until } => Some(until),
            Phase::Up { heard, asked, .. } => match asked {
                None => Some(heard + ASK),
                Some((first, last)) => Some((last + ASK).min(first + ANSWER)),
            },
        }
    }

    pub(super) fn want(&mut self) -> Option<ConnectionAction> {
        matches!(self.phase, Phase::Off).then(|| self.open())
    }

    fn open(&mut self) -> ConnectionAction {
        let endpoint = self.next % self.endpoints;
        self.next = mutant!(same_endpoint_for_ever: endpoint, endpoint + 1);
        self.phase = Phase::Opening;
        let mark = self.mark.clone();
        ConnectionAction::Open { endpoint, mark }
    }

    /// False if nobody waited for it.
    pub(super) fn opened(&mut self, head: u64, now: Time) -> bool {
        let waited = matches!(self.phase, Phase::Opening);
        if waited {
            self.phase = Phase::Up {
                since: now,
                head,
                heard: now,
                asked: None,
            };
        }
        waited
    }

    /// False if there was nothing to break.
    pub(super) fn broken(&mut self, now: Time) -> bool {
        match self.phase {
            Phase::Off | Phase::Waiting { .. } => return false,
            Phase::Up { since, .. } if now.saturating_sub(since) >= HEALTHY => self.backoff.reset(),
            Phase::Up { .. } | Phase::Opening => {}
        }
        let wait = mutant!(no_wait_between_tries: Duration::ZERO, self.backoff.next_wait());
        self.phase = Phase::Waiting { until: now + wait };
        true
    }

    pub(super) fn heard(&mut self, now: Time) {
        if let Phase::Up { heard, asked, .. } = &mut self.phase {
            (*heard, *asked) = (now, None);
        }
    }

    pub(super) fn tick(&mut self, watched: bool, now: Time) -> Option<ConnectionAction> {
        // If it was we who slept, what the store said may be waiting for us.
        let slept = self.wake().is_some_and(|wake| now > wake + ASK);
        match &mut self.phase {
            Phase::Waiting { until } if now >= *until => Some(self.open()),
            Phase::Up { heard, asked, .. } => {
                // With nothing watched the store owes us nothing.
                if !watched || slept {
                    (*heard, *asked) = (now, None);
                    return None;
                }
                // Nobody is given up who was not asked, and given time to answer.
                let unanswered = asked.is_some_and(|(first, _)| now >= first + ANSWER);
                if unanswered && mutant!(silence_is_fine: false, true) {
                    let silent = now.saturating_sub(*heard).as_millis();
                    let text = format!("no sign of life for {silent} ms");
                    return Some(ConnectionAction::Break(Error::new(
                        ErrorKind::Timeout,
                        text,
                    )));
                }
                let due = asked.map_or(*heard, |(_, last)| last) + ASK;
                if now < due {
                    return None;
                }
                *asked = Some((asked.map_or(now, |(first, _)| first), now));
                mutant!(no_sign_is_asked_for: None, Some(ConnectionAction::Sign))
            }
            _ => None,
        }
    }

    /// Remembers the newest put that was seen.
    pub(super) fn saw(&mut self, node: Node) {
        let newest = self.mark.as_ref().map_or(0, |mark| mark.node.modified);
        if node.modified > newest {
            self.mark = Some(Checkpoint { node });
        }
    }

    /// Up to which revision the mark shows the history.
    pub(super) fn mark_revision(&self) -> u64 {
        self.mark.as_ref().map_or(0, |mark| mark.node.modified)
    }

    pub(super) fn forget_mark(&mut self) {
        self.mark = None;
    }
}
