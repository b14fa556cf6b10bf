//! Pool of leases that many registrations share. One lease per registration would cost one renewal each; a
//! single lease for all would make etcd walk all its keys on each put.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, LeaseGrantOptions, Txn, TxnOp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Key;
use crate::model::Grant;
use crate::store::etcd::v3::EtcdV3Store;
use crate::store::etcd::v3::pooled_lease::{PooledLease, RETRY_INTERVAL, RenewalTimes};

/// The longest wait before a failed clean-up is tried again.
const CLEANUP_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The leases of this client; also ended ones, until their TTL is over.
#[derive(Default)]
pub(super) struct LeasePool {
    state: Mutex<PoolState>,
    /// Locked while a lease is granted, so that concurrent registrations share it.
    granting: tokio::sync::Mutex<()>,
    /// Wakes the renewing task when the set of leases to renew changes.
    pub(super) changed: Notify,
    /// Clean-up tasks of cancelled calls.
    cleanup: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct PoolState {
    /// Time until which the store may have keys of each lease.
    granted: HashMap<i64, Instant>,
    leases: HashMap<i64, Arc<PooledLease>>,
    /// Id of the lease that last had a free slot.
    last_with_room: i64,
    /// Whether the renewing task runs.
    is_renewing: bool,
}

impl LeasePool {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cleanup(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.cleanup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if this client granted the lease.
    pub(super) fn has_granted(&self, id: i64) -> bool {
        self.state().granted.contains_key(&id)
    }

    pub(super) fn record_granted(&self, id: i64, until: Instant) {
        // After a leader election etcd restarts the TTL of each lease.
        let until = until + Duration::from_secs(60);
        let mut state = self.state();
        state.granted.retain(|_, until| *until > Instant::now());
        state.granted.insert(id, until);
    }

    /// Returns the lease of a grant.
    ///
    /// # Errors
    ///
    /// Fails with `LeaseLost` if the lease has ended.
    pub(super) fn get(&self, grant: Grant) -> Result<Arc<PooledLease>> {
        let lease = self.state().leases.get(&(grant.id as i64)).cloned();
        lease.ok_or_else(|| Error::new(ErrorKind::LeaseLost, "the lease is gone"))
    }

    /// Frees the slots of the keys.
    pub(super) fn release(&self, lease: &PooledLease, keys: &[Key]) {
        lease.release(keys);
        if lease.next_renewal().is_none() {
            self.changed.notify_waiters();
        }
    }

    /// Removes a lease that has ended in the store; each of its owners learns it from the next call.
    pub(super) fn remove(&self, id: i64) {
        let gone = self.state().leases.remove(&id);
        gone.inspect(|lease| lease.overdue_signal.notify_waiters());
        self.changed.notify_waiters();
    }

    /// Resolves when the lease of a grant is overdue or not renewed by the pool; at once if it is dedicated.
    pub(super) async fn wait_overdue(&self, grant: Grant) {
        let kept = |lease: &PooledLease| {
            let state = self.state();
            let there = state.is_renewing && state.leases.contains_key(&lease.id);
            there && !lease.dedicated && Instant::now() < lease.overdue_at()
        };
        while let Ok(lease) = self.get(grant) {
            // Subscribes before the check, so that no signal is lost.
            let overdue_signal = lease.overdue_signal.notified();
            if !kept(&lease) {
                return;
            }
            overdue_signal.await;
        }
    }

    /// Returns a lease with slots for the keys: a pooled one, or a new one.
    pub(super) async fn acquire(
        &self,
        calls: &EtcdV3Store,
        keys: &[Key],
        ttl: Duration,
        dedicated: bool,
    ) -> Result<Arc<PooledLease>> {
        let requested_ttl = ttl.as_secs_f64().ceil() as i64;
        let _making = self.granting.lock().await;
        let lease = self
            .find_or_grant(calls, keys, requested_ttl, dedicated)
            .await?;
        if !dedicated && !std::mem::replace(&mut self.state().is_renewing, true) {
            calls.start_renewals();
        }
        Ok(lease)
    }

    /// Marks all leases as not renewed, after an unexpected end of the renewing task: their owners renew
    /// them.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.is_renewing = false;
        state
            .leases
            .values()
            .for_each(|lease| lease.overdue_signal.notify_waiters());
    }

    async fn find_or_grant(
        &self,
        calls: &EtcdV3Store,
        keys: &[Key],
        requested_ttl: i64,
        dedicated: bool,
    ) -> Result<Arc<PooledLease>> {
        while let Some(lease) = self.find_with_room(keys, requested_ttl, dedicated) {
            match lease.renew(calls).await {
                Ok(()) => return Ok(lease),
                Err(error) => {
                    self.release(&lease, keys);
                    if error.kind() != ErrorKind::LeaseLost {
                        return Err(error);
                    }
                    self.remove(lease.id);
                }
            }
        }
        let lease = Arc::new(self.grant(calls, requested_ttl, dedicated).await?);
        lease.reserve(keys);
        self.state().leases.insert(lease.id, lease.clone());
        self.changed.notify_waiters();
        Ok(lease)
    }

    /// Returns the leases to renew with their due times. Without any, the renewing task ends.
    pub(super) fn due_renewals(&self) -> Vec<(Instant, Arc<PooledLease>)> {
        let mut state = self.state();
        let due = |lease: &Arc<PooledLease>| Some((lease.next_renewal()?, lease.clone()));
        let kept: Vec<_> = state.leases.values().filter_map(due).collect();
        state.is_renewing = !kept.is_empty();
        kept
    }

    /// Wakes the owners of overdue leases. Returns the time of the next check.
    pub(super) fn signal_overdue(&self) -> Instant {
        let now = Instant::now();
        let look = |lease: &Arc<PooledLease>| match lease.overdue_at() {
            later if later > now => later,
            _ => {
                lease.overdue_signal.notify_waiters();
                // The lease may be confirmed and become overdue again.
                now + lease.ttl / 3
            }
        };
        let state = self.state();
        let next = state
            .leases
            .values()
            .filter(|lease| !lease.dedicated)
            .map(look);
        next.min().unwrap_or(now + RETRY_INTERVAL)
    }

    fn find_with_room(
        &self,
        keys: &[Key],
        requested_ttl: i64,
        dedicated: bool,
    ) -> Option<Arc<PooledLease>> {
        let mut state = self.state();
        let fits = |lease: &&Arc<PooledLease>| {
            !dedicated
                && !lease.dedicated
                && lease.requested_ttl == requested_ttl
                && lease.reserve(keys)
        };
        // Most leases are full; the last one with a free slot is tried first.
        let last = state.leases.get(&state.last_with_room).filter(fits);
        let lease = last.or_else(|| state.leases.values().find(fits)).cloned()?;
        state.last_with_room = lease.id;
        Some(lease)
    }

    async fn grant(
        &self,
        calls: &EtcdV3Store,
        requested_ttl: i64,
        dedicated: bool,
    ) -> Result<PooledLease> {
        // The client chooses the id, so that a lease is known even if the response is lost.
        let id = fastrand::i64(1..);
        let start = Instant::now();
        self.record_granted(id, start + Duration::from_secs(requested_ttl as u64 * 2));
        let mut unconfirmed = RevokeOnDrop(Some((calls.clone(), id)));
        let options = LeaseGrantOptions::new().with_id(id);
        let granted = calls
            .run(|mut client| {
                let options = Some(options.clone());
                async move { client.lease_grant(requested_ttl, options).await }
            })
            .await?;
        unconfirmed.0 = None;
        Ok(PooledLease {
            id,
            requested_ttl,
            ttl: Duration::from_secs(granted.ttl().max(1) as u64),
            dedicated,
            keys: Mutex::default(),
            overdue_signal: Notify::new(),
            times: Mutex::new(RenewalTimes {
                confirmed: start,
                attempted: start,
            }),
            renewal: tokio::sync::Mutex::default(),
        })
    }

    /// Runs the clean-up of a cancelled call in the background.
    fn spawn_cleanup(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut cleanup = self.cleanup();
            while cleanup.try_join_next().is_some() {}
            cleanup.spawn_on(work, &runtime);
        }
    }

    /// Waits for all clean-up tasks.
    pub(super) async fn finish_cleanup(&self) {
        let cleanup = std::mem::take(&mut *self.cleanup());
        cleanup.join_all().await;
    }
}

/// Revokes a lease whose grant was cancelled, so that it does not live on without an owner.
struct RevokeOnDrop(Option<(EtcdV3Store, i64)>);

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        if let Some((calls, id)) = self.0.take() {
            let leases = calls.leases.clone();
            leases.spawn_cleanup(async move {
                let revoke = |mut client: Client| async move { client.lease_revoke(id).await };
                drop(calls.run(revoke).await);
            });
        }
    }
}

/// Deletes keys after a failed or cancelled create or remove. Other owners may keep the lease alive, so the keys are
/// deleted within a second of the store's return. Until then they stay reserved and are not written under this lease
/// again. If the store refuses to delete them, the lease is not renewed any more, so that they expire.
pub(super) struct DeleteOnDrop(pub(super) Option<(EtcdV3Store, Arc<PooledLease>, Vec<Key>)>);

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        if let Some((calls, lease, keys)) = self.0.take() {
            let leases = calls.leases.clone();
            leases.spawn_cleanup(async move {
                let mut backoff = Backoff::new(CLEANUP_RETRY_INTERVAL / 10, CLEANUP_RETRY_INTERVAL);
                loop {
                    match calls.delete_held(&keys, lease.id).await {
                        Err(error) if error.is_retriable() => sleep(backoff.next_wait()).await,
                        // The lease would keep the keys for the life of the process. Its other keys are written under
                        // another lease by their owners.
                        Err(_) => return calls.leases.remove(lease.id),
                        Ok(()) => return calls.leases.release(&lease, &keys),
                    }
                }
            });
        }
    }
}

impl EtcdV3Store {
    /// Deletes the keys that the lease still owns.
    pub(super) async fn delete_held(&self, keys: &[Key], lease: i64) -> Result<()> {
        for key in keys {
            let path = self.config.path(key.as_str());
            let held = Compare::lease(path.clone(), CompareOp::Equal, lease);
            let txn = Txn::new()
                .when([held])
                .and_then([TxnOp::delete(path, None)]);
            self.txn(|| self.config.path(key.as_str()), txn).await?;
        }
        Ok(())
    }
}
