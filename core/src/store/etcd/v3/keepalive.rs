//! LeasePool are renewed together, a third of their time after the last time: ten thousand registrations are
//! fifty renewals at a time, and nobody wakes for one of them dedicated, unless it was not renewed in time.

use std::sync::Arc;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::store::etcd::v3::lease_pool::{LeasePool, PooledLease};
use crate::store::etcd::v3::{AT_A_TIME, EtcdV3Store};

/// Renews all leases that have keys, for as long as there are any.
pub(super) async fn all(calls: EtcdV3Store) {
    let mut abandoned = Abandoned(Some(calls.leases.clone()));
    tokio::select! {
        () = renewals(&calls) => abandoned.0 = None,
        () = alarms(&calls.leases) => {}
    }
}

/// What fails is tried again; who holds a key is told by the alarm.
async fn renewals(calls: &EtcdV3Store) {
    loop {
        // First listen, then look.
        let news = calls.leases.news.notified();
        let kept = calls.leases.kept();
        let Some(next) = kept.iter().map(|(due, _)| *due).min() else {
            return;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            // One may be due before all others, or there are none any more.
            () = news => continue,
        }
        let now = Instant::now();
        // Those that are due a little later go with them, so that they stay together.
        let due = kept
            .into_iter()
            .filter(|(due, lease)| *due <= now + lease.ttl / 12);
        let renew = |(_, lease)| renew(calls, lease).boxed();
        let renewals = stream::iter(due).map(renew).buffer_unordered(AT_A_TIME);
        renewals.for_each(async |()| {}).await;
    }
}

/// Wakes those who hold keys of a lease that was not confirmed in time, however long an answer takes.
async fn alarms(leases: &LeasePool) {
    loop {
        let news = leases.news.notified();
        let next = leases.sound_alarms();
        tokio::select! {
            () = sleep_until(next) => {}
            // One may run out before all others.
            () = news => {}
        }
    }
}

async fn renew(calls: &EtcdV3Store, lease: Arc<PooledLease>) {
    // Why not, who holds a key is told when it asks.
    if let Err(error) = calls.renew(&lease).await {
        tracing::debug!(
            backend = "etcd",
            error = %error.report(),
            lease = format_args!("{:x}", lease.id),
            "lease keepalive failed, retrying"
        );
    }
}

/// Should the task end before its time, nobody is left to rely on it.
struct Abandoned(Option<Arc<LeasePool>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(leases) = self.0.take() {
            leases.abandon();
        }
    }
}
