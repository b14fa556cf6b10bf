use tokio::time::sleep;

use super::*;

/// A registry in front of a store of its own, with one instance asked for.
async fn registry() -> (Arc<Registry>, Asked) {
    let name = fastrand::u64(..);
    let client = Client::connect(&format!("memory://{name:016x}")).await;
    let client = client.unwrap();
    let sets = ServiceCache::new(client.clone(), "boot".to_owned(), 9);
    let asked = Asked {
        service: ServiceName::new("web").unwrap(),
        id: "10.0.0.1:80".to_owned(),
        address: "10.0.0.1:80".to_owned(),
        attributes: Attributes::new(),
        tags: Vec::new(),
        ttl: Duration::from_secs(60),
        claim: OnConflict::RestoreOnly,
        owner: "me".to_owned(),
        keep: Keep::Beats,
        beat: None,
        health: Health::Passing,
        patient: false,
    };
    (Registry::new(client, sets, [127, 0, 0, 1].into()), asked)
}

fn key(asked: &Asked) -> InstanceKey {
    (asked.service.clone(), asked.id.clone())
}

/// Lets the others go on for as long as it takes.
async fn until(mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            sleep(Duration::from_millis(5)).await; // tidy: sleep, between two looks
        }
    };
    timeout(Duration::from_secs(60), waited).await.unwrap();
}

#[tokio::test]
async fn once_it_ends_nobody_is_let_in() {
    let (registry, asked) = registry().await;
    registry.register(asked.clone()).await.unwrap();
    registry.close(Duration::from_secs(60)).await;
    let late = registry.register(asked).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable, "{late}");
    assert!(registry.client.catalog().await.unwrap().is_empty());
    assert_eq!(registry.counts().0, 0);
}

#[tokio::test]
async fn who_is_being_registered_while_it_ends_is_not_left_behind() {
    let (registry, asked) = registry().await;
    // It has found the agent open, and is about to write.
    let gate = registry.gate(&key(&asked)).await;
    let registration = registry.registration(&asked).unwrap();
    let member = Arc::new(PublishedInstance::new(
        registry.client.clone(),
        registration,
        asked.ttl,
    ));
    let ending = tokio::spawn({
        let registry = registry.clone();
        async move { registry.close(Duration::from_secs(60)).await }
    });
    until(|| registry.closed.load(Ordering::SeqCst)).await;
    member.show(false).await.unwrap();
    registry.table().insert(key(&asked), held(&member, 1));
    drop(gate);
    ending.await.unwrap();
    assert!(registry.client.catalog().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_late_heartbeat_does_not_remove_who_came_meanwhile() {
    let (registry, mut asked) = registry().await;
    // The store is asked a few times in each TTL who is there.
    asked.ttl = Duration::from_secs(1);
    asked.keep = Keep::Reports(Duration::from_secs(60));
    let key = key(&asked);
    registry.register(asked.clone()).await.unwrap();
    let old = registry.table().get(&key, None).unwrap().lease.clone();
    let gate = registry.gate(&key).await;
    let beaten = registry.table().get(&key, None).unwrap().since;
    let late = tokio::spawn({
        let (registry, key) = (registry.clone(), key.clone());
        async move { registry.heartbeat(&key, None, Some(Health::Warning)).await }
    });
    until(|| registry.table().get(&key, None).unwrap().since != beaten).await;
    // Another one takes its place before the heartbeat is done.
    let registration = registry.registration(&asked).unwrap();
    let new = Arc::new(PublishedInstance::new(
        registry.client.clone(),
        registration,
        asked.ttl,
    ));
    new.show(false).await.unwrap();
    registry.table().insert(key.clone(), held(&new, 2));
    until(|| !matches!(old.standing(), Standing::Live)).await;
    drop(gate);
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Replaced);
    assert!(registry.table().get(&key, Some(2)).is_ok());
}

#[tokio::test]
async fn soon_after_the_start_its_owner_is_let_in_though_a_change_was_lost_on_the_way() {
    let (registry, mut asked) = registry().await;
    asked.attributes.insert("v".to_owned(), "1".to_owned());
    // What the last run of the agent wrote before it was killed, and could not answer.
    let left = registry.registration(&asked).unwrap();
    let left = left.attributes([("v", "2")]).unwrap();
    let last = registry.client.register(left).await.unwrap();
    registry.register(asked.clone()).await.unwrap();
    let set = registry.client.services("web").unwrap();
    set.wait(1, Duration::from_secs(60)).await.unwrap();
    assert_eq!(set.online()[0].attributes()["v"], "1");
    drop(last);
}

#[tokio::test]
async fn who_has_lost_its_place_is_not_handed_over() {
    let (registry, mut asked) = registry().await;
    // The store is asked a few times in each TTL who is there.
    asked.ttl = Duration::from_secs(1);
    registry.register(asked.clone()).await.unwrap();
    assert_eq!(registry.registered().len(), 1);
    // Somebody else, by another agent; nobody has told its owner yet.
    let other = registry.registration(&asked).unwrap();
    let other = registry.client.register(other).await.unwrap();
    let lease = registry
        .table()
        .get(&key(&asked), None)
        .unwrap()
        .lease
        .clone();
    until(|| matches!(lease.standing(), Standing::Replaced(_))).await;
    assert_eq!(registry.counts().0, 1);
    assert!(registry.registered().is_empty());
    drop(other);
}

#[tokio::test]
async fn who_reports_keeps_the_ttl_that_it_asked_for_from_run_to_run() {
    let (before, mut asked) = registry().await;
    (asked.keep, asked.beat) = (
        Keep::Reports(Duration::from_secs(60)),
        Some(Duration::from_secs(2)),
    );
    before.register(asked.clone()).await.unwrap();
    let (now, _) = registry().await;
    now.adopt(before.registered());
    let table = now.table();
    let adopted = table.get(&key(&asked), None).unwrap();
    assert_eq!(
        (adopted.ttl, adopted.lease.ttl()),
        (asked.beat.unwrap(), asked.ttl)
    );
}

fn held(member: &Arc<PublishedInstance>, grant: u64) -> Held<Arc<PublishedInstance>> {
    let held = Held {
        grant,
        owner: String::new(),
        ttl: Duration::from_secs(60),
        until: Duration::ZERO,
        keep: Keep::Beats,
        health: Health::Passing,
        since: Duration::ZERO,
        note: String::new(),
        lease: member.clone(),
    };
    held.begun(Duration::ZERO)
}
