//! G15: invalid records written by others.

mod support;

use std::time::Duration;

use discover_core::{Client, SetState};
use etcd_client::PutOptions;
use futures_util::StreamExt;
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, eventually};

const PREFIX: &str = "/discover/services/web/";

/// Values that are not metadata.
fn values() -> Vec<Vec<u8>> {
    let texts = [
        "",
        " ",
        "{",
        "[]",
        "0",
        "NaN",
        "nul",
        "true",
        "\"text\"",
        "{}{}",
        "[null]",
        "{\"k\":1}",
        "{\"k\":null}",
        "{\"k\":{\"k\":\"v\"}}",
        "{\"k\":[\"v\"]}",
        "{\"k\":\"v\"",
        "{k:\"v\"}",
        "{\"k\":\"\\ud800\"}",
        "{\"k\":1e999}",
        "\u{feff}null",
    ];
    let many: Vec<String> = (0..60_000).map(|n| format!("\"k{n}\":\"\"")).collect();
    let mut all: Vec<Vec<u8>> = texts
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    all.extend([
        vec![0xff, 0xfe],
        vec![0],
        b"{\"k\":\"\xff\"}".to_vec(),
        b"{\"k\":\"\xc0\xaf\"}".to_vec(),
        "[".repeat(100_000).into_bytes(),
        "{\"k\":".repeat(100_000).into_bytes(),
        format!("{{\"k\":\"{}\"}}", "v".repeat(1_400_000)).into_bytes(),
        format!("{{{}}}", many.join(",")).into_bytes(),
    ]);
    all
}

/// Keys that are not instances.
fn keys() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "h",
        "h:",
        ":1",
        "h:0",
        "h:70000",
        "h:-1",
        "h:1x",
        "h:99999999999999999999",
        "/h:1",
        "a/b:1",
        "../admin/h:1",
        "h:1/",
        "a b:1",
        "h\n:1",
        "h\r\nx:1",
        "h\u{1b}[31m:1",
        "${jndi:ldap://x}:1",
        "$(reboot):1",
        "\u{202e}h:1",
        "h\0:1",
        "[::1:1",
        "::1:1",
    ];
    let mut all: Vec<Vec<u8>> = texts
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    all.extend([
        vec![0xff],
        b"h\xff:1".to_vec(),
        format!("{}:1", "h".repeat(5000)).into_bytes(),
    ]);
    all
}

/// Each record is skipped and counted, and hides no instance, before and during the watch.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_records_hide_no_instance() {
    let Some(etcd) = Etcd::start() else { return };
    let mut raw = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let client = Client::connect(&format!("etcd://{}", etcd.endpoint()))
        .await
        .unwrap();
    let set = client.services("web").unwrap();
    set.wait(0, WAIT_TIMEOUT).await.unwrap();
    raw.put(format!("{PREFIX}good:1"), r#"{"v":"1"}"#, None)
        .await
        .unwrap();
    for (port, value) in (1..).zip(values()) {
        raw.put(format!("{PREFIX}bad:{port}"), value, None)
            .await
            .unwrap();
    }
    for name in keys() {
        let key = [PREFIX.as_bytes(), &name].concat();
        raw.put(key, "null", None::<PutOptions>).await.unwrap();
    }
    raw.put(format!("{PREFIX}good:2"), "null", None)
        .await
        .unwrap();
    let late = Client::connect(&format!("etcd://{}", etcd.endpoint()))
        .await
        .unwrap();
    for (set, client) in [(set, client), (late.services("web").unwrap(), late)] {
        let ids = || {
            set.online()
                .iter()
                .map(|i| i.id().to_owned())
                .collect::<Vec<_>>()
        };
        eventually("both valid instances are online", async || {
            ids() == ["good:1", "good:2"]
        })
        .await;
        assert_eq!(set.status().invalid, values().len());
        assert!(client.metrics().invalid >= values().len() as u64);
        assert_eq!(client.metrics().mismatches, 0);
    }
}

/// Fault F05: keys that lie under a service by mistake are refused with their number instead of being read;
/// the set keeps its content, and no other set is affected.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys_are_reported_and_the_set_is_kept() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let url = format!("etcd://{}/?max_instances=10", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let put = |etcd: &Etcd, port: u16| {
        etcd.ctl(&["put", &format!("{PREFIX}h:{port}"), "null"]);
    };
    (1..=10).for_each(|port| put(&etcd, port));
    let set = client.services("web").unwrap();
    set.wait(10, WAIT_TIMEOUT).await.unwrap();
    etcd.kill();
    etcd.restart();
    (11..=12).for_each(|port| put(&etcd, port));
    let late = Client::connect(&url).await.unwrap();
    let refused = late.services("web").unwrap();
    let other = late.services("api").unwrap();
    eventually("the list is refused", async || {
        refused.status().fault.is_some()
    })
    .await;
    let fault = refused.status().fault.unwrap().error.report();
    assert!(
        fault.contains("12 keys") && fault.contains("max_instances"),
        "{fault}"
    );
    assert_eq!(refused.status().state, SetState::Pending);
    // The limit applies to the events of a watch, too: the set keeps what it had, with the same reason.
    eventually("the watched set is stale", async || {
        let fault = set.status().fault;
        fault.is_some_and(|fault| fault.error.report().contains("max_instances"))
    })
    .await;
    assert_eq!(set.online().len(), 10);
    other.wait(0, WAIT_TIMEOUT).await.unwrap();
    etcd.ctl(&["del", &format!("{PREFIX}h:11")]);
    etcd.ctl(&["del", &format!("{PREFIX}h:12")]);
    assert_eq!(refused.wait(10, WAIT_TIMEOUT).await.unwrap().len(), 10);
    eventually("the watched set is current", async || {
        set.status().state == SetState::Current && set.online().len() == 10
    })
    .await;
}

/// F03: a record that changes a thousand times a second costs a slow subscriber no more events than it
/// takes, and the last value arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_record_is_emitted_as_fast_as_the_subscriber_reads() {
    const CHANGES: usize = 2000;
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let client = Client::connect(&format!("etcd://{}", etcd.endpoint())).await;
    let client = client.unwrap();
    let set = client.services("web").unwrap();
    let mut raw = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let key = format!("{PREFIX}h:1");
    raw.put(key.clone(), "null", None).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    let mut events = set.subscribe();
    let flapping = tokio::spawn(async move {
        for n in 1..=CHANGES {
            let value = format!("{{\"n\":\"{n}\"}}");
            raw.put(key.clone(), value, None).await.unwrap();
        }
    });
    let (mut received, last) = (0, CHANGES.to_string());
    let began = tokio::time::Instant::now();
    let receive_all = async {
        while let Some(event) = events.next().await {
            received += 1;
            let now = event.instance().and_then(|i| i.attributes().get("n"));
            if now == Some(&last) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // tidy: sleep, a slow subscriber
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, receive_all)
        .await
        .unwrap();
    flapping.await.unwrap();
    let pauses = began.elapsed().as_millis() as usize / 50;
    assert!(
        received <= pauses + 10,
        "{received} events in {pauses} pauses"
    );
    assert!(received < CHANGES, "no changes were merged");
}
