//! Tests of shared attributes that a lease merges.

use super::*;

fn shared_attributes_with(v: &str) -> Option<SharedAttributes> {
    let attributes = [("v".to_owned(), v.to_owned())];
    Some(SharedAttributes::Present(attributes.into_iter().collect()))
}

/// Asserts that the registration stays live for three more heartbeats.
async fn assert_renewed_three_times(backend: &Scripted, lease: &Lease) {
    let before = backend.calls().len();
    advance(9_100).await;
    let calls = backend.calls().split_off(before);
    assert_eq!(calls, ["heartbeat"; 3]);
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn a_refused_merge_leaves_the_registration_unchanged() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "mine")]).await.unwrap();
    backend.fail_next([ErrorKind::InvalidArgument]);
    backend
        .shared
        .send_replace(shared_attributes_with("too much"));
    advance(100).await;
    assert_eq!(backend.calls()[2..], ["update"]);
    assert_eq!(lease.attributes()["v"], "mine");
    assert_renewed_three_times(&backend, &lease).await;
    // Later shared attributes are merged again.
    backend.shared.send_replace(shared_attributes_with("new"));
    advance(100).await;
    assert_eq!(lease.attributes()["v"], "new");
}

#[tokio::test(start_paused = true)]
async fn a_merge_beyond_the_attribute_limit_is_refused() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    let full = (0..crate::model::MAX_ATTRIBUTES).map(|n| (n.to_string(), ""));
    lease.update(full).await.unwrap();
    backend
        .shared
        .send_replace(shared_attributes_with("one too many"));
    assert_renewed_three_times(&backend, &lease).await;
    assert!(!lease.attributes().contains_key("v"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_registration_is_restored_without_a_refused_merge() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    lease.update([("v", "mine")]).await.unwrap();
    let lost = [
        ErrorKind::LeaseLost,
        ErrorKind::Unavailable,
        ErrorKind::InvalidArgument,
    ];
    backend.fail_next(lost);
    advance(3_001).await;
    backend
        .shared
        .send_replace(shared_attributes_with("too much"));
    advance(1_100).await;
    let calls = backend.calls.lock().unwrap()[2..].to_vec();
    let calls: Vec<_> = calls.iter().map(|(_, call, v)| (*call, &v[..])).collect();
    let restore = |v| ("restore", v);
    assert_eq!(calls[1..], ["mine", "too much", "mine"].map(restore));
    assert_eq!(lease.standing().name(), "live");
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_merge_is_rewritten() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::Timeout]);
    backend.shared.send_replace(shared_attributes_with("new"));
    advance(1_100).await;
    assert_eq!(
        backend.calls(),
        ["register", "update", "rewrite", "heartbeat"]
    );
    assert_eq!(lease.attributes()["v"], "new");
}

#[tokio::test(start_paused = true)]
async fn shared_attributes_older_than_an_update_do_not_undo_it() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    backend.shared.send_replace(shared_attributes_with("old"));
    advance(100).await;
    let held = backend.update_lock.lock().await;
    let (updated, ()) = tokio::join!(lease.update([("v", "new")]), async {
        advance(10).await;
        backend.shared.send_replace(shared_attributes_with("older"));
        advance(10).await;
        // The update reaches the store, and the shared record has its value from then on.
        backend.shared.send_replace(shared_attributes_with("new"));
        drop(held);
    });
    updated.unwrap();
    advance(100).await;
    let calls = backend.calls.lock().unwrap();
    let values: Vec<&str> = calls.iter().map(|(_, _, value)| &value[..]).collect();
    assert_eq!(values, ["", "old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn shared_attributes_are_followed_after_a_refused_update() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    backend.fail_next([ErrorKind::InvalidArgument]);
    lease.update([("v", "bad")]).await.unwrap_err();
    assert_eq!(backend.subscriptions.load(Ordering::Relaxed), 1);
    backend.shared.send_replace(shared_attributes_with("new"));
    advance(100).await;
    assert_eq!(lease.attributes()["v"], "new");
    lease.update([("v", "newer")]).await.unwrap();
    assert_eq!(backend.subscriptions.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_republication_is_retried_with_backoff_and_heartbeats_continue() {
    let backend = Scripted::new([]);
    let lease = register(&backend, Heartbeat::Automatic).await;
    backend.forbids_updates.store(true, Ordering::Relaxed);
    backend.shared.send_replace(Some(SharedAttributes::Absent));
    advance(60_100).await;
    let count = |call| backend.calls().iter().filter(|made| **made == call).count();
    let tries = count("update");
    assert!((3..60).contains(&tries), "{tries}");
    assert_eq!(count("heartbeat"), 20);
    assert_eq!(lease.standing().name(), "live");
    // Once updates are permitted, the attributes are published.
    backend.forbids_updates.store(false, Ordering::Relaxed);
    advance(31_000).await;
    let tries = count("update");
    advance(60_000).await;
    assert_eq!(count("update"), tries, "published once");
}
