//! Recovery from faults of a real etcd that the fault lab does not cover: shared leases, one stream,
//! deletions by hand, mass expiry, refusals, the disk cache.

mod support;

use std::time::Duration;

use discover_core::{Client, ConnectionState, ErrorKind, Lease, ServiceSet, SetState};
use futures_util::StreamExt;
use support::etcd::Etcd;
use support::{Subscriber, WAIT_TIMEOUT, eventually, web};
use tokio::time::{Instant, sleep};

async fn client(etcd: &Etcd, options: &str) -> Client {
    let url = format!("etcd://{}/?{options}", etcd.endpoint());
    Client::connect(&url).await.unwrap()
}

async fn register(client: &Client, ports: impl IntoIterator<Item = u16>) -> Vec<Lease> {
    let all = ports.into_iter().map(|port| client.register(web(port)));
    futures_util::future::try_join_all(all).await.unwrap()
}

fn suspects(set: &ServiceSet) -> usize {
    set.online().iter().filter(|i| i.is_suspect()).count()
}

/// G5: about a hundred registrations share a lease, and each is released alone.
#[tokio::test(flavor = "multi_thread")]
async fn registrations_share_leases_and_are_released_alone() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "ttl=5s").await;
    let mut leases = register(&client, 1..=250).await;
    assert!(etcd.ctl(&["lease", "list"]).contains("found 2 leases"));
    let set = client.services("web").unwrap();
    assert_eq!(set.wait(250, WAIT_TIMEOUT).await.unwrap().len(), 250);
    leases.remove(7).unregister().await.unwrap();
    eventually("the unregistered instance is offline", async || {
        set.online().len() == 249
    })
    .await;
    // Twice the TTL, on shared renewals.
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        assert_eq!(set.online().len(), 249);
        sleep(Duration::from_millis(100)).await; // tidy: sleep, nothing is to happen for this long
    }
    assert!(leases.iter().all(|lease| lease.standing().name() == "live"));
    // The same id again in the same client: the newer registration owns it, under another lease.
    let newer = client.register(web(1)).await.unwrap();
    eventually(
        "the older registration is reported as replaced",
        async || leases[0].standing().name() == "replaced",
    )
    .await;
    drop(leases.remove(0));
    assert_eq!(newer.standing().name(), "live");
    newer.update([("v", "2")]).await.unwrap();
    newer.unregister().await.unwrap();
    eventually("the newer instance is offline", async || {
        set.online().len() == 248
    })
    .await;
}

/// G11: a client has one connection and one stream, however many services and registrations.
#[tokio::test(flavor = "multi_thread")]
async fn many_services_share_one_stream() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "ttl=30s").await;
    let name = |n: usize| format!("service-{n}");
    let sets: Vec<_> = (0..50)
        .map(|n| client.services(&name(n)).unwrap())
        .collect();
    let _leases = register(&client, 1..=20).await;
    for set in &sets {
        set.wait(0, WAIT_TIMEOUT).await.unwrap();
    }
    eventually("each has its watch", async || {
        etcd.metric("etcd_debugging_mvcc_watcher_total") == 70
    })
    .await;
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watch_stream_total"), 1);
    drop(sets);
    eventually("an unused set is not watched", async || {
        etcd.metric("etcd_debugging_mvcc_watcher_total") == 20
    })
    .await;
}

/// G2, G4: a key that is deleted repeatedly is restored at most once a second, and an owner that takes over
/// is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_deletes_are_rate_limited_and_an_owner_is_left_alone() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "ttl=60s").await;
    let lease = client.register(web(1)).await.unwrap();
    let key = "/discover/services/web/127.0.0.1:1";
    let start = Instant::now();
    let mut deleted = 0;
    while start.elapsed() < Duration::from_secs(4) {
        deleted += u64::from(etcd.ctl(&["del", key]).starts_with('1'));
    }
    let restored = client.metrics().restored;
    assert!((2..=5).contains(&restored), "{restored} times");
    assert!(deleted >= restored, "{deleted} deletions");
    eventually("the key is restored", async || {
        !etcd.ctl(&["get", key]).is_empty()
    })
    .await;
    eventually("the lease is live", async || {
        lease.standing().name() == "live"
    })
    .await;
    let other = self::client(&etcd, "ttl=60s").await;
    let owner = other.register(web(1)).await.unwrap();
    eventually("the lease is replaced", async || {
        lease.standing().name() == "replaced"
    })
    .await;
    let before = client.metrics().restored;
    lease.unregister().await.unwrap();
    assert_eq!(owner.standing().name(), "live");
    assert!(!etcd.ctl(&["get", key]).is_empty());
    assert_eq!(client.metrics().restored, before);
}

/// G13: after an outage longer than the TTL the store has no lease left; no live instance goes offline.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_ttl_empties_no_set() {
    let Some(etcd) = Etcd::start() else { return };
    let watcher = client(&etcd, "").await;
    let set = watcher.services("web").unwrap();
    let mut leases = Vec::new();
    for port in 1..=6 {
        let client = client(&etcd, "ttl=2s").await;
        leases.push((client.register(web(port)).await.unwrap(), client));
    }
    set.wait(6, WAIT_TIMEOUT).await.unwrap();
    let born: Vec<u64> = set.online().iter().map(|i| i.created()).collect();
    etcd.pause(true);
    sleep(Duration::from_secs(6)).await; // tidy: sleep, three times the TTL is the fault
    etcd.pause(false);
    let all_are_back = async || {
        let online = set.online();
        assert!(online.len() >= 5, "only {} were left", online.len());
        online.len() == 6
            && online
                .iter()
                .all(|i| !i.is_suspect() && !born.contains(&i.created()))
    };
    eventually("all instances are registered again", all_are_back).await;
}

/// G13: with `protect=expiry`, dead instances of a mass expiry are kept as suspects, picked last, and go offline after the grace
/// period; unregistered ones go offline at once, the last one too.
#[tokio::test(flavor = "multi_thread")]
async fn instances_of_a_mass_expiry_go_offline_after_a_grace_and_released_ones_at_once() {
    let Some(etcd) = Etcd::start() else { return };
    let watcher = client(&etcd, "protect=expiry&grace=3s").await;
    let set = watcher.services("web").unwrap();
    let alive = client(&etcd, "ttl=30s").await;
    let mut leases = register(&alive, [99]).await;
    let granted = etcd.ctl(&["lease", "grant", "2"]);
    let id = granted.split_whitespace().nth(1).unwrap();
    for port in 1..=6 {
        let key = format!("/discover/services/web/127.0.0.1:{port}");
        etcd.ctl(&["put", &key, "null", "--lease", id]);
    }
    set.wait(7, WAIT_TIMEOUT).await.unwrap();
    eventually("the expired instances are suspects", async || {
        suspects(&set) == 6
    })
    .await;
    assert_eq!(set.online().len(), 7);
    for _ in 0..20 {
        assert_eq!(set.pick(discover_core::Policy::Random).unwrap().port(), 99);
    }
    assert_eq!(set.leader().unwrap().port(), 99);
    eventually("the suspects go offline", async || set.online().len() == 1).await;
    // Unregistered deliberately: none is kept.
    leases.extend(register(&alive, 1..=8).await);
    set.wait(9, WAIT_TIMEOUT).await.unwrap();
    let mut subscriber = Subscriber::new(&set);
    while subscriber.next_event().await != "current" {}
    for lease in leases {
        lease.unregister().await.unwrap();
        assert_eq!(suspects(&set), 0);
    }
    eventually("all instances are offline", async || {
        set.online().is_empty()
    })
    .await;
}

/// A set without read permission is reported as stale and kept; the others stay current.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_permission_makes_one_set_stale_and_no_other() {
    let Some(etcd) = Etcd::start() else { return };
    for command in [
        "user add root:root",
        "user grant-role root root",
        "role add reader",
        "role grant-permission reader read --prefix=true /discover/services/web/",
        "role grant-permission reader read --prefix=true /discover/services/api/",
        "user add eve:pw",
        "user grant-role eve reader",
        "put /discover/services/web/h:1 null",
        "put /discover/services/api/h:2 null",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let url = format!("etcd://eve:pw@{}/", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let (web, api) = (
        client.services("web").unwrap(),
        client.services("api").unwrap(),
    );
    web.wait(1, WAIT_TIMEOUT).await.unwrap();
    api.wait(1, WAIT_TIMEOUT).await.unwrap();
    let root = ["--user", "root:root"];
    let revoke = "role revoke-permission reader --prefix=true /discover/services/web/";
    etcd.ctl(&[&root[..], &revoke.split(' ').collect::<Vec<_>>()].concat());
    // etcd checks permissions when a watch is created.
    let id = etcd.ctl(&[&root[..], &["put", "/discover/services/api/h:3", "null"]].concat());
    assert!(id.contains("OK"));
    eventually("the other set receives changes", async || {
        api.online().len() == 2
    })
    .await;
    let again = Client::connect(&url).await.unwrap();
    let refused = again.services("web").unwrap();
    eventually("the set reports the missing permission", async || {
        let fault = refused.status().fault;
        fault.is_some_and(|fault| fault.error.kind() == ErrorKind::PermissionDenied)
    })
    .await;
    assert_eq!(
        again
            .services("api")
            .unwrap()
            .wait(2, WAIT_TIMEOUT)
            .await
            .unwrap()
            .len(),
        2
    );
    let grant = "role grant-permission reader read --prefix=true /discover/services/web/";
    etcd.ctl(&[&root[..], &grant.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!(refused.wait(1, WAIT_TIMEOUT).await.unwrap().len(), 1);
}

/// The connection state is connected, suspended when the store fails, lost after the TTL, and connected
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn the_connection_state_is_emitted() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let client = client(&etcd, "ttl=1s").await;
    let _lease = client.register(web(1)).await.unwrap();
    let mut changes = client.connection_changes();
    let mut next_state = async || changes.next().await.as_ref().map(ConnectionState::name);
    assert_eq!(next_state().await, Some("connected"));
    etcd.kill();
    assert_eq!(next_state().await, Some("suspended"));
    assert_eq!(next_state().await, Some("lost"));
    assert!(client.connection().error().is_some());
    etcd.restart();
    assert_eq!(next_state().await, Some("connected"));
    let is_counted = async || client.metrics().reconnects >= 1;
    eventually("the connection is counted", is_counted).await;
    client.close(WAIT_TIMEOUT).await.unwrap();
    assert_eq!(next_state().await, None);
}

/// G14: with a cache, a start without the store begins with the last snapshot, marked stale.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_store_uses_the_cache() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let cache = format!("cache={}", directory.path().display());
    let first = client(&etcd, &cache).await;
    let _leases = register(&client(&etcd, "ttl=60s").await, [1, 2]).await;
    let set = first.services("web").unwrap();
    set.wait(2, WAIT_TIMEOUT).await.unwrap();
    let written = || std::fs::read_dir(directory.path()).unwrap().flatten();
    let cache_contains = |what: &str| {
        written().any(|f| std::fs::read_to_string(f.path()).is_ok_and(|t| t.contains(what)))
    };
    eventually("the cache is written", async || {
        cache_contains("127.0.0.1") && cache_contains("\"port\":2")
    })
    .await;
    drop((set, first));
    etcd.kill();
    let second = client(&etcd, &cache).await;
    let set = second.services("web").unwrap();
    assert_eq!(set.wait(2, WAIT_TIMEOUT).await.unwrap().len(), 2);
    assert_eq!(set.status().state, SetState::Stale);
    assert!(set.status().fault.is_some());
    etcd.restart();
    eventually("the set is current", async || {
        set.status().state == SetState::Current
    })
    .await;
}
