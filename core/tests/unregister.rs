//! G4 and G25: what a client asked to be removed is removed, whatever happens to the first call.

mod support;

use std::time::Duration;

use discover_core::{Client, ErrorKind, Lease};
use discover_testkit::proxy::{FaultProxy, Hold};
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, eventually, web};
use tokio::time::{Instant, sleep};

const KEY: &str = "/discover/services/web/127.0.0.1:1";

fn is_registered(etcd: &Etcd, is_v2: bool) -> bool {
    match is_v2 {
        true => etcd
            .http(&format!("GET /v2/keys{KEY}"))
            .contains("\"node\""),
        false => etcd.ctl(&["get", KEY]).contains(KEY),
    }
}

fn standing(lease: &Lease) -> &'static str {
    lease.standing().name()
}

/// The store is silent during `unregister`. The call fails, as does the next one, and the key is deleted within about a
/// second of the store's return, although the other registration keeps the shared lease alive.
async fn an_interrupted_unregister_is_repeated(scheme: &str, etcd: &Etcd) {
    let is_v2 = scheme == "etcd2";
    let proxy = FaultProxy::start(etcd.endpoint());
    let url = format!("{scheme}://{}/?ttl=30s", proxy.address());
    let client = Client::connect(&url).await.unwrap();
    let lease = client.register(web(1)).await.unwrap();
    let other = client.register(web(2)).await.unwrap();
    proxy.hold(Hold::Everything);
    for _ in 0..2 {
        let error = lease.unregister().await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert_ne!(standing(&lease), "released");
    }
    let error = lease.update([("v", "2")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(is_registered(etcd, is_v2));
    proxy.hold(Hold::Nothing);
    eventually("the key is deleted", async || !is_registered(etcd, is_v2)).await;
    eventually("the lease is released", async || {
        standing(&lease) == "released"
    })
    .await;
    lease.unregister().await.unwrap();
    assert_eq!(standing(&other), "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregister_that_is_interrupted_is_repeated_on_etcd_v3() {
    let Some(etcd) = Etcd::start() else { return };
    an_interrupted_unregister_is_repeated("etcd", &etcd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregister_that_is_interrupted_is_repeated_on_etcd_v2() {
    let Some(etcd) = Etcd::start_v2() else { return };
    an_interrupted_unregister_is_repeated("etcd2", &etcd).await;
}

/// Closing the client waits for the store within its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn closing_repeats_an_interrupted_unregister() {
    let Some(etcd) = Etcd::start() else { return };
    let proxy = FaultProxy::start(etcd.endpoint());
    let url = format!("etcd://{}/?ttl=60s", proxy.address());
    let client = Client::connect(&url).await.unwrap();
    let _lease = client.register(web(1)).await.unwrap();
    proxy.hold(Hold::Everything);
    let closing = tokio::spawn(async move { client.close(WAIT_TIMEOUT).await });
    // Longer than one call lasts.
    sleep(Duration::from_secs(6)).await; // tidy: sleep, the first call must fail
    assert!(!closing.is_finished());
    proxy.hold(Hold::Nothing);
    closing.await.unwrap().unwrap();
    assert!(!is_registered(&etcd, false));
}

/// The user may not write to the service any more. The shared lease is given up, so that the key expires, and the other
/// registration moves to another lease without being noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_unregister_leaves_nothing_beyond_the_ttl() {
    let Some(etcd) = Etcd::start() else { return };
    for command in [
        "user add root:root",
        "user grant-role root root",
        "role add writer",
        "role grant-permission writer readwrite --prefix=true /discover/services/web/",
        "role grant-permission writer readwrite --prefix=true /discover/services/api/",
        "user add eve:pw",
        "user grant-role eve writer",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let root = |arguments: &str| {
        let arguments = format!("--user root:root {arguments}");
        etcd.ctl(&arguments.split(' ').collect::<Vec<_>>())
    };
    let url = format!("etcd://eve:pw@{}/?ttl=3s", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let api = discover_core::Registration::new("api", 2).unwrap();
    let api = client
        .register(api.host("127.0.0.1").unwrap())
        .await
        .unwrap();
    let lease = client.register(web(1)).await.unwrap();
    let api_key = "get /discover/services/api/127.0.0.1:2";
    root("role revoke-permission writer --prefix=true /discover/services/web/");
    let error = lease.unregister().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_ne!(standing(&lease), "released");
    let late = Instant::now() + WAIT_TIMEOUT;
    while root(&format!("get {KEY}")).contains(KEY) {
        assert!(
            root(api_key).contains("/api/"),
            "the other instance went offline"
        );
        assert!(Instant::now() < late, "the key is still there");
    }
    eventually("the lease is released", async || {
        standing(&lease) == "released"
    })
    .await;
    assert!(root(api_key).contains("/api/"));
    eventually("the other lease is live", async || standing(&api) == "live").await;
}
