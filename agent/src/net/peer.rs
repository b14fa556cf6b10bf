//! The other end of a connection, as far as limits and permissions are concerned.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The client at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A client that connected over TCP from this address.
    Address(IpAddr),
    /// A client that connected over the Unix socket as the user with this id.
    User(u32),
}

/// Whether a client has shown that it may act with the rights of the agent's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The client uses TCP without a token. On the loopback address, it may be any local user.
    Anonymous,
    /// The client uses the Unix socket, whose permissions decide who may, or has sent the token.
    Authenticated,
}

/// Formats the client for the log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(ip) => ip.fmt(f),
            Peer::User(id) => write!(f, "uid:{id}"),
        }
    }
}

impl Peer {
    /// Returns the peer for which connections are counted: an IPv6 host owns a whole /64, so all addresses of one
    /// /64 count as one peer.
    pub fn limit_key(self) -> Peer {
        match self {
            Peer::Address(IpAddr::V6(ip)) if !ip.is_loopback() => {
                let network = ip.to_bits() & !u128::from(u64::MAX);
                Peer::Address(Ipv6Addr::from_bits(network).into())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> Peer {
        Peer::Address(address.parse().unwrap()).limit_key()
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_peer() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("::1"), Peer::Address(Ipv6Addr::LOCALHOST.into()));
    }
}
