//! Limits on the number of connections: of one listener, and of one peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::peer::Peer;

/// Default limit of connections to one listener.
const MAX_CONNECTIONS: usize = 4096;
/// Default limit of connections of one local user, over the Unix socket.
const MAX_CONNECTIONS_PER_USER: usize = 1024;
/// Default limit of connections from one remote host. The loopback address has none: all users of this host
/// share it.
const MAX_CONNECTIONS_PER_HOST: usize = 128;

/// Configured connection limits. Defaults apply where a field is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionLimits {
    /// Limit of connections to one listener.
    pub total: Option<usize>,
    /// Limit of connections of one peer.
    pub per_peer: Option<usize>,
}

/// Counters of all listeners.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that were refused because a limit was reached.
    pub refused: Counter,
}

/// Admits or refuses the connections of one listener.
pub struct ConnectionLimiter {
    free: Arc<Semaphore>,
    per_peer: Option<usize>,
    counts: Mutex<PeerCounts>,
    metrics: ConnectionMetrics,
}

/// An admitted connection. Dropping it makes room for another.
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    /// Creates a limiter without connections.
    pub fn new(limits: ConnectionLimits, metrics: ConnectionMetrics) -> Arc<ConnectionLimiter> {
        Arc::new(ConnectionLimiter {
            free: Arc::new(Semaphore::new(limits.total.unwrap_or(MAX_CONNECTIONS))),
            per_peer: limits.per_peer,
            counts: Mutex::default(),
            metrics,
        })
    }

    /// Admits one more connection of this peer, or returns `None` if a limit is reached.
    pub fn admit(self: &Arc<ConnectionLimiter>, peer: Peer) -> Option<ConnectionPermit> {
        let max = self.max_per_peer(peer);
        let peer = peer.limit_key();
        let permit = self.free.clone().try_acquire_owned().ok();
        let Some(permit) = permit.filter(|_| self.counts().increment(peer, max)) else {
            self.metrics.refused.inc();
            return None;
        };
        self.metrics.open.inc();
        Some(ConnectionPermit {
            limiter: self.clone(),
            peer,
            _permit: permit,
        })
    }

    fn max_per_peer(&self, peer: Peer) -> usize {
        self.per_peer.unwrap_or(match peer {
            Peer::Address(ip) if ip.is_loopback() => usize::MAX,
            Peer::Address(_) => MAX_CONNECTIONS_PER_HOST,
            Peer::User(_) => MAX_CONNECTIONS_PER_USER,
        })
    }

    fn counts(&self) -> MutexGuard<'_, PeerCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.metrics.open.dec();
        self.limiter.counts().decrement(self.peer);
    }
}

/// Number of open connections by peer. Peers without connections have no entry.
#[derive(Default)]
struct PeerCounts(HashMap<Peer, usize>);

impl PeerCounts {
    /// Counts one more connection and returns true, unless `max` of this peer are open.
    fn increment(&mut self, peer: Peer, max: usize) -> bool {
        let count = self.0.get(&peer).copied().unwrap_or_default();
        let is_admitted = count < max;
        if is_admitted {
            self.0.insert(peer, count + 1);
        }
        is_admitted
    }

    fn decrement(&mut self, peer: Peer) {
        if let Some(count) = self.0.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_and_disconnected_peers_leave_no_entry() {
        let mut counts = PeerCounts::default();
        assert!(!counts.increment(Peer::User(1), 0));
        assert!(counts.0.is_empty(), "refused");
        assert!(counts.increment(Peer::User(1), 2) && counts.increment(Peer::User(1), 2));
        assert!(!counts.increment(Peer::User(1), 2));
        assert!(counts.increment(Peer::User(2), 2), "another peer");
        counts.decrement(Peer::User(1));
        assert!(counts.increment(Peer::User(1), 2), "there is room again");
        for user in [1, 1, 2] {
            counts.decrement(Peer::User(user));
        }
        assert!(counts.0.is_empty(), "disconnected");
    }
}
