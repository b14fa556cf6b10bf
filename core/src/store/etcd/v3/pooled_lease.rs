//! A lease that many registrations share, with its keys and the times of its renewals.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::kv::Key;
use crate::model::Grant;
use crate::store::etcd::v3::EtcdV3Store;
use crate::store::watch_driver::limit_renewal;

/// Maximum number of keys per lease. At each put etcd walks the keys of the lease, which at this size is a
/// thirtieth of the cost of the put; half the size would double the renewals.
const MAX_KEYS_PER_LEASE: usize = 200;
/// Interval of retries after a failed renewal.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A lease with its keys.
pub(super) struct PooledLease {
    pub(super) id: i64,
    /// The requested TTL in seconds.
    pub(super) requested_ttl: i64,
    pub(super) ttl: Duration,
    pub(super) dedicated: bool,
    /// Revision at which each key was written; 0 while unknown.
    pub(super) keys: Mutex<HashMap<Key, u64>>,
    pub(super) times: Mutex<RenewalTimes>,
    /// Wakes the owners of keys when the lease is overdue or has ended.
    pub(super) overdue_signal: Notify,
    /// Locked during a renewal. Contains the time and error of the last failed one.
    pub(super) renewal: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

/// Start of the last confirmed renewal, and of the last attempt.
#[derive(Clone, Copy)]
pub(super) struct RenewalTimes {
    pub(super) confirmed: Instant,
    pub(super) attempted: Instant,
}

impl PooledLease {
    fn keys(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves slots for the keys. Returns false if there are too few, or the lease has one of the keys
    /// already: different owners of a key need different leases.
    pub(super) fn reserve(&self, wanted: &[Key]) -> bool {
        let mut keys = self.keys();
        let room = keys.len() + wanted.len() <= MAX_KEYS_PER_LEASE;
        let reserved = room && !wanted.iter().any(|key| keys.contains_key(key));
        if reserved {
            keys.extend(wanted.iter().map(|key| (key.clone(), 0)));
        }
        reserved
    }

    /// Records the revision at which the keys were written.
    pub(super) fn record_written(&self, wanted: &[Key], revision: u64) {
        self.keys()
            .extend(wanted.iter().map(|key| (key.clone(), revision)));
    }

    /// Returns the revision of each of the keys.
    pub(super) fn revisions(&self, wanted: &[Key]) -> Vec<(Key, u64)> {
        let keys = self.keys();
        wanted
            .iter()
            .filter_map(|key| Some((key.clone(), *keys.get(key)?)))
            .collect()
    }

    pub(super) fn release(&self, wanted: &[Key]) {
        let mut keys = self.keys();
        wanted.iter().for_each(|key| {
            keys.remove(key);
        });
    }

    fn times(&self) -> MutexGuard<'_, RenewalTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since the last confirmation, or `None` if the lease is dedicated.
    pub(super) fn since_confirmed(&self) -> Option<Duration> {
        (!self.dedicated).then(|| self.times().confirmed.elapsed())
    }

    /// Returns the time of the next renewal, or `None` if the lease is dedicated or has no keys.
    pub(super) fn next_renewal(&self) -> Option<Instant> {
        let needed = !self.dedicated && !self.keys().is_empty();
        let RenewalTimes {
            confirmed,
            attempted,
        } = *self.times();
        let pace = RETRY_INTERVAL.min(self.ttl / 3);
        needed.then(|| (confirmed + self.ttl / 3).max(attempted + pace))
    }

    /// Returns the time at which the lease becomes overdue.
    pub(super) fn overdue_at(&self) -> Instant {
        self.times().confirmed + Grant::overdue_after(self.ttl)
    }

    /// Renews the lease, unless that was just done for another of its keys.
    pub(super) async fn renew(&self, calls: &EtcdV3Store) -> Result<()> {
        let came = Instant::now();
        let mut failed = self.renewal.lock().await;
        if !self.dedicated && self.times().confirmed.elapsed() < self.ttl / 4 {
            return Ok(());
        }
        // A failure since this call began counts for this call, too.
        if let Some((_, error)) = failed.as_ref().filter(|(attempted, _)| *attempted >= came) {
            return Err(error.clone());
        }
        let started = Instant::now();
        self.times().attempted = started;
        // etcd-client returns an error if the first response has a TTL of zero, which means an ended lease.
        let renewal = calls.run(|mut client| {
            let id = self.id;
            async move { client.lease_keep_alive(id).await }
        });
        let renewed = limit_renewal(self.ttl, renewal).await;
        if let Err(error) = renewed {
            *failed = Some((started, error.clone()));
            return Err(error);
        }
        self.times().confirmed = started;
        calls.leases.record_granted(self.id, started + self.ttl * 2);
        Ok(())
    }
}
