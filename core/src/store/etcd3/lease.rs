//! The leases that a client made, and the ending of those whose making was given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::LeaseClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::store::etcd3::CALL;

/// The leases that this client made, ended ones too until their time is over.
#[derive(Default)]
pub(super) struct Leases {
    /// Until when the store may still hold keys under each.
    ours: Mutex<HashMap<i64, Instant>>,
    /// Leases being ended whose making was given up.
    orphans: Mutex<JoinSet<()>>,
}

impl Leases {
    pub(super) fn ours(&self) -> MutexGuard<'_, HashMap<i64, Instant>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn orphans(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new id. It is ours to choose, so that a lease whose answer is lost is still known.
    pub(super) fn issue(&self, ttl: Duration) -> i64 {
        let id = fastrand::i64(1..);
        let now = Instant::now();
        let mut ours = self.ours();
        ours.retain(|_, until| *until > now);
        // After an election of its leader, etcd gives each lease its whole time again.
        ours.insert(id, now + ttl * 2 + Duration::from_secs(60));
        id
    }
}

/// Ends a lease whose making was given up half-way, so that nothing lives on without an owner.
pub(super) struct Orphan(pub(super) Option<(LeaseClient, i64, Arc<Leases>)>);

impl Drop for Orphan {
    fn drop(&mut self) {
        let Some((mut client, id, leases)) = self.0.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut orphans = leases.orphans();
            while orphans.try_join_next().is_some() {}
            orphans.spawn_on(
                async move { drop(timeout(CALL, client.revoke(id)).await) },
                &runtime,
            );
        }
    }
}
