//! Metrics of a client.

use std::time::Duration;

/// Counters of a client since it was opened. All except `lag` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Reconnects: connections after the first one.
    pub reconnects: u64,
    /// Complete listings after the first one of each service.
    pub relists: u64,
    /// Number of times that the store had another history than before, because it was restored or wiped.
    pub resyncs: u64,
    /// Changes that the store sent again and that were dropped.
    pub duplicates: u64,
    /// Comparisons with a complete listing that revealed a change that the store had not reported.
    pub mismatches: u64,
    /// Malformed records, counted at each arrival.
    pub invalid: u64,
    /// Registrations restored after they were lost.
    pub restored: u64,
    /// Time since the last progress response on the watches, which is the maximum age of the sets. Zero for
    /// stores that cannot miss a change, and while nothing is watched.
    pub lag: Duration,
}

macro_rules! fields {
    ($($name:ident),*) => {
        impl Metrics {
            /// Returns each counter with its name, the same in every language; `lag_ms` is last.
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
