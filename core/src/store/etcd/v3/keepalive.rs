//! Renewal of the pooled leases, at a third of their TTL. Ten thousand registrations need fifty renewals at
//! a time; their owners are woken only if a renewal is overdue.

use std::sync::Arc;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::store::etcd::v3::lease_pool::LeasePool;
use crate::store::etcd::v3::pooled_lease::PooledLease;
use crate::store::etcd::v3::{EtcdV3Store, MAX_CONCURRENT_LEASE_CALLS};

/// Renews all leases that have keys, until none is left.
pub(super) async fn run(calls: EtcdV3Store) {
    let mut abandoned = AbandonOnDrop(Some(calls.leases.clone()));
    tokio::select! {
        () = renewals(&calls) => abandoned.0 = None,
        () = overdue_signals(&calls.leases) => {}
    }
}

/// Renews what is due. Failed renewals are retried; the owners learn of them from the overdue signal.
async fn renewals(calls: &EtcdV3Store) {
    loop {
        // Subscribes before the check, so that no signal is lost.
        let changed = calls.leases.changed.notified();
        let kept = calls.leases.due_renewals();
        let Some(next) = kept.iter().map(|(due, _)| *due).min() else {
            return;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            // The set of leases has changed.
            () = changed => continue,
        }
        let now = Instant::now();
        // Leases that are due soon are renewed in the same round, which keeps them together.
        let due = kept
            .into_iter()
            .filter(|(due, lease)| *due <= now + lease.ttl / 12);
        let renew = |(_, lease)| renew(calls, lease).boxed();
        let renewals = stream::iter(due)
            .map(renew)
            .buffer_unordered(MAX_CONCURRENT_LEASE_CALLS);
        renewals.for_each(async |()| {}).await;
    }
}

/// Wakes the owners of overdue leases, however long a renewal takes.
async fn overdue_signals(leases: &LeasePool) {
    loop {
        let changed = leases.changed.notified();
        let next = leases.signal_overdue();
        tokio::select! {
            () = sleep_until(next) => {}
            // The set of leases has changed.
            () = changed => {}
        }
    }
}

async fn renew(calls: &EtcdV3Store, lease: Arc<PooledLease>) {
    // The owners learn of the failure from their next call.
    if let Err(error) = calls.renew(&lease).await {
        tracing::debug!(
            backend = "etcd",
            error = %error.report(),
            lease = format_args!("{:x}", lease.id),
            "lease keepalive failed, retrying"
        );
    }
}

/// Abandons the pool if the task ends unexpectedly.
struct AbandonOnDrop(Option<Arc<LeasePool>>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        if let Some(leases) = self.0.take() {
            leases.abandon();
        }
    }
}
