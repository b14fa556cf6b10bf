//! The leases of a client. One serves many registrations: a lease for each would cost the store a
//! renewal for each, and one for all would make it walk through all at each change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, LeaseGrantOptions, Txn, TxnOp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Key;
use crate::model::Grant;
use crate::store::etcd::v3::{EtcdV3Store, keepalive};

/// How many keys a lease serves. At each put etcd walks through those of its lease, which here is a
/// thirtieth of what the put costs it; half as many would be twice the renewals.
const ROOM: usize = 200;
/// How soon a renewal that failed is tried again.
const PACE: Duration = Duration::from_secs(1);

/// The leases that this client made, ended ones too until their time is over.
#[derive(Default)]
pub(super) struct LeasePool {
    state: Mutex<State>,
    /// Held while a lease is made, so that those who come meanwhile share it.
    making: tokio::sync::Mutex<()>,
    /// Tells who renews them that there is one more to be renewed, or one less.
    pub(super) news: Notify,
    /// What is left to be done behind calls that were given up.
    orphans: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    /// Until when the store may still hold keys under each.
    ours: HashMap<i64, Instant>,
    leases: HashMap<i64, Arc<PooledLease>>,
    /// The one that had room last.
    roomy: i64,
    /// Whether somebody renews them.
    renewing: bool,
}

/// A lease in use, with its keys.
pub(super) struct PooledLease {
    pub(super) id: i64,
    /// What was asked for, in seconds.
    asked: i64,
    pub(super) ttl: Duration,
    dedicated: bool,
    /// The revision at which each key was written, 0 while that is not known.
    keys: Mutex<HashMap<Key, u64>>,
    times: Mutex<Times>,
    /// Tells who holds a key that it was not confirmed in time, or is gone.
    pub(super) alarm: Notify,
    /// Held while it is renewed; the last failure, and when that was tried.
    turn: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

/// When the last renewal began that was confirmed, and the last that was tried.
#[derive(Clone, Copy)]
struct Times {
    confirmed: Instant,
    tried: Instant,
}

impl PooledLease {
    fn keys(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps room for the keys, unless there is none or one of them is here already: the lease is what
    /// tells one owner of a key from the next.
    fn reserve(&self, wanted: &[Key]) -> bool {
        let mut keys = self.keys();
        let room = keys.len() + wanted.len() <= ROOM;
        let reserved = room && !wanted.iter().any(|key| keys.contains_key(key));
        if reserved {
            keys.extend(wanted.iter().map(|key| (key.clone(), 0)));
        }
        reserved
    }

    /// Notes at which revision the keys were written.
    pub(super) fn written(&self, wanted: &[Key], revision: u64) {
        self.keys()
            .extend(wanted.iter().map(|key| (key.clone(), revision)));
    }

    /// When each of the keys was written.
    pub(super) fn revisions(&self, wanted: &[Key]) -> Vec<(Key, u64)> {
        let keys = self.keys();
        wanted
            .iter()
            .filter_map(|key| Some((key.clone(), *keys.get(key)?)))
            .collect()
    }

    fn release(&self, wanted: &[Key]) {
        let mut keys = self.keys();
        wanted.iter().for_each(|key| {
            keys.remove(key);
        });
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago it was confirmed, if it is renewed for all of its keys together.
    pub(super) fn kept(&self) -> Option<Duration> {
        (!self.dedicated).then(|| self.times().confirmed.elapsed())
    }

    /// When it is to be renewed; never, if nobody needs it or it is left to its owner.
    pub(super) fn due(&self) -> Option<Instant> {
        let needed = !self.dedicated && !self.keys().is_empty();
        let Times { confirmed, tried } = *self.times();
        let pace = PACE.min(self.ttl / 3);
        needed.then(|| (confirmed + self.ttl / 3).max(tried + pace))
    }

    /// When those who hold its keys are to be told, if it is not confirmed before.
    pub(super) fn overdue(&self) -> Instant {
        self.times().confirmed + Grant::overdue_after(self.ttl)
    }

    /// Confirms the lease with the store, unless that was just done for another of its keys.
    pub(super) async fn renew(&self, calls: &EtcdV3Store) -> Result<()> {
        let came = Instant::now();
        let mut failed = self.turn.lock().await;
        if !self.dedicated && self.times().confirmed.elapsed() < self.ttl / 4 {
            return Ok(());
        }
        // What was tried since is an answer to all who waited for it.
        if let Some((_, error)) = failed.as_ref().filter(|(tried, _)| *tried >= came) {
            return Err(error.clone());
        }
        let asked = Instant::now();
        self.times().tried = asked;
        // The crate makes a first answer of zero seconds, a lease that is gone, an error.
        let renewed = calls
            .run(async |mut client| client.lease_keep_alive(self.id).await)
            .await;
        if let Err(error) = renewed {
            *failed = Some((asked, error.clone()));
            return Err(error);
        }
        self.times().confirmed = asked;
        calls.leases.still_ours(self.id, asked + self.ttl * 2);
        Ok(())
    }
}

impl LeasePool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orphans(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this client made the lease.
    pub(super) fn is_ours(&self, id: i64) -> bool {
        self.state().ours.contains_key(&id)
    }

    fn still_ours(&self, id: i64, until: Instant) {
        // After an election of its leader, etcd gives each lease its whole time again.
        let until = until + Duration::from_secs(60);
        let mut state = self.state();
        state.ours.retain(|_, until| *until > Instant::now());
        state.ours.insert(id, until);
    }

    /// The lease of a grant, unless it is gone.
    pub(super) fn of(&self, grant: Grant) -> Result<Arc<PooledLease>> {
        let lease = self.state().leases.get(&(grant.id as i64)).cloned();
        lease.ok_or_else(|| Error::new(ErrorKind::LeaseLost, "the lease is gone"))
    }

    /// The keys are not, or no longer, those of the lease.
    pub(super) fn release(&self, lease: &PooledLease, keys: &[Key]) {
        lease.release(keys);
        if lease.due().is_none() {
            self.news.notify_waiters();
        }
    }

    /// The store says that it is no more: whoever shares it finds out when it asks.
    pub(super) fn gone(&self, id: i64) {
        let gone = self.state().leases.remove(&id);
        gone.inspect(|lease| lease.alarm.notify_waiters());
        self.news.notify_waiters();
    }

    /// Waits until nobody keeps the lease of a grant as it should be kept; over at once if it is left to its
    /// owner.
    pub(super) async fn overdue(&self, grant: Grant) {
        let kept = |lease: &PooledLease| {
            let state = self.state();
            let there = state.renewing && state.leases.contains_key(&lease.id);
            there && !lease.dedicated && Instant::now() < lease.overdue()
        };
        while let Ok(lease) = self.of(grant) {
            // First listen, then look.
            let alarm = lease.alarm.notified();
            if !kept(&lease) {
                return;
            }
            alarm.await;
        }
    }

    /// A lease with room for the keys: one that is there, or a new one.
    pub(super) async fn lease(
        &self,
        calls: &EtcdV3Store,
        keys: &[Key],
        ttl: Duration,
        dedicated: bool,
    ) -> Result<Arc<PooledLease>> {
        let asked = ttl.as_secs_f64().ceil() as i64;
        let _making = self.making.lock().await;
        let lease = self.find_or_make(calls, keys, asked, dedicated).await?;
        if !dedicated && !std::mem::replace(&mut self.state().renewing, true) {
            tokio::spawn(keepalive::all(calls.clone()));
        }
        Ok(lease)
    }

    /// Nobody renews them any more, against all plans: each is seen to by those who hold its keys.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.renewing = false;
        state
            .leases
            .values()
            .for_each(|lease| lease.alarm.notify_waiters());
    }

    async fn find_or_make(
        &self,
        calls: &EtcdV3Store,
        keys: &[Key],
        asked: i64,
        dedicated: bool,
    ) -> Result<Arc<PooledLease>> {
        while let Some(lease) = self.with_room(keys, asked, dedicated) {
            match lease.renew(calls).await {
                Ok(()) => return Ok(lease),
                Err(error) => {
                    self.release(&lease, keys);
                    if error.kind() != ErrorKind::LeaseLost {
                        return Err(error);
                    }
                    self.gone(lease.id);
                }
            }
        }
        let lease = Arc::new(self.make(calls, asked, dedicated).await?);
        lease.reserve(keys);
        self.state().leases.insert(lease.id, lease.clone());
        self.news.notify_waiters();
        Ok(lease)
    }

    /// Those that are renewed for all of their keys together. Without any, who renews them ends.
    pub(super) fn kept(&self) -> Vec<(Instant, Arc<PooledLease>)> {
        let mut state = self.state();
        let due = |lease: &Arc<PooledLease>| Some((lease.due()?, lease.clone()));
        let kept: Vec<_> = state.leases.values().filter_map(due).collect();
        state.renewing = !kept.is_empty();
        kept
    }

    /// Tells those who hold keys of leases that were not confirmed in time; says when to look again.
    pub(super) fn sound_alarms(&self) -> Instant {
        let now = Instant::now();
        let look = |lease: &Arc<PooledLease>| match lease.overdue() {
            later if later > now => later,
            _ => {
                lease.alarm.notify_waiters();
                // By then it may have been confirmed, and be overdue again.
                now + lease.ttl / 3
            }
        };
        let state = self.state();
        let next = state
            .leases
            .values()
            .filter(|lease| !lease.dedicated)
            .map(look);
        next.min().unwrap_or(now + PACE)
    }

    fn with_room(&self, keys: &[Key], asked: i64, dedicated: bool) -> Option<Arc<PooledLease>> {
        let mut state = self.state();
        let fits = |lease: &&Arc<PooledLease>| {
            !dedicated && !lease.dedicated && lease.asked == asked && lease.reserve(keys)
        };
        // Most of a thousand leases are full; the one that had room last has room again.
        let last = state.leases.get(&state.roomy).filter(fits);
        let lease = last.or_else(|| state.leases.values().find(fits)).cloned()?;
        state.roomy = lease.id;
        Some(lease)
    }

    async fn make(&self, calls: &EtcdV3Store, asked: i64, dedicated: bool) -> Result<PooledLease> {
        // The id is ours to choose, so that a lease whose answer is lost is still known.
        let id = fastrand::i64(1..);
        let start = Instant::now();
        self.still_ours(id, start + Duration::from_secs(asked as u64 * 2));
        let mut unasked = RevokeOnDrop(Some((calls.clone(), id)));
        let options = LeaseGrantOptions::new().with_id(id);
        let granted = calls
            .run(async |mut client| client.lease_grant(asked, Some(options)).await)
            .await?;
        unasked.0 = None;
        Ok(PooledLease {
            id,
            asked,
            ttl: Duration::from_secs(granted.ttl().max(1) as u64),
            dedicated,
            keys: Mutex::default(),
            alarm: Notify::new(),
            times: Mutex::new(Times {
                confirmed: start,
                tried: start,
            }),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Does later what was given up half-way.
    fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut orphans = self.orphans();
            while orphans.try_join_next().is_some() {}
            orphans.spawn_on(work, &runtime);
        }
    }

    /// Waits for all that was left to be done.
    pub(super) async fn finish(&self) {
        let orphans = std::mem::take(&mut *self.orphans());
        orphans.join_all().await;
    }
}

/// A lease of which nobody knows whether it was made: it is ended, so that it does not live on without
/// an owner.
struct RevokeOnDrop(Option<(EtcdV3Store, i64)>);

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        if let Some((calls, id)) = self.0.take() {
            let leases = calls.leases.clone();
            leases.later(async move {
                drop(
                    calls
                        .run(async |mut client| client.lease_revoke(id).await)
                        .await,
                );
            });
        }
    }
}

/// KeyRevisions that are to be gone, and of which nobody knows whether they are: others may keep the lease alive
/// for ever, so they are deleted as soon as the store answers. Until then they stay reserved, and are not
/// written under this lease again.
pub(super) struct DeleteOnDrop(pub(super) Option<(EtcdV3Store, Arc<PooledLease>, Vec<Key>)>);

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        if let Some((calls, lease, keys)) = self.0.take() {
            let leases = calls.leases.clone();
            leases.later(async move {
                let mut backoff = Backoff::default();
                loop {
                    match calls.delete_held(&keys, lease.id).await {
                        Err(error) if error.is_retriable() => sleep(backoff.next_wait()).await,
                        _ => return calls.leases.release(&lease, &keys),
                    }
                }
            });
        }
    }
}

impl EtcdV3Store {
    /// Deletes those of the keys that the lease still holds.
    pub(super) async fn delete_held(&self, keys: &[Key], lease: i64) -> Result<()> {
        for key in keys {
            let path = self.config.path(key.as_str());
            let held = Compare::lease(path.clone(), CompareOp::Equal, lease);
            let txn = Txn::new()
                .when([held])
                .and_then([TxnOp::delete(path, None)]);
            self.run_on(
                || self.config.path(key.as_str()),
                async |mut client| client.txn(txn).await,
            )
            .await?;
        }
        Ok(())
    }
}
