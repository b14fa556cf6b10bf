//! The v2 API of a real etcd: what differs from other stores, and its faults.

mod support;

use discover_core::{Client, ErrorKind, Lease, OfflineReason, Registration, SetState};
use discover_testkit::proxy::{FaultProxy, Hold};
use support::etcd::Etcd;
use support::{Subscriber, WAIT_TIMEOUT, eventually, web};

const KEY: &str = "/discover/services/web/127.0.0.1:1";

async fn client_at(endpoint: &str, options: &str) -> Client {
    let url = format!("etcd2://{endpoint}/?ttl=60s{options}");
    Client::connect(&url).await.unwrap()
}

async fn client(etcd: &Etcd, options: &str) -> Client {
    client_at(&etcd.endpoint(), options).await
}

async fn becomes(lease: &Lease, standing: &str) {
    let is = async || lease.standing().name() == standing;
    eventually(standing, is).await;
}

/// Returns a number of a key from the server's response.
fn number(etcd: &Etcd, key: &str, name: &str) -> u64 {
    let answer = etcd.http(&format!("GET /v2/keys{key}"));
    let (_, rest) = answer.split_once(&format!("\"{name}\":")).expect(&answer);
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

/// Older programs read what this library writes, and it reads what they write.
#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_and_the_library_read_each_others_keys() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "").await;
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    let tea = web(1)
        .attributes([("drink", "tea & \"cake\" +%é")])
        .unwrap();
    let lease = client.register(tea).await.unwrap();
    assert_eq!(
        etcd.ctl2(&["ls", "--recursive", "/discover/services/web"]),
        KEY
    );
    // In the form that Go's JSON encoder writes.
    let written = r#"{"drink":"tea \u0026 \"cake\" +%é"}"#;
    assert_eq!(etcd.ctl2(&["get", KEY]), written);
    let up = r#"up 127.0.0.1:1 drink=tea & "cake" +%é"#;
    subscriber
        .expect_events(&[up, &up.replace("up", "leader")])
        .await;
    for (command, value, event) in [
        ("mk", r#"{"v":"1"}"#, "up h:2 v=1"),
        ("update", r#"{"v":"2"}"#, "update h:2 v=2"),
        ("set", r#"{"v":"2","w":""}"#, "update h:2 v=2 w="),
    ] {
        etcd.ctl2(&["set", "/discover/services/web-admin/h:9", "null"]);
        etcd.ctl2(&["set", "/discover/services/web/rubbish", "{"]);
        etcd.ctl2(&[command, "/discover/services/web/h:2", value]);
        subscriber.expect_events(&[event]).await;
    }
    etcd.ctl2(&["rm", "/discover/services/web/h:2"]);
    subscriber.expect_events(&["down h:2 v=2 w="]).await;
    lease.unregister().await.unwrap();
    assert!(etcd.ctl2(&["get", KEY]).contains("Key not found"));
    // The keys of the v3 API are separate.
    assert_eq!(etcd.ctl(&["get", "--prefix", "/"]), "");
}

/// Older programs use a plain `set` as heartbeat, which creates the key anew in the store.
/// S2.2, S2.40.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_set_again_stays_the_same() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let proxy = FaultProxy::start(etcd.endpoint());
    let client = client_at(&proxy.address().to_string(), "").await;
    let online = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&online);
    subscriber.expect_events(&["current"]).await;
    let set = |port: u16, value: &str| {
        let key = format!("/discover/services/web/h:{port}");
        etcd.ctl2(&["set", "--ttl", "60", &key, value]);
    };
    set(1, "null");
    subscriber.expect_events(&["up h:1", "leader h:1"]).await;
    let created = online.leader().unwrap().created();
    let is_as_old = || assert_eq!(online.leader().unwrap().created(), created);
    for _ in 0..5 {
        set(1, "null");
    }
    set(2, "null");
    subscriber.expect_events(&["up h:2"]).await;
    set(1, r#"{"v":"2"}"#);
    subscriber.expect_events(&["update h:1 v=2"]).await;
    is_as_old();
    // A list shows the same instance, too.
    proxy.hold(Hold::Everything);
    subscriber.expect_events(&["stale"]).await;
    set(1, r#"{"v":"2"}"#);
    proxy.hold(Hold::Nothing);
    subscriber.expect_events(&["fresh"]).await;
    is_as_old();
    // After an interruption it is another instance.
    etcd.ctl2(&["rm", "/discover/services/web/h:1"]);
    subscriber
        .expect_events(&["down h:1 v=2", "leader h:2"])
        .await;
    set(1, r#"{"v":"2"}"#);
    subscriber.expect_events(&["up h:1 v=2"]).await;
    assert!(online.online().iter().all(|i| i.created() > created));
}

/// A heartbeat keeps the age of an instance and emits no event.
/// S1.7, S2.67.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_emits_no_event_and_an_update_keeps_the_age() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "").await;
    let lease = client.register(web(1)).await.unwrap();
    let (created, first) = (
        number(&etcd, KEY, "createdIndex"),
        number(&etcd, KEY, "modifiedIndex"),
    );
    for _ in 0..3 {
        lease.heartbeat().await.unwrap();
    }
    assert_eq!(number(&etcd, KEY, "modifiedIndex"), first + 3);
    assert_eq!(
        etcd.ctl2(&["get", KEY]),
        "null",
        "the heartbeat keeps the value"
    );
    lease.update([("v", "2")]).await.unwrap();
    assert_eq!(number(&etcd, KEY, "createdIndex"), created);
    // The first event of the key since its creation is the update.
    let from = first + 1;
    let event = etcd.http(&format!("GET /v2/keys{KEY}?wait=true&waitIndex={from}"));
    assert!(event.contains(r#"{\"v\":\"2\"}"#), "{event}");
}

/// G4, G6: a key that an older program writes with a TTL has another owner; a key that is written without
/// one or deleted by hand is restored.
#[tokio::test(flavor = "multi_thread")]
async fn another_owner_is_left_alone_and_manual_changes_are_reverted() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "").await;
    let mine = web(1).attributes([("by", "me")]).unwrap();
    let lease = client.register(mine).await.unwrap();
    let is_mine = async || etcd.ctl2(&["get", KEY]) == r#"{"by":"me"}"#;
    etcd.ctl2(&["rm", KEY]);
    eventually("a deleted key is restored", is_mine).await;
    etcd.ctl2(&["set", KEY, r#"{"by":"hand"}"#]);
    eventually("an overwritten key is restored", is_mine).await;
    eventually("the restored key has a TTL", async || {
        number(&etcd, KEY, "ttl") > 0
    })
    .await;
    becomes(&lease, "live").await;
    // Even with the same value: the index differs.
    etcd.ctl2(&["set", "--ttl", "60", KEY, r#"{"by":"me"}"#]);
    becomes(&lease, "replaced").await;
    let index = number(&etcd, KEY, "modifiedIndex");
    assert_eq!(
        lease.heartbeat().await.unwrap_err().kind(),
        ErrorKind::Replaced
    );
    lease.unregister().await.unwrap();
    client.close(WAIT_TIMEOUT).await.unwrap();
    assert_eq!(number(&etcd, KEY, "modifiedIndex"), index);
}

/// One event reports the end of a directory, whether it was deleted or expired.
/// S2.41, S3.30.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_directory_takes_its_instances_offline() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "").await;
    let mut subscriber = Subscriber::new(&client.services("web").unwrap());
    subscriber.expect_events(&["current"]).await;
    etcd.http("PUT /v2/keys/discover/services/web?dir=true&ttl=3");
    etcd.http("PUT /v2/keys/discover/services/web/h:1?value=null");
    subscriber
        .expect_events(&["up h:1", "leader h:1", "down h:1", "leader"])
        .await;
    for above in ["/discover/services/web", "/discover"] {
        etcd.ctl2(&["set", "/discover/services/web/h:2", "null"]);
        subscriber.expect_events(&["up h:2", "leader h:2"]).await;
        etcd.ctl2(&["rm", "--recursive", above]);
        subscriber.expect_events(&["down h:2", "leader"]).await;
    }
}

/// G8: a watch that missed more events than the server keeps receives the difference. Heartbeats count as
/// events.
/// S1.71, S1.72, S2.45, S3.50.
#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_watch_receives_the_difference() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let proxy = FaultProxy::start(etcd.endpoint());
    let watcher = client_at(&proxy.address().to_string(), "").await;
    let set = watcher.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    etcd.ctl2(&["set", "/discover/services/web/h:1", "null"]);
    subscriber.expect_events(&["up h:1", "leader h:1"]).await;
    let before = watcher.metrics().relists;
    // An open poll may receive one more event; the next one is withheld.
    proxy.hold(Hold::Containing("wait=true"));
    etcd.ctl2(&["set", "/discover/services/web/h:2", "null"]);
    etcd.ctl2(&["rm", "/discover/services/web/h:1"]);
    let writer = client(&etcd, "").await;
    let noise = Registration::new("noise", 1).unwrap();
    let noise = writer.register(noise.host("h").unwrap()).await.unwrap();
    for _ in 0..1100 {
        noise.heartbeat().await.unwrap();
    }
    proxy.hold(Hold::Nothing);
    let mut events = Vec::new();
    while events.last().is_none_or(|event| event != "leader h:2") {
        events.push(subscriber.next_event().await);
    }
    events.retain(|event| event != "stale" && event != "fresh");
    events.sort();
    assert_eq!(events, ["down h:1", "leader h:2", "up h:2"]);
    assert!(watcher.metrics().relists > before);
}

/// G12: a server that stops responding is detected; the set is kept, marked stale, and current again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_detected() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let proxy = FaultProxy::start(etcd.endpoint());
    let client = client_at(&proxy.address().to_string(), "").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let _lease = client.register(web(1)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    proxy.hold(Hold::Everything);
    subscriber.expect_events(&["stale"]).await;
    assert_eq!(
        (set.status().state, set.online().len()),
        (SetState::Stale, 1)
    );
    proxy.hold(Hold::Nothing);
    subscriber.expect_events(&["fresh"]).await;
}

/// G12: losing the store keeps the set; after the outage only the differences are emitted.
/// S0.23, S1.50, S2.43, S2.64.
#[tokio::test(flavor = "multi_thread")]
async fn changes_during_an_outage_are_emitted_after_it() {
    let Some(mut etcd) = Etcd::start_v2() else {
        return;
    };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let lease = client.register(web(1)).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1"])
        .await;
    etcd.ctl2(&["set", "/discover/services/web/h:2", "null"]);
    subscriber.expect_events(&["up h:2"]).await;
    etcd.kill();
    subscriber.expect_events(&["stale"]).await;
    // Meanwhile the store runs at an address that the client does not use.
    let port = etcd.listen_elsewhere(None);
    etcd.restart();
    etcd.ctl2(&["rm", "/discover/services/web/h:2"]);
    etcd.ctl2(&["set", "/discover/services/web/h:3", "null"]);
    etcd.kill();
    etcd.listen_elsewhere(Some(port));
    etcd.restart();
    subscriber
        .expect_events(&["down h:2", "up h:3", "fresh"])
        .await;
    assert_eq!(set.offline()[0].reason, OfflineReason::Missing);
    lease.heartbeat().await.unwrap();
    assert_eq!(client.metrics().restored, 0, "the key was never lost");
}

/// G2: an instance is re-registered in a store that comes back empty, which is another cluster.
/// S2.8, S2.63.
#[tokio::test(flavor = "multi_thread")]
async fn instances_are_re_registered_in_an_emptied_store() {
    let Some(mut etcd) = Etcd::start_v2() else {
        return;
    };
    let client = client(&etcd, "").await;
    let set = client.services("web").unwrap();
    let lease = client.register(web(1)).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    eventually("the key is restored", async || {
        etcd.ctl2(&["get", KEY]) == "null"
    })
    .await;
    let is_current = async || set.snapshot().is_current() && set.online().len() == 1;
    eventually("the set is current", is_current).await;
    becomes(&lease, "live").await;
    assert!(client.metrics().resyncs > 0);
}

/// G13: with `protect=expiry`, instances that expire together are kept as suspects for a while; deleted ones go offline
/// at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_mass_expiry_is_delayed_and_a_mass_deletion_is_not() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "&protect=expiry&grace=3s").await;
    let set = client.services("web").unwrap();
    let suspects = || set.online().iter().filter(|i| i.is_suspect()).count();
    let write = |ttl: &str| {
        for port in 1..=6 {
            let key = format!("/discover/services/web/h:{port}");
            etcd.http(&format!("PUT /v2/keys{key}?value=null&ttl={ttl}"));
        }
    };
    set.wait(0, WAIT_TIMEOUT).await.unwrap();
    write("4");
    set.wait(6, WAIT_TIMEOUT).await.unwrap();
    eventually("all instances are suspects", async || suspects() == 6).await;
    eventually("the suspects go offline", async || set.online().is_empty()).await;
    write("60");
    set.wait(6, WAIT_TIMEOUT).await.unwrap();
    etcd.ctl2(&["rm", "--recursive", "/discover/services/web"]);
    let gone = async || {
        assert_eq!(suspects(), 0);
        set.online().is_empty()
    };
    eventually("all instances are offline", gone).await;
}

/// An endpoint that is down is skipped, and another one is used when the current one fails.
/// S3.15.
#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_takes_over() {
    let Some(etcd) = Etcd::start_v2() else { return };
    let (one, two) = (
        FaultProxy::start(etcd.endpoint()),
        FaultProxy::start(etcd.endpoint()),
    );
    let endpoints = format!("127.0.0.1:1,{},{}", one.address(), two.address());
    let client = client_at(&endpoints, "").await;
    let set = client.services("web").unwrap();
    let lease = client.register(web(1)).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    for (shut, open) in [(&one, &two), (&two, &one)] {
        shut.hold(Hold::Everything);
        open.hold(Hold::Nothing);
        eventually("a heartbeat succeeds", async || {
            lease.heartbeat().await.is_ok()
        })
        .await;
        eventually("the set is current", async || set.snapshot().is_current()).await;
    }
    assert_eq!(client.metrics().restored, 0);
}

/// A correct login works; a wrong one is refused as such and never shown.
#[tokio::test(flavor = "multi_thread")]
async fn logins_are_checked() {
    let Some(etcd) = Etcd::start_v2() else { return };
    for (path, json) in [
        ("users/root", r#"{"user":"root","password":"secret"}"#),
        ("enable", ""),
    ] {
        let length = json.len();
        let put = format!("PUT /v2/auth/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{json}");
        let answer = etcd.raw(&put);
        assert!(answer.contains(" 20"), "{answer}");
    }
    let guest = etcd.raw(
        "DELETE /v2/auth/roles/guest HTTP/1.0\r\nAuthorization: Basic cm9vdDpzZWNyZXQ=\r\n\r\n",
    );
    assert!(guest.contains(" 200 "), "{guest}");
    let url = |login: &str| format!("etcd2://{login}{}/?connect_timeout=20s", etcd.endpoint());
    let right = Client::connect(&url("root:secret@")).await.unwrap();
    let _lease = right.register(web(1)).await.unwrap();
    let set = right.services("web").unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    let anonymous = Client::connect(&url("")).await.unwrap_err();
    assert_eq!(anonymous.kind(), ErrorKind::PermissionDenied, "{anonymous}");
    let wrong = Client::connect(&url("root:wrong@")).await.unwrap();
    let error = wrong.register(web(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error}");
}

/// A server without the v2 API is reported with the remedy; names that v2 hides are refused.
#[tokio::test(flavor = "multi_thread")]
async fn unsupported_requests_are_refused_with_the_remedy() {
    let Some(etcd) = Etcd::start() else { return };
    let url = format!("etcd2://{}/?connect_timeout=2s", etcd.endpoint());
    let error = Client::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.report().contains("--enable-v2"), "{error}");
    let refused = Client::connect("etcd2://127.0.0.1:1?connect_timeout=300ms").await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.report().contains("refused"), "{refused}");
    let Some(etcd) = Etcd::start_v2() else { return };
    let client = client(&etcd, "").await;
    let hidden = web(1).host("_hidden").unwrap();
    let error = client.register(hidden).await.unwrap_err();
    assert!(error.report().contains("hides _hidden:1"), "{error}");
}
