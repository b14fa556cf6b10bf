//! The contract of all backends, tested on each of them. A new store adds a line at the end and no test.

mod support;

use std::sync::Arc;
use std::time::Duration;

use discover_core::{
    Entry, ErrorKind, Grant, Heartbeat, Key, Node, OnConflict, Policy, Prefix, Scope, SetState,
    Store, Terms, open_store,
};
use support::{Subscriber, TestRegistry, WAIT_TIMEOUT, eventually, web};

/// G1: once `register` returns, a reader of the store sees the instance.
/// S1.7, S1.41, S2.1.
async fn a_registered_instance_is_visible(registry: &TestRegistry) {
    let (writer, reader) = (registry.client().await, registry.client().await);
    // The longest timeout must not overflow.
    let _lease = writer
        .register_within(web(1).tags(["a", "b"]).unwrap(), Duration::MAX)
        .await
        .unwrap();
    let set = reader.services("web").unwrap();
    let online = set.wait(0, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(online.len(), 1, "the first full view contains it");
    assert_eq!(
        (online[0].address(), online[0].id()),
        ("127.0.0.1:1", "127.0.0.1:1")
    );
    assert_eq!(online[0].tags(), ["a", "b"]);
    assert!(online[0].created() > 0);
}

/// G1: when `register` returns, the client's own set shows the instance.
async fn the_own_set_shows_a_registration_at_once(registry: &TestRegistry) {
    let client = registry.client().await;
    let set = client.services("web").unwrap();
    let mut leases = Vec::new();
    for port in 1..=10 {
        leases.push(client.register(web(port)).await.unwrap());
        let online = set.online();
        let ports: Vec<u16> = online.iter().map(|instance| instance.port()).collect();
        assert!(ports.contains(&port), "{ports:?}");
    }
    // Taking over an instance waits for nothing, as it is visible already.
    let again = client.register(web(1)).await.unwrap();
    assert_eq!(set.online().len(), 10);
    drop((leases, again));
}

/// G7: a new subscriber receives the full state, then `current`, then changes.
/// S0.21, S1.10, S1.43, S1.46, S2.42, S3.31.
async fn a_late_subscriber_receives_the_full_state_first(registry: &TestRegistry) {
    let client = registry.client().await;
    let _one = client.register(web(1)).await.unwrap();
    let _two = client.register(web(2)).await.unwrap();
    let set = client.services("web").unwrap();
    set.wait(2, WAIT_TIMEOUT).await.unwrap();
    let mut late = Subscriber::new(&set);
    late.expect_events(&[
        "up 127.0.0.1:1",
        "up 127.0.0.1:2",
        "leader 127.0.0.1:1",
        "current",
    ])
    .await;
    let _three = client.register(web(3)).await.unwrap();
    late.expect_events(&["up 127.0.0.1:3"]).await;
}

/// G9: heartbeats and updates without a change emit no events; G2: an update is one event and keeps the age.
/// S1.7, S1.21, S1.30, S1.33, S2.40.
async fn an_update_is_one_event_and_keeps_the_age(registry: &TestRegistry) {
    let client = registry.client().await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let one = client
        .register(web(1).attributes([("v", "1")]).unwrap())
        .await
        .unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1 v=1", "leader 127.0.0.1:1 v=1"])
        .await;
    let created = set.leader().unwrap().created();
    let two = client.register(web(2)).await.unwrap();
    subscriber.expect_events(&["up 127.0.0.1:2"]).await;
    for _ in 0..3 {
        one.heartbeat().await.unwrap();
        one.update([("v", "1")]).await.unwrap();
    }
    one.update([("v", "2")]).await.unwrap();
    subscriber.expect_events(&["update 127.0.0.1:1 v=2"]).await;
    assert_eq!(set.leader().unwrap().created(), created);
    assert_eq!(
        set.leader().unwrap().address(),
        "127.0.0.1:1",
        "the oldest leads"
    );
    two.heartbeat().await.unwrap();
    one.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1 v=2", "leader 127.0.0.1:2"])
        .await;
    assert_eq!(set.offline()[0].instance.address(), "127.0.0.1:1");
}

/// G3: an instance goes offline at once when its lease is unregistered, dropped, or its client closed; repeating
/// any of these is allowed.
/// S1.9, S1.31, S1.42, S2.9, S2.19, S2.41, S2.61.
async fn an_instance_goes_offline_when_it_is_released(registry: &TestRegistry) {
    let (client, other) = (registry.client().await, registry.client().await);
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let by_call = other.register(web(1)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    by_call.unregister().await.unwrap();
    by_call.unregister().await.unwrap();
    assert_eq!(by_call.standing().name(), "released");
    assert_eq!(
        by_call.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader"])
        .await;
    let by_drop = other.register(web(2)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:2", "leader 127.0.0.1:2"])
        .await;
    drop(by_drop);
    subscriber
        .expect_events(&["down 127.0.0.1:2", "leader"])
        .await;
    let _by_close = other.register(web(3)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:3", "leader 127.0.0.1:3"])
        .await;
    other.close(WAIT_TIMEOUT).await.unwrap();
    other.close(WAIT_TIMEOUT).await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:3", "leader"])
        .await;
}

/// G3, G20: calls on a closed client fail with `Closed`, and its subscriptions end.
async fn a_closed_client_reports_it(registry: &TestRegistry) {
    let client = registry.client().await;
    let set = client.services("web").unwrap();
    set.wait(0, WAIT_TIMEOUT).await.unwrap();
    let mut cursor = set.cursor();
    client.close(WAIT_TIMEOUT).await.unwrap();
    while cursor.changed().await {}
    assert!(!cursor.changed().await, "the cursor stays closed");
    assert_eq!(
        client.services("web").unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        client.register(web(1)).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        set.wait(1, WAIT_TIMEOUT).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(set.online().len(), 0, "reads still work");
}

/// G4, G6: registering a live id replaces its owner; the previous owner is notified, and ending its lease
/// deletes nothing.
async fn a_taken_over_id_is_reported_and_left_alone(registry: &TestRegistry) {
    let (first, second) = (registry.client().await, registry.client().await);
    let mut old = first
        .register(web(1).attributes([("by", "first")]).unwrap())
        .await
        .unwrap();
    let new = second
        .register(web(1).attributes([("by", "second")]).unwrap())
        .await
        .unwrap();
    assert_eq!(old.changed().await.name(), "replaced");
    assert_eq!(
        old.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    assert_eq!(
        old.update([("by", "me")]).await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    old.unregister().await.unwrap();
    new.heartbeat().await.unwrap();
    let online = second
        .services("web")
        .unwrap()
        .wait(1, WAIT_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(online[0].attributes()["by"], "second");
    let set = second.services("web").unwrap();
    new.unregister().await.unwrap();
    eventually("the first registration is not restored", async || {
        set.online().is_empty()
    })
    .await;
    let again = first
        .services("web")
        .unwrap()
        .wait(0, WAIT_TIMEOUT)
        .await
        .unwrap();
    assert!(again.is_empty());
}

/// G4: a registration that lapsed does not take its id back from an owner that registered it meanwhile.
async fn a_restore_does_not_replace_a_new_owner(registry: &TestRegistry) {
    let (first, second) = (registry.client().await, registry.client().await);
    let manual = web(1).heartbeat(Heartbeat::Manual);
    let mut lost = first.register(manual).await.unwrap();
    assert_eq!(lost.changed().await.name(), "lapsed");
    let new = second
        .register(web(1).attributes([("by", "second")]).unwrap())
        .await
        .unwrap();
    assert_eq!(
        lost.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    assert_eq!(lost.standing().name(), "replaced");
    new.heartbeat().await.unwrap();
    let online = second
        .services("web")
        .unwrap()
        .wait(1, WAIT_TIMEOUT)
        .await
        .unwrap();
    assert_eq!(online[0].attributes()["by"], "second");
}

/// With manual heartbeats, an instance without a heartbeat goes offline, and the next heartbeat restores it.
/// S0.13, S1.5, S1.8, S1.61.
async fn a_missed_manual_heartbeat_takes_the_instance_offline_until_the_next(
    registry: &TestRegistry,
) {
    let client = registry.client().await;
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    let manual = web(1).heartbeat(Heartbeat::Manual);
    let mut lease = client.register(manual).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    lease.heartbeat().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader"])
        .await;
    if lease.standing().name() == "live" {
        lease.changed().await;
    }
    assert_eq!(lease.standing().name(), "lapsed");
    lease.heartbeat().await.unwrap();
    assert_eq!(lease.standing().name(), "live");
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
}

/// Filters apply to reads, events and the leader, initially and after changes.
/// S1.44, S1.47, S1.75, S1.78, S2.12.
async fn a_filter_narrows_reads_and_events(registry: &TestRegistry) {
    let client = registry.client().await;
    let at = |port, zone| web(port).attributes([("zone", zone)]).unwrap();
    let all = client.services("web").unwrap();
    let eu = all.filter([("zone", "eu")], [] as [&str; 0]);
    let mut subscriber = Subscriber::new(&eu);
    subscriber.expect_events(&["current"]).await;
    let moved = client.register(at(1, "us")).await.unwrap();
    let _stays = client
        .register(at(2, "eu").tags(["fast"]).unwrap())
        .await
        .unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:2 zone=eu", "leader 127.0.0.1:2 zone=eu"])
        .await;
    moved.update([("zone", "eu")]).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1 zone=eu", "leader 127.0.0.1:1 zone=eu"])
        .await;
    let fast = eu.filter([] as [(&str, &str); 0], ["fast"]);
    assert_eq!(fast.online().len(), 1);
    assert_eq!(fast.pick(Policy::Random).unwrap().port(), 2);
    assert_eq!((eu.online().len(), all.online().len()), (2, 2));
    moved.update([("zone", "us")]).await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1 zone=eu", "leader 127.0.0.1:2 zone=eu"])
        .await;
}

/// A wait that times out reports how many instances it found.
/// S1.49.
async fn a_wait_that_times_out_reports_its_progress(registry: &TestRegistry) {
    let client = registry.client().await;
    let set = client.services("web").unwrap();
    let _one = client.register(web(1)).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    let error = set.wait(2, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.report().starts_with("1 of 2 instances of web"),
        "{error}"
    );
    assert_eq!(set.status().state, SetState::Current);
}

/// Invalid input is refused with the name of the invalid field, before anything is written.
/// S1.60, S1.63.
async fn bad_input_is_refused_before_anything_is_written(registry: &TestRegistry) {
    let client = registry.client().await;
    let named = client
        .register(web(1).id("mine").unwrap())
        .await
        .unwrap_err();
    assert_eq!(named.kind(), ErrorKind::InvalidArgument);
    assert!(named.to_string().contains("id \"mine\""), "{named}");
    let tagged = client
        .register(web(1).tags(["a,b"]).unwrap())
        .await
        .unwrap_err();
    assert!(tagged.to_string().contains("tag"), "{tagged}");
    let lease = client.register(web(2)).await.unwrap();
    let refused = lease.update([("weight", "heavy")]).await.unwrap_err();
    assert!(refused.report().contains("weight"), "{refused}");
    assert_eq!(lease.standing().name(), "live");
    let set = client.services("web").unwrap();
    let online = set.wait(1, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(online.len(), 1);
    assert!(online[0].attributes().is_empty());
}

/// G11: all handles of one service share one watch, which ends with the last handle.
/// S1.79.
async fn handles_of_one_service_share_its_watch(registry: &TestRegistry) {
    let client = registry.client().await;
    let one = client.services("web").unwrap();
    let two = client.services("web").unwrap();
    let _lease = client.register(web(1)).await.unwrap();
    one.wait(1, WAIT_TIMEOUT).await.unwrap();
    assert!(Arc::ptr_eq(&one.snapshot(), &two.snapshot()));
    drop((one, two));
    let again = client.services("web").unwrap();
    eventually("the set is filled again", async || {
        again.online().len() == 1
    })
    .await;
}

macro_rules! contract {
    ($($scheme:ident: $($test:ident)*;)*) => {$(
        mod $scheme {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn $test() {
                if let Some(registry) = TestRegistry::new(stringify!($scheme)) {
                    super::$test(&registry).await;
                }
            })*
        }
    )*};
    (on $($scheme:ident)*; $tests:tt) => { $(contract!(@one $scheme $tests);)* };
    (@one $scheme:ident { $($test:ident)* }) => { contract!($scheme: $($test)*;); };
}

contract!(on memory local etcd etcd_grpc_proxy etcd_gateway etcd2 agent agent_etcd; {
    a_registered_instance_is_visible
    the_own_set_shows_a_registration_at_once
    a_late_subscriber_receives_the_full_state_first
    an_update_is_one_event_and_keeps_the_age
    an_instance_goes_offline_when_it_is_released
    a_closed_client_reports_it
    a_taken_over_id_is_reported_and_left_alone
    a_restore_does_not_replace_a_new_owner
    a_missed_manual_heartbeat_takes_the_instance_offline_until_the_next
    a_filter_narrows_reads_and_events
    a_wait_that_times_out_reports_its_progress
    bad_input_is_refused_before_anything_is_written
    handles_of_one_service_share_its_watch
});

fn entry(path: &str, value: &str) -> Entry {
    Entry::leased(Key::new(path).unwrap(), value)
}

/// Opens the store of a test registry.
fn store(registry: &TestRegistry) -> Arc<dyn Store> {
    open_store(&registry.url).unwrap()
}

/// Writes the entries with a lease that only this test renews.
async fn create(store: &dyn Store, entries: &[Entry]) -> Grant {
    let terms = Terms {
        ttl: Duration::from_secs(60),
        on_conflict: OnConflict::Replace,
        dedicated: false,
    };
    store.create(entries, terms).await.unwrap()
}

fn values(nodes: &[Node]) -> Vec<(&str, &[u8])> {
    nodes
        .iter()
        .map(|node| (node.key.as_str(), &*node.value))
        .collect()
}

/// A point read returns what another client wrote, and nothing once it is deleted.
async fn a_key_is_read_when_it_exists_when_it_is_absent_and_after_it_is_deleted(
    registry: &TestRegistry,
) {
    let (writer, reader) = (store(registry), store(registry));
    let one = entry("/s/web/a:1", "one");
    assert_eq!(reader.get(&one.key).await.unwrap(), None, "absent");
    let entries = [one.clone()];
    let grant = create(&*writer, &entries).await;
    let node = reader.get(&one.key).await.unwrap().expect("it exists");
    assert_eq!((&node.key, &*node.value), (&one.key, &b"one"[..]));
    assert!(node.created > 0 && node.modified > 0 && node.owner != 0);
    writer
        .update(&[entry("/s/web/a:1", "two")], grant)
        .await
        .unwrap();
    let updated = reader.get(&one.key).await.unwrap().expect("it exists");
    assert_eq!(
        (&*updated.value, updated.created),
        (&b"two"[..], node.created)
    );
    let above = Key::new("/s/web").unwrap();
    assert_eq!(
        reader.get(&above).await.unwrap(),
        None,
        "a prefix is not a key"
    );
    writer.remove(&entries, grant).await.unwrap();
    assert_eq!(reader.get(&one.key).await.unwrap(), None, "deleted");
}

/// A range read returns the keys of the scope, sorted, and no others.
async fn a_scope_is_listed_with_its_keys_alone_and_after_a_delete(registry: &TestRegistry) {
    let (writer, reader) = (store(registry), store(registry));
    let web = Scope::Prefix(Prefix::new("/s/web").unwrap());
    let only = Scope::Key(Key::new("/s/web/b").unwrap());
    assert_eq!(reader.list(&web).await.unwrap(), [], "absent");
    assert_eq!(reader.list(&only).await.unwrap(), [], "absent");
    let entries = [
        entry("/s/web/b", "2"),
        entry("/s/web/a", "1"),
        entry("/s/web-admin/c", "3"),
    ];
    let grant = create(&*writer, &entries).await;
    let nodes = reader.list(&web).await.unwrap();
    assert_eq!(
        values(&nodes),
        [("/s/web/a", &b"1"[..]), ("/s/web/b", b"2")]
    );
    let single = reader.list(&only).await.unwrap();
    assert_eq!(values(&single), [("/s/web/b", &b"2"[..])]);
    let same = reader.get(&nodes[1].key).await.unwrap();
    assert_eq!(same.as_ref(), Some(&nodes[1]), "get and list agree");
    writer.remove(&entries, grant).await.unwrap();
    assert_eq!(reader.list(&web).await.unwrap(), [], "deleted");
}

mod stores {
    use super::*;

    contract!(on memory local etcd etcd_grpc_proxy etcd_gateway etcd2; {
    a_key_is_read_when_it_exists_when_it_is_absent_and_after_it_is_deleted
    a_scope_is_listed_with_its_keys_alone_and_after_a_delete
    });
}
