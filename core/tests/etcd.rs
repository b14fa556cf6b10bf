//! Faults of a real etcd: killed, restarted, emptied, with expired leases, unreachable, with foreign keys.

mod support;

use std::time::Duration;

use discover_core::embed::Engine;
use discover_core::{Client, ErrorKind, OfflineReason, SetState};
use support::etcd::Etcd;
use support::{Subscriber, WAIT_TIMEOUT, eventually, web};

async fn client(etcd: &Etcd, options: &str) -> Client {
    Client::connect(&format!("etcd://{}/?ttl=60s{options}", etcd.endpoint()))
        .await
        .unwrap()
}

/// G12: losing the store keeps the set and marks it stale; after the restart only the differences are
/// emitted.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_emits_stale_the_differences_and_fresh() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let _stays = client.register(web(1)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    etcd.ctl(&["put", "/discover/services/web/h:2", "null"]);
    subscriber.expect_events(&["up h:2"]).await;
    etcd.kill();
    subscriber.expect_events(&["stale"]).await;
    assert_eq!(
        (set.status().state, set.online().len()),
        (SetState::Stale, 2)
    );
    assert!(set.status().fault.unwrap().error.is_retriable());
    etcd.restart();
    subscriber.expect_events(&["fresh"]).await;
    assert_eq!(set.status().state, SetState::Current);
    etcd.ctl(&["put", "/discover/services/web/h:3", r#"{"v":"1"}"#]);
    subscriber.expect_events(&["up h:3 v=1"]).await;
}

/// Instances that went offline during an outage are reported after it, and remembered as missing.
#[tokio::test(flavor = "multi_thread")]
async fn changes_during_an_outage_are_emitted_after_it() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    etcd.ctl(&["put", "/discover/services/web/h:1", "null"]);
    subscriber.expect_events(&["up h:1", "leader h:1"]).await;
    etcd.ctl(&["put", "/discover/services/web/h:2", "null"]);
    subscriber.expect_events(&["up h:2"]).await;
    etcd.kill();
    subscriber.expect_events(&["stale"]).await;
    // Meanwhile the store runs at an address that the client does not use.
    let port = etcd.listen_elsewhere(None);
    etcd.restart();
    etcd.ctl(&["del", "/discover/services/web/h:1"]);
    etcd.ctl(&["put", "/discover/services/web/h:2", r#"{"v":"2"}"#]);
    etcd.ctl(&["put", "/discover/services/web/h:3", "null"]);
    etcd.kill();
    etcd.listen_elsewhere(Some(port));
    etcd.restart();
    subscriber
        .expect_events(&[
            "down h:1",
            "update h:2 v=2",
            "up h:3",
            "leader h:2 v=2",
            "fresh",
        ])
        .await;
    assert_eq!(set.offline()[0].reason, OfflineReason::Missing);
}

/// G2: after the loss of its lease an instance is re-registered automatically.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_is_re_registered() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "").await;
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    let lease = client
        .register(web(1).ttl(Duration::from_secs(3)).unwrap())
        .await
        .unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    let listed = etcd.ctl(&["lease", "list"]);
    let id = listed.lines().last().unwrap();
    assert!(
        etcd.ctl(&["lease", "revoke", id]).contains("revoked"),
        "{listed}"
    );
    subscriber
        .expect_events(&[
            "down 127.0.0.1:1",
            "leader",
            "up 127.0.0.1:1",
            "leader 127.0.0.1:1",
        ])
        .await;
    // A key that is deleted or overwritten by hand is restored, too.
    etcd.ctl(&["del", "/discover/services/web/127.0.0.1:1"]);
    subscriber
        .expect_events(&[
            "down 127.0.0.1:1",
            "leader",
            "up 127.0.0.1:1",
            "leader 127.0.0.1:1",
        ])
        .await;
    etcd.ctl(&[
        "put",
        "/discover/services/web/127.0.0.1:1",
        r#"{"by":"hand"}"#,
    ]);
    subscriber
        .expect_events(&["update 127.0.0.1:1 by=hand", "update 127.0.0.1:1"])
        .await;
    // The watch may report the key before the response to the put arrives.
    let is_live = async || lease.standing().name() == "live";
    eventually("the registration is live again", is_live).await;
    lease.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader"])
        .await;
    assert_eq!(etcd.leased_keys(), [""; 0], "no orphan is left");
}

/// G3, G20: closing waits for leases that were just dropped, and leaves no lease behind.
#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_leases_just_dropped() {
    let Some(etcd) = Etcd::start() else { return };
    let url = format!("etcd://{}", etcd.endpoint());
    for _ in 0..20 {
        let engine = Engine::open(Some(&url)).unwrap();
        let engine = tokio::task::spawn_blocking(|| engine.wait().unwrap())
            .await
            .unwrap();
        let done = tokio::task::spawn_blocking(move || {
            let lease = engine.register(web(1), None).unwrap().wait().unwrap();
            drop(lease);
            engine.close(WAIT_TIMEOUT)
        });
        done.await.unwrap().unwrap();
        assert_eq!(etcd.leased_keys(), [""; 0]);
        assert_eq!(etcd.ctl(&["get", "--prefix", "/"]), "");
    }
}

/// G2: an instance is re-registered in a store that comes back empty.
#[tokio::test(flavor = "multi_thread")]
async fn instances_are_re_registered_in_an_emptied_store() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let _lease = client
        .register(web(1).ttl(Duration::from_secs(3)).unwrap())
        .await
        .unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    eventually("the key is restored", async || {
        etcd.ctl(&["get", "--prefix", "/"])
            .contains("/discover/services/web/127.0.0.1:1")
    })
    .await;
    eventually("the set is current", async || {
        set.snapshot().is_current() && set.online().len() == 1
    })
    .await;
}

/// G3: an instance whose process is dead goes offline after its TTL.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_process_goes_offline_after_its_ttl() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "").await;
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    let url = format!("etcd://{}/?ttl=2s", etcd.endpoint());
    // To etcd, a runtime that ends without closing looks like a killed process.
    let lease = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let lease = runtime.block_on(async {
            let dying = Client::connect(&url).await.unwrap();
            dying.register(web(1)).await.unwrap()
        });
        runtime.shutdown_background();
        lease
    });
    let _lease = lease.join().unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader"])
        .await;
}

/// G15: foreign keys are skipped and counted, and hide no instance.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_hide_no_instance() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let prefix = "/discover/services/web";
    for rubbish in ["{", "[]", r#"{"port":1}"#, ""] {
        etcd.ctl(&["put", &format!("{prefix}/h:1"), rubbish]);
    }
    etcd.ctl(&["put", &format!("{prefix}-admin/h:9"), "null"]);
    etcd.ctl(&["put", &format!("{prefix}/h:2"), "null"]);
    subscriber.expect_events(&["up h:2", "leader h:2"]).await;
    assert_eq!(set.status().invalid, 1);
    etcd.ctl(&["put", &format!("{prefix}/h:1"), "null"]);
    subscriber.expect_events(&["up h:1", "leader h:1"]).await;
    assert_eq!(set.status().invalid, 0);
}

/// Connecting to an unreachable store fails in time, with the endpoint and the cause and without secrets.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_store_is_named_with_the_cause() {
    let refused = Client::connect("etcd://127.0.0.1:1?connect_timeout=300ms")
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let text = refused.report();
    assert!(
        text.contains("127.0.0.1:1") && text.contains("refused"),
        "{text}"
    );
    // A server that accepts the connection and never responds.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("etcd://me:hunter2@{address}?connect_timeout=300ms");
    let error = Client::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.report().contains(&address.to_string()), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

/// With the option `lazy` a client opens without its store, reports that, and connects later.
#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_client_waits_for_its_store() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    etcd.kill();
    let client = client(&etcd, "&lazy=true&connect_timeout=300ms").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["stale"]).await;
    assert_eq!(set.status().state, SetState::Pending);
    assert_eq!(
        client.register(web(1)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    etcd.restart();
    subscriber.expect_events(&["current", "fresh"]).await;
    let _lease = client.register(web(1)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
}

/// A correct login works; a wrong one is refused as such.
#[tokio::test(flavor = "multi_thread")]
async fn logins_are_checked() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    assert!(etcd.ctl(&["auth", "enable"]).contains("Enabled"));
    let url = |login: &str| format!("etcd://{login}{}/?connect_timeout=2s", etcd.endpoint());
    let right = Client::connect(&url("root:secret@")).await.unwrap();
    let _lease = right.register(web(1)).await.unwrap();
    right
        .services("web")
        .unwrap()
        .wait(1, WAIT_TIMEOUT)
        .await
        .unwrap();
    for login in ["root:wrong@", ""] {
        let error = Client::connect(&url(login)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!error.report().contains("wrong"), "{error}");
    }
}
