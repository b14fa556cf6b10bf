use tokio::time::sleep;

use super::*;

/// Returns a registry with a memory store of its own, and a request to register an instance.
async fn registry() -> (Arc<Registry>, RegistrationRequest) {
    let name = fastrand::u64(..);
    let client = Client::connect(&format!("memory://{name:016x}")).await;
    let client = client.unwrap();
    let service_cache = ServiceCache::new(client.clone(), "boot".to_owned(), 9);
    let limits = QuotaLimits {
        count: Some((4, Some("registrations"))),
        bytes: Some((4096, Some("registration_bytes"))),
    };
    let request = RegistrationRequest {
        service: ServiceName::new("web").unwrap(),
        id: "10.0.0.1:80".to_owned(),
        address: "10.0.0.1:80".to_owned(),
        attributes: Attributes::new(),
        tags: Vec::new(),
        ttl: Duration::from_secs(60),
        on_conflict: OnConflict::RestoreOnly,
        owner: "me".to_owned(),
        peer: None,
        liveness: LivenessSource::Heartbeats,
        heartbeat_interval: None,
        health: Health::Passing,
        is_deferred: false,
    };
    (
        Registry::new(client, service_cache, [127, 0, 0, 1].into(), limits),
        request,
    )
}

fn key(request: &RegistrationRequest) -> InstanceKey {
    (request.service.clone(), request.id.clone())
}

/// Waits until a condition holds.
async fn until(mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            sleep(Duration::from_millis(5)).await; // tidy: sleep, between two checks
        }
    };
    timeout(Duration::from_secs(60), waited).await.unwrap();
}

#[tokio::test]
async fn registrations_fail_while_the_agent_stops() {
    let (registry, request) = registry().await;
    registry.register(request.clone()).await.unwrap();
    registry.close(Duration::from_secs(60)).await;
    let late = registry.register(request).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable, "{late}");
    assert!(registry.client.catalog().await.unwrap().is_empty());
    assert_eq!(registry.counts().0, 0);
}

#[tokio::test]
async fn closing_removes_a_registration_in_progress() {
    let (registry, request) = registry().await;
    // The registration passed the check of `is_closed`, and has not written yet.
    let key_lock = registry.lock_key(&key(&request)).await;
    let registration = registry.registration(&request).unwrap();
    let published = Arc::new(PublishedInstance::new(
        registry.client.clone(),
        registration,
        request.ttl,
        false,
    ));
    let closing = tokio::spawn({
        let registry = registry.clone();
        async move { registry.close(Duration::from_secs(60)).await }
    });
    until(|| registry.is_closed.load(Ordering::SeqCst)).await;
    published.publish(false).await.unwrap();
    registry.table().insert(key(&request), entry(&published, 1));
    drop(key_lock);
    closing.await.unwrap();
    assert!(registry.client.catalog().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_late_heartbeat_does_not_remove_a_newer_registration() {
    let (registry, mut request) = registry().await;
    // The lease checks its entry in the store several times per TTL.
    request.ttl = Duration::from_secs(1);
    request.liveness = LivenessSource::HealthReports(Duration::from_secs(60));
    let key = key(&request);
    registry.register(request.clone()).await.unwrap();
    let old = registry.table().get(&key, None).unwrap().published.clone();
    let key_lock = registry.lock_key(&key).await;
    let since_before = registry.table().get(&key, None).unwrap().health_since;
    let late = tokio::spawn({
        let (registry, key) = (registry.clone(), key.clone());
        async move { registry.heartbeat(&key, None, Some(Health::Warning)).await }
    });
    until(|| registry.table().get(&key, None).unwrap().health_since != since_before).await;
    // Another owner replaces the registration before the heartbeat is done.
    let registration = registry.registration(&request).unwrap();
    let new = Arc::new(PublishedInstance::new(
        registry.client.clone(),
        registration,
        request.ttl,
        false,
    ));
    new.publish(false).await.unwrap();
    registry.table().insert(key.clone(), entry(&new, 2));
    until(|| !matches!(old.standing(), Standing::Live)).await;
    drop(key_lock);
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Replaced);
    assert!(registry.table().get(&key, Some(2)).is_ok());
}

#[tokio::test]
async fn soon_after_the_start_an_owner_is_restored_though_the_store_has_a_newer_change() {
    let (registry, mut request) = registry().await;
    request.attributes.insert("v".to_owned(), "1".to_owned());
    // The previous process wrote this before it was killed, and its response was lost.
    let old = registry.registration(&request).unwrap();
    let old = old.attributes([("v", "2")]).unwrap();
    let last = registry.client.register(old).await.unwrap();
    registry.register(request.clone()).await.unwrap();
    let set = registry.client.services("web").unwrap();
    set.wait(1, Duration::from_secs(60)).await.unwrap();
    assert_eq!(set.online()[0].attributes()["v"], "1");
    drop(last);
}

#[tokio::test]
async fn a_replaced_registration_is_not_handed_over() {
    let (registry, mut request) = registry().await;
    // The lease checks its entry in the store several times per TTL.
    request.ttl = Duration::from_secs(1);
    registry.register(request.clone()).await.unwrap();
    assert_eq!(registry.export().len(), 1);
    // Another agent registers the instance; the owner here is not notified yet.
    let other = registry.registration(&request).unwrap();
    let other = registry.client.register(other).await.unwrap();
    let lease = registry
        .table()
        .get(&key(&request), None)
        .unwrap()
        .published
        .clone();
    until(|| matches!(lease.standing(), Standing::Replaced(_))).await;
    assert_eq!(registry.counts().0, 1);
    assert!(registry.export().is_empty());
    drop(other);
}

#[tokio::test]
async fn a_health_reporter_keeps_its_store_ttl_over_a_restart() {
    let (before, mut request) = registry().await;
    (request.liveness, request.heartbeat_interval) = (
        LivenessSource::HealthReports(Duration::from_secs(60)),
        Some(Duration::from_secs(2)),
    );
    before.register(request.clone()).await.unwrap();
    let (now, _) = registry().await;
    now.restore(before.export());
    let table = now.table();
    let adopted = table.get(&key(&request), None).unwrap();
    assert_eq!(
        (adopted.ttl, adopted.published.ttl()),
        (request.heartbeat_interval.unwrap(), request.ttl)
    );
}

fn entry(published: &Arc<PublishedInstance>, grant: u64) -> TableEntry<Arc<PublishedInstance>> {
    let entry = TableEntry {
        grant,
        owner: String::new(),
        ttl: Duration::from_secs(60),
        deadline: Duration::ZERO,
        liveness: LivenessSource::Heartbeats,
        health: Health::Passing,
        health_since: Duration::ZERO,
        note: String::new(),
        permit: None,
        published: published.clone(),
    };
    entry.started_at(Duration::ZERO)
}
