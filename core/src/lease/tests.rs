//! The keeper against a backend that fails on cue, on a clock that is paused.

mod model;
mod shared_attributes;

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

/// Answers as scripted, then with success; notes what was asked of it and when.
struct Scripted {
    start: Instant,
    script: Mutex<VecDeque<ErrorKind>>,
    calls: Mutex<Vec<(u64, &'static str, String)>>,
    /// What the service says to whoever follows it now, and first to whoever follows it next.
    says: watch::Sender<Option<SharedAttributes>>,
    follows: AtomicU64,
    /// No update is answered while somebody else has it.
    hold: tokio::sync::Mutex<()>,
    forbids_updates: AtomicBool,
    /// When it last renewed by itself, together with others; none where it does not.
    renewed: watch::Sender<Option<Instant>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = ErrorKind>) -> Arc<Scripted> {
        Arc::new(Scripted {
            start: Instant::now(),
            script: Mutex::new(script.into_iter().collect()),
            calls: Mutex::default(),
            says: watch::Sender::new(None),
            follows: AtomicU64::new(0),
            hold: tokio::sync::Mutex::default(),
            forbids_updates: AtomicBool::new(false),
            renewed: watch::Sender::new(None),
        })
    }

    fn fails_next(&self, kinds: impl IntoIterator<Item = ErrorKind>) {
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
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>> {
        let call = if claim == OnConflict::RestoreOnly {
            "put back"
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
                    () = tokio::time::sleep_until(at + Grant::patience(grant.ttl)) => return,
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
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        let call = match claim {
            OnConflict::Replace => "update",
            OnConflict::RestoreOnly => "settle",
        };
        async move {
            let _turn = self.hold.lock().await;
            let answer = self.answer(call, r);
            if self.forbids_updates.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::PermissionDenied, "as was set"));
            }
            answer
        }
        .boxed()
    }

    fn shared_attributes(&self, _: &Registration) -> BoxStream<'static, SharedAttributes> {
        self.follows.fetch_add(1, Ordering::Relaxed);
        let mut said = self.says.subscribe();
        said.mark_changed();
        let words = stream::unfold(said, |mut said| async move {
            said.changed().await.ok()?;
            let word = said.borrow_and_update().clone();
            Some((word, said))
        });
        let words = words.filter_map(ready);
        words.chain(stream::pending()).boxed()
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

async fn keep(backend: &Arc<Scripted>, heartbeat: Heartbeat) -> Lease {
    let registration = Registration::new("web", 80).unwrap().heartbeat(heartbeat);
    Lease::keep(
        backend.clone(),
        registration.complete("h", TTL),
        Arc::default(),
    )
    .await
    .unwrap()
}

/// Lets the paused clock run.
async fn pass(milliseconds: u64) {
    // tidy: sleep, the clock is paused
    sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_beats_three_times_in_a_ttl() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    pass(9_100).await;
    assert_eq!(
        backend.calls(),
        ["register", "heartbeat", "heartbeat", "heartbeat"]
    );
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn updates_do_not_put_off_the_heartbeat() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    for step in 0..9 {
        pass(1_000).await;
        lease.update([("v", step.to_string())]).await.unwrap();
    }
    pass(100).await;
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
    let lease = keep(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "2")]).await.unwrap();
    backend.fails_next([ErrorKind::LeaseLost]);
    pass(3_100).await;
    assert_eq!(backend.calls()[2..], ["heartbeat", "put back"]);
    assert_eq!(backend.calls.lock().unwrap()[3].2, "2");
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_ttl_is_told_and_healed() {
    let backend = Scripted::new([]);
    let mut lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::Unavailable; 40]);
    let lapsed = lease.changed().await;
    assert_eq!(lapsed.name(), "lapsed");
    // What is told is that nothing confirmed it in time, at the moment when that is so.
    assert_eq!(lapsed.error().unwrap().kind(), ErrorKind::Timeout);
    let at = backend.start.elapsed();
    assert!(at >= TTL && at < TTL + TTL / 3, "{at:?}");
    assert_eq!(lease.changed().await.name(), "live");
}

#[tokio::test(start_paused = true)]
async fn what_is_renewed_with_others_is_left_alone_until_it_is_not_renewed_in_time() {
    let backend = Scripted::new([]);
    backend.renewed.send_replace(Some(Instant::now()));
    let mut lease = keep(&backend, Heartbeat::Automatic).await;
    for _ in 0..10 {
        pass(3_000).await;
        backend.renewed.send_replace(Some(Instant::now()));
    }
    lease.update([("v", "2")]).await.unwrap();
    assert_eq!(backend.calls(), ["register", "update"]);
    let last = backend.start.elapsed();
    backend.fails_next([ErrorKind::Unavailable; 40]);
    assert_eq!(lease.changed().await.name(), "lapsed");
    let at = backend.start.elapsed() - last;
    assert!(at >= TTL && at < TTL + Duration::from_millis(10), "{at:?}");
    let (asked, call, _) = backend.calls.lock().unwrap()[2].clone();
    assert!(
        (36_000..36_010).contains(&asked) && call == "heartbeat",
        "{call} at {asked}"
    );
    // Others renew it again, and that is not enough: it is live once it is known to be there.
    backend.renewed.send_replace(Some(Instant::now()));
    assert_eq!(lease.changed().await.name(), "live");
    assert_eq!(backend.last().1, "heartbeat");
}

#[tokio::test(start_paused = true)]
async fn a_taken_over_id_is_never_fought_over() {
    let backend = Scripted::new([]);
    let mut lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::Replaced]);
    assert_eq!(lease.changed().await.name(), "replaced");
    pass(100_000).await;
    assert_eq!(
        lease.update([("v", "2")]).await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    lease.unregister().await.unwrap();
    assert_eq!(backend.calls(), ["register", "heartbeat"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_update_left_in_doubt_is_settled_by_the_next_heartbeat() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "1")]).await.unwrap();
    backend.fails_next([ErrorKind::Timeout]);
    assert_eq!(
        lease.update([("v", "2")]).await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    pass(1_000).await;
    // The update failed, so the value before it holds, whatever the store has taken.
    // An update renews nothing, so a heartbeat follows at once.
    assert_eq!(backend.calls()[3..], ["settle", "heartbeat"]);
    assert_eq!(backend.calls.lock().unwrap()[3].2, "1");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_is_tried_again_at_a_measured_pace() {
    let backend = Scripted::new([]);
    let mut lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::InvalidArgument; 3]);
    assert_eq!(lease.changed().await.name(), "lapsed");
    assert_eq!(lease.changed().await.name(), "live");
    assert_eq!(backend.calls().len(), 5);
    assert_eq!(backend.last().0, 12_000);
}

#[tokio::test(start_paused = true)]
async fn a_restore_does_not_replace_a_new_owner() {
    let backend = Scripted::new([]);
    let mut lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::LeaseLost, ErrorKind::Replaced]);
    assert_eq!(lease.changed().await.name(), "replaced");
    assert_eq!(backend.last().1, "put back");
}

#[tokio::test(start_paused = true)]
async fn unregister_wins_against_a_reconnect() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::LeaseLost, ErrorKind::Unavailable]);
    pass(3_050).await;
    lease.unregister().await.unwrap();
    let calls = backend.calls().len();
    pass(100_000).await;
    assert_eq!(backend.calls().len(), calls, "nothing follows");
    assert_eq!(lease.standing().name(), "released");
}

#[tokio::test(start_paused = true)]
async fn dropping_unregisters() {
    let backend = Scripted::new([]);
    drop(keep(&backend, Heartbeat::Automatic).await);
    pass(1).await;
    assert_eq!(backend.calls(), ["register", "unregister"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_manual_heartbeat_it_goes_after_a_ttl_and_not_before() {
    let backend = Scripted::new([]);
    let mut lease = keep(&backend, Heartbeat::Manual).await;
    pass(8_000).await;
    backend.fails_next([ErrorKind::Unavailable]);
    assert_eq!(
        lease.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    lease.heartbeat().await.unwrap();
    assert_eq!(lease.changed().await.name(), "lapsed");
    assert_eq!(backend.last(), (17_000, "unregister", String::new()));
    pass(100_000).await;
    lease.heartbeat().await.unwrap();
    assert_eq!(backend.last().1, "put back");
    assert_eq!(lease.standing().name(), "live");
}
