//! What the service says to all of its registrations, taken over or not.

use super::*;

fn says(v: &str) -> Option<SharedAttributes> {
    let attributes = [("v".to_owned(), v.to_owned())];
    Some(SharedAttributes::Present(attributes.into_iter().collect()))
}

/// A registration that lives for three heartbeats more.
async fn lives_on(backend: &Scripted, lease: &Lease) {
    let before = backend.calls().len();
    pass(9_100).await;
    let beats = backend.calls().split_off(before);
    assert_eq!(beats, ["heartbeat"; 3]);
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_to_take_over_leaves_the_registration_as_it_was() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "mine")]).await.unwrap();
    backend.fails_next([ErrorKind::InvalidArgument]);
    backend.says.send_replace(says("too much"));
    pass(100).await;
    assert_eq!(backend.calls()[2..], ["update"]);
    assert_eq!(lease.attributes()["v"], "mine");
    lives_on(&backend, &lease).await;
    // And what can be said is heard again.
    backend.says.send_replace(says("new"));
    pass(100).await;
    assert_eq!(lease.attributes()["v"], "new");
}

#[tokio::test(start_paused = true)]
async fn more_attributes_than_there_may_be_are_not_taken_over() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    let full = (0..crate::model::MAX_ATTRIBUTES).map(|n| (n.to_string(), ""));
    lease.update(full).await.unwrap();
    backend.says.send_replace(says("one too many"));
    lives_on(&backend, &lease).await;
    assert!(!lease.attributes().contains_key("v"));
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_put_back_as_it_was_when_what_was_taken_over_is_refused() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "mine")]).await.unwrap();
    let lost = [
        ErrorKind::LeaseLost,
        ErrorKind::Unavailable,
        ErrorKind::InvalidArgument,
    ];
    backend.fails_next(lost);
    pass(3_001).await;
    backend.says.send_replace(says("too much"));
    pass(1_100).await;
    let calls = backend.calls.lock().unwrap()[2..].to_vec();
    let calls: Vec<_> = calls.iter().map(|(_, call, v)| (*call, &v[..])).collect();
    let put_back = |v| ("put back", v);
    assert_eq!(calls[1..], ["mine", "too much", "mine"].map(put_back));
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_over_in_doubt_is_written_again() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::Timeout]);
    backend.says.send_replace(says("new"));
    pass(1_100).await;
    assert_eq!(
        backend.calls(),
        ["register", "update", "settle", "heartbeat"]
    );
    assert_eq!(lease.attributes()["v"], "new");
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_before_an_update_does_not_roll_it_back() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    backend.says.send_replace(says("old"));
    pass(100).await;
    let held = backend.hold.lock().await;
    let (updated, ()) = tokio::join!(lease.update([("v", "new")]), async {
        pass(10).await;
        backend.says.send_replace(says("older"));
        pass(10).await;
        // The update reaches the store, and the service says so from then on.
        backend.says.send_replace(says("new"));
        drop(held);
    });
    updated.unwrap();
    pass(100).await;
    let calls = backend.calls.lock().unwrap();
    let values: Vec<&str> = calls.iter().map(|(_, _, value)| &value[..]).collect();
    assert_eq!(values, ["", "old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn the_service_is_heard_after_an_update_that_was_refused() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    backend.fails_next([ErrorKind::InvalidArgument]);
    lease.update([("v", "bad")]).await.unwrap_err();
    assert_eq!(backend.follows.load(Ordering::Relaxed), 1);
    backend.says.send_replace(says("new"));
    pass(100).await;
    assert_eq!(lease.attributes()["v"], "new");
    lease.update([("v", "newer")]).await.unwrap();
    assert_eq!(backend.follows.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_said_again_is_tried_at_a_measured_pace_and_beats_go_on() {
    let backend = Scripted::new([]);
    let lease = keep(&backend, Heartbeat::Automatic).await;
    backend.forbids_updates.store(true, Ordering::Relaxed);
    backend.says.send_replace(Some(SharedAttributes::Absent));
    pass(60_100).await;
    let count = |call| backend.calls().iter().filter(|made| **made == call).count();
    let tries = count("update");
    assert!((3..60).contains(&tries), "{tries}");
    assert_eq!(count("heartbeat"), 20);
    assert_eq!(lease.standing().name(), "live");
    // Once it may be said, it is.
    backend.forbids_updates.store(false, Ordering::Relaxed);
    pass(31_000).await;
    let tries = count("update");
    pass(60_000).await;
    assert_eq!(count("update"), tries, "it was said");
}
