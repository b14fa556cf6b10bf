//! Tests of the lease task against a scripted backend, on a paused clock.

mod external_updates;
mod model;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep};

use super::*;
use crate::model::{Grant, Heartbeat, OnConflict, ServiceName, SharedAttributes, View};

const TTL: Duration = Duration::from_secs(9);

/// A backend that fails as scripted, then succeeds, and records each call with its time in milliseconds.
struct Scripted {
    start: Instant,
    script: Mutex<VecDeque<ErrorKind>>,
    calls: Mutex<Vec<(u64, &'static str, String)>>,
    /// The shared attributes, emitted on each change and first to a new subscription.
    shared: watch::Sender<Option<SharedAttributes>>,
    subscriptions: AtomicU64,
    /// Updates wait for this lock.
    update_lock: tokio::sync::Mutex<()>,
    forbids_updates: AtomicBool,
    /// The time of the last shared renewal; `None` if the backend does not renew by itself.
    renewed: watch::Sender<Option<Instant>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = ErrorKind>) -> Arc<Scripted> {
        Arc::new(Scripted {
            start: Instant::now(),
            script: Mutex::new(script.into_iter().collect()),
            calls: Mutex::default(),
            shared: watch::Sender::new(None),
            subscriptions: AtomicU64::new(0),
            update_lock: tokio::sync::Mutex::default(),
            forbids_updates: AtomicBool::new(false),
            renewed: watch::Sender::new(None),
        })
    }

    fn fail_next(&self, kinds: impl IntoIterator<Item = ErrorKind>) {
        self.script.lock().unwrap().extend(kinds);
    }

    fn answer(&self, call: &'static str, r: &Registration) -> Result<()> {
        let at = self.start.elapsed().as_millis() as u64;
        let value = r.attributes.get("v").cloned().unwrap_or_default();
        self.calls.lock().unwrap().push((at, call, value));
        match self.script.lock().unwrap().pop_front() {
            Some(kind) => Err(Error::new(kind, "as scripted")),
            None => Ok(()),
        }
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .map(|(_, call, _)| *call)
            .collect()
    }

    fn last(&self) -> (u64, &'static str, String) {
        self.calls.lock().unwrap().last().unwrap().clone()
    }
}

impl Backend for Scripted {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn register<'a>(
        &'a self,
        r: &'a Registration,
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>> {
        let call = if on_conflict == OnConflict::RestoreOnly {
            "restore"
        } else {
            "register"
        };
        ready(self.answer(call, r).map(|()| Grant { id: 1, ttl: TTL })).boxed()
    }

    fn heartbeat<'a>(&'a self, r: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(self.answer("heartbeat", r)).boxed()
    }

    fn last_confirmed(&self, _: Grant) -> Option<Duration> {
        Some(self.renewed.borrow().as_ref()?.elapsed())
    }

    fn renewal_overdue(&self, grant: Grant) -> BoxFuture<'static, ()> {
        let mut renewed = self.renewed.subscribe();
        async move {
            loop {
                let last = *renewed.borrow_and_update();
                let Some(at) = last else { return };
                tokio::select! {
                    () = tokio::time::sleep_until(at + Grant::overdue_after(grant.ttl)) => return,
                    _ = renewed.changed() => {}
                }
            }
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        r: &'a Registration,
        _: Grant,
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        let call = match on_conflict {
            OnConflict::Replace => "update",
            OnConflict::RestoreOnly => "rewrite",
        };
        async move {
            let _turn = self.update_lock.lock().await;
            let answer = self.answer(call, r);
            if self.forbids_updates.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::PermissionDenied, "as was set"));
            }
            answer
        }
        .boxed()
    }

    fn shared_attributes(&self, _: &Registration) -> BoxStream<'static, SharedAttributes> {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let mut shared = self.shared.subscribe();
        shared.mark_changed();
        let updates = stream::unfold(shared, |mut shared| async move {
            shared.changed().await.ok()?;
            let update = shared.borrow_and_update().clone();
            Some((update, shared))
        });
        let updates = updates.filter_map(ready);
        updates.chain(stream::pending()).boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(self.answer("unregister", r)).boxed()
    }

    fn subscribe(&self, _: &ServiceName, _: View) -> BoxStream<'static, Result<View>> {
        stream::pending().boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok([127, 0, 0, 1].into())).boxed()
    }
}

async fn register(backend: &Arc<Scripted>, heartbeat: Heartbeat) -> Lease {
    let registration = Registration::new("web", 80).unwrap().heartbeat(heartbeat);
    Lease::start(
        backend.clone(),
        registration.complete("h", TTL),
        Arc::default(),
    )
    .await
    .unwrap()
}

/// Advances the paused clock.
async fn advance(milliseconds: u64) {
    // tidy: sleep, the clock is paused
    sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_renews_three_times_within_a_ttl() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    advance(9_100).await;
    assert_eq!(
        backend.calls(),
        ["register", "heartbeat", "heartbeat", "heartbeat"]
    );
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn updates_do_not_delay_the_heartbeat() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    for step in 0..9 {
        advance(1_000).await;
        lease.update([("v", step.to_string())]).await.unwrap();
    }
    advance(100).await;
    assert_eq!(
        backend
            .calls()
            .iter()
            .filter(|call| **call == "heartbeat")
            .count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_registered_again_at_once_with_the_last_update() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "2")]).await.unwrap();
    backend.fail_next([ErrorKind::LeaseLost]);
    advance(3_100).await;
    assert_eq!(backend.calls()[2..], ["heartbeat", "restore"]);
    assert_eq!(backend.calls.lock().unwrap()[3].2, "2");
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_ttl_is_reported_and_recovered() {
    let backend = Scripted::new([]);
    let mut lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::Unavailable; 40]);
    let lapsed = lease.changed().await;
    assert_eq!(lapsed.name(), "lapsed");
    // The lapse is reported as a timeout, exactly one TTL after the last confirmation.
    assert_eq!(lapsed.error().unwrap().kind(), ErrorKind::Timeout);
    let at = backend.start.elapsed();
    assert!(at >= TTL && at < TTL + TTL / 3, "{at:?}");
    assert_eq!(lease.changed().await.name(), "live");
}

#[tokio::test(start_paused = true)]
async fn shared_renewals_need_no_heartbeat_until_one_is_overdue() {
    let backend = Scripted::new([]);
    backend.renewed.send_replace(Some(Instant::now()));
    let mut lease = register(&backend, Heartbeat::Automatic).await;
    for _ in 0..10 {
        advance(3_000).await;
        backend.renewed.send_replace(Some(Instant::now()));
    }
    lease.update([("v", "2")]).await.unwrap();
    assert_eq!(backend.calls(), ["register", "update"]);
    let last = backend.start.elapsed();
    backend.fail_next([ErrorKind::Unavailable; 40]);
    assert_eq!(lease.changed().await.name(), "lapsed");
    let at = backend.start.elapsed() - last;
    assert!(at >= TTL && at < TTL + Duration::from_millis(10), "{at:?}");
    let (asked, call, _) = backend.calls.lock().unwrap()[2].clone();
    assert!(
        (36_000..36_010).contains(&asked) && call == "heartbeat",
        "{call} at {asked}"
    );
    // A shared renewal alone does not end the lapse; a heartbeat must confirm the registration first.
    backend.renewed.send_replace(Some(Instant::now()));
    assert_eq!(lease.changed().await.name(), "live");
    assert_eq!(backend.last().1, "heartbeat");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_registration_is_never_written_again() {
    let backend = Scripted::new([]);
    let mut lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::Replaced]);
    assert_eq!(lease.changed().await.name(), "replaced");
    advance(100_000).await;
    assert_eq!(
        lease.update([("v", "2")]).await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    lease.unregister().await.unwrap();
    assert_eq!(backend.calls(), ["register", "heartbeat"]);
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_value_is_rewritten_before_the_next_heartbeat() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "1")]).await.unwrap();
    backend.fail_next([ErrorKind::Timeout]);
    assert_eq!(
        lease.update([("v", "2")]).await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    advance(1_000).await;
    // The update failed, so the value before it stays in force, whichever value the store holds.
    // An update renews nothing, so a heartbeat follows at once.
    assert_eq!(backend.calls()[3..], ["rewrite", "heartbeat"]);
    assert_eq!(backend.calls.lock().unwrap()[3].2, "1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_is_retried_after_a_third_of_the_ttl() {
    let backend = Scripted::new([]);
    let mut lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::InvalidArgument; 3]);
    assert_eq!(lease.changed().await.name(), "lapsed");
    assert_eq!(lease.changed().await.name(), "live");
    assert_eq!(backend.calls().len(), 5);
    assert_eq!(backend.last().0, 12_000);
}

#[tokio::test(start_paused = true)]
async fn a_lost_registration_is_not_taken_from_a_new_owner() {
    let backend = Scripted::new([]);
    let mut lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::LeaseLost, ErrorKind::Replaced]);
    assert_eq!(lease.changed().await.name(), "replaced");
    assert_eq!(backend.last().1, "restore");
}

#[tokio::test(start_paused = true)]
async fn unregister_takes_precedence_over_a_restore() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::LeaseLost, ErrorKind::Unavailable]);
    advance(3_050).await;
    lease.unregister().await.unwrap();
    let calls = backend.calls().len();
    advance(100_000).await;
    assert_eq!(backend.calls().len(), calls, "no further calls");
    assert_eq!(lease.standing().name(), "released");
}

#[tokio::test(start_paused = true)]
async fn dropping_unregisters() {
    let backend = Scripted::new([]);
    drop(register(&backend, Heartbeat::Automatic).await);
    advance(1).await;
    assert_eq!(backend.calls(), ["register", "unregister"]);
}

#[tokio::test(start_paused = true)]
async fn a_missed_manual_heartbeat_unregisters_after_a_ttl_and_not_before() {
    let backend = Scripted::new([]);
    let mut lease = register(&backend, Heartbeat::Manual).await;
    advance(8_000).await;
    backend.fail_next([ErrorKind::Unavailable]);
    assert_eq!(
        lease.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    lease.heartbeat().await.unwrap();
    assert_eq!(lease.changed().await.name(), "lapsed");
    assert_eq!(backend.last(), (17_000, "unregister", String::new()));
    advance(100_000).await;
    lease.heartbeat().await.unwrap();
    assert_eq!(backend.last().1, "restore");
    assert_eq!(lease.standing().name(), "live");
}
