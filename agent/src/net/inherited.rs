//! Sockets that pass from one process to the next: inherited at the start, and named when they are handed on.

use std::os::fd::OwnedFd;

/// A listening socket that was open before this process started, with the name that it was passed with.
pub struct InheritedSocket {
    /// The name, from `LISTEN_FDNAMES`.
    pub name: String,
    /// The socket.
    pub kind: InheritedKind,
}

/// The kind of an [`InheritedSocket`].
pub enum InheritedKind {
    /// Listens on a TCP address.
    Tcp(std::net::TcpListener),
    /// Listens on a Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A descriptor of a socket of any kind, and the name by which the next process recognizes it.
pub struct NamedSocket {
    /// The name, for `LISTEN_FDNAMES`.
    pub name: String,
    /// A duplicate of the socket's descriptor.
    pub descriptor: OwnedFd,
}
