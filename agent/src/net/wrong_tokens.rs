//! Limit on the number of wrong tokens that one peer may send.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::peer::Peer;

/// Number of wrong tokens that a peer may send at once.
const MAX_WRONG_TOKENS: u32 = 10;
/// Time after which a peer may send one more.
pub const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of peers that are remembered; the one that sent its wrong tokens first is forgotten for another.
const MAX_PEERS: usize = 1024;

/// Counts the wrong tokens of each peer.
#[derive(Default)]
pub struct WrongTokenLimiter {
    peers: Mutex<HashMap<Peer, PeerRecord>>,
}

struct PeerRecord {
    /// Time at which all wrong tokens of the peer are forgiven.
    forgiven_at: Instant,
    /// Whether the peer was reported in the log.
    is_logged: bool,
}

impl WrongTokenLimiter {
    /// Returns true if the tokens of this peer are refused without a comparison. Programs that connect over loopback
    /// share one address, so their tokens are always compared: one local user must not lock the others out.
    pub fn refuses(&self, peer: Peer, now: Instant) -> bool {
        !is_shared(peer) && self.is_over_limit(peer, now)
    }

    /// Returns true if the peer has sent as many wrong tokens as it may.
    pub fn is_over_limit(&self, peer: Peer, now: Instant) -> bool {
        let peers = self.peers();
        let record = peers.get(&peer.limit_key());
        record.is_some_and(|record| {
            record.forgiven_at.saturating_duration_since(now)
                > RECOVERY_INTERVAL * (MAX_WRONG_TOKENS - 1)
        })
    }

    /// Records that this peer sent a wrong token.
    pub fn record(&self, peer: Peer, now: Instant) {
        let key = peer.limit_key();
        let mut peers = self.peers();
        if !peers.contains_key(&key) && peers.len() >= MAX_PEERS {
            make_room(&mut peers, now);
        }
        let record = peers.entry(key).or_insert(PeerRecord {
            forgiven_at: now,
            is_logged: false,
        });
        if record.forgiven_at <= now {
            record.is_logged = false;
        }
        let limit = now + RECOVERY_INTERVAL * MAX_WRONG_TOKENS;
        record.forgiven_at = (record.forgiven_at.max(now) + RECOVERY_INTERVAL).min(limit);
        if record.forgiven_at == limit && !std::mem::replace(&mut record.is_logged, true) {
            tracing::warn!(
                ?peer,
                "{MAX_WRONG_TOKENS} wrong tokens from one client, limiting it"
            );
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Peer, PeerRecord>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the peers that are forgiven, or else the one that is next.
fn make_room(peers: &mut HashMap<Peer, PeerRecord>, now: Instant) {
    peers.retain(|_, record| record.forgiven_at > now);
    if peers.len() >= MAX_PEERS
        && let Some(first) = peers
            .iter()
            .min_by_key(|(_, record)| record.forgiven_at)
            .map(|(peer, _)| *peer)
    {
        peers.remove(&first);
    }
}

fn is_shared(peer: Peer) -> bool {
    matches!(peer, Peer::Address(ip) if IpAddr::is_loopback(&ip.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Peer {
        Peer::Address(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into())
    }

    #[test]
    fn a_peer_that_sends_wrong_tokens_is_refused_until_it_recovers() {
        let limiter = WrongTokenLimiter::default();
        let now = Instant::now();
        for number in 0..MAX_WRONG_TOKENS {
            assert!(!limiter.refuses(address(1), now), "{number}");
            limiter.record(address(1), now);
        }
        assert!(limiter.refuses(address(1), now) && !limiter.refuses(address(2), now));
        let later = now + RECOVERY_INTERVAL;
        assert!(!limiter.refuses(address(1), later));
        limiter.record(address(1), later);
        assert!(limiter.refuses(address(1), later), "one more each second");
    }

    #[test]
    fn the_memory_is_bounded_and_loopback_is_never_locked_out() {
        let limiter = WrongTokenLimiter::default();
        let now = Instant::now();
        for last in 0..5000 {
            limiter.record(address(last), now);
        }
        assert_eq!(limiter.peers().len(), MAX_PEERS);
        let loopback = Peer::Address(std::net::Ipv4Addr::LOCALHOST.into());
        for _ in 0..100 {
            limiter.record(loopback, now);
        }
        assert!(limiter.is_over_limit(loopback, now) && !limiter.refuses(loopback, now));
    }
}
