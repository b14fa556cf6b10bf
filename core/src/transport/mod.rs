//! Connections to servers, shared by all backends that use a network.
//!
//! [`tls`] loads and checks certificates and keys. [`http_client`] is the HTTP/1.1 client over TCP, TLS and
//! Unix sockets. [`network_error`] turns the errors of sockets, TLS and HTTP into messages that name the
//! endpoint, the cause and the remedy. [`socket_stats`] counts what a connection receives.

#[cfg(any(feature = "etcd2", feature = "agent"))]
#[cfg_attr(
    not(all(feature = "etcd2", feature = "agent")),
    allow(dead_code, reason = "Unix sockets and streams are for the agent")
)]
pub(crate) mod http_client;
pub(crate) mod network_error;
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
pub(crate) mod socket_stats;
#[cfg_attr(
    not(all(feature = "etcd", feature = "etcd2", feature = "agent")),
    allow(
        dead_code,
        reason = "etcd v3 needs PEM texts, the others a rustls configuration"
    )
)]
pub(crate) mod tls;
