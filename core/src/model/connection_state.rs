//! State of the connection to the store.

use crate::error::Error;

/// State of the connection to the store.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// The store responds, or was not contacted yet.
    Connected,
    /// The store is not responding. Sets keep their last contents; registrations remain in the store until
    /// their TTL expires.
    Suspended(Error),
    /// The store has not responded for the `ttl` of the URL, so registrations may have expired. They are
    /// restored when the store responds again. Sets keep their last contents.
    Lost(Error),
}

impl ConnectionState {
    /// Returns `connected`, `suspended` or `lost`.
    pub fn name(&self) -> &'static str {
        match self {
            ConnectionState::Connected => "connected",
            ConnectionState::Suspended(_) => "suspended",
            ConnectionState::Lost(_) => "lost",
        }
    }

    /// Returns why the connection is suspended or lost.
    pub fn error(&self) -> Option<&Error> {
        match self {
            ConnectionState::Connected => None,
            ConnectionState::Suspended(error) | ConnectionState::Lost(error) => Some(error),
        }
    }
}
