//! How a client fares: its connection, and what it has been through.

use std::time::Duration;

use crate::error::Error;

/// How the connection to the store fares.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// The store answers, or has not been asked yet.
    Connected,
    /// It does not. Sets are kept as they were, registrations live on in the store for their TTL.
    Suspended(Error),
    /// It has not for the TTL that the URL says, so registrations may be gone; they are put back as soon
    /// as it does. Sets are still kept.
    Lost(Error),
}

impl ConnectionState {
    /// `connected`, `suspended` or `lost`.
    pub fn name(&self) -> &'static str {
        match self {
            ConnectionState::Connected => "connected",
            ConnectionState::Suspended(_) => "suspended",
            ConnectionState::Lost(_) => "lost",
        }
    }

    /// Why it is not connected.
    pub fn error(&self) -> Option<&Error> {
        match self {
            ConnectionState::Connected => None,
            ConnectionState::Suspended(error) | ConnectionState::Lost(error) => Some(error),
        }
    }
}

/// What a client has been through since it was opened. All but `lag` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections made after the first.
    pub reconnects: u64,
    /// Whole lists read after the first of each service.
    pub relists: u64,
    /// Times the store turned out to have another history than before: restored, or wiped.
    pub resyncs: u64,
    /// Changes that the store sent again, and that were dropped.
    pub duplicates: u64,
    /// Comparisons with a list that showed that the store had not told of a change.
    pub mismatches: u64,
    /// Records that could not be read, each time one came.
    pub invalid: u64,
    /// Registrations put back after they were lost.
    pub restored: u64,
    /// How long ago the store last gave a sign of life on the watches: how old what is shown may be at
    /// most. Zero where nothing can be lost on the way, and while nothing is watched.
    pub lag: Duration,
}

macro_rules! fields {
    ($($name:ident),*) => {
        impl Metrics {
            /// Each counter with its name, the same in every language; `lag_ms` comes last.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                let lag = ("lag_ms", self.lag.as_millis() as u64);
                [$((stringify!($name), self.$name)),*].into_iter().chain([lag]).collect()
            }
        }
    };
}

fields!(
    reconnects, relists, resyncs, duplicates, mismatches, invalid, restored
);
