//! Programs that watch the v2 API of etcd react only to the actions of the requests that they send themselves. They
//! notice registrations, updates and removals of this library nevertheless.

mod support;

use discover_core::{Client, Registration};
use serde_json::Value;
use support::etcd::Etcd;
use support::fleet::at;
use support::{Subscriber, WAIT_TIMEOUT};

/// An event as a program that watches receives it.
#[derive(Debug)]
struct Event {
    action: String,
    value: String,
    /// `None` if the key did not exist before.
    previous: Option<String>,
}

impl Event {
    fn is_changed_value(&self) -> bool {
        matches!(self.action.as_str(), "set" | "update")
            && self.previous.as_deref() != Some(&self.value)
    }

    fn is_new_host(&self) -> bool {
        self.action == "create" || self.action == "set" && self.previous.is_none()
    }

    fn is_gone(&self) -> bool {
        matches!(self.action.as_str(), "delete" | "expire")
    }
}

/// A long poll from one event to the next, as the older programs watch.
struct Watch<'a> {
    etcd: &'a Etcd,
    directory: String,
    next: u64,
}

impl<'a> Watch<'a> {
    fn start(etcd: &'a Etcd, directory: &str) -> Watch<'a> {
        let head = etcd.http("GET /v2/keys/");
        let index = head
            .lines()
            .find_map(|line| line.strip_prefix("X-Etcd-Index: "));
        Watch {
            etcd,
            directory: directory.to_owned(),
            next: index.unwrap().parse::<u64>().unwrap() + 1,
        }
    }

    fn next(&mut self) -> Event {
        let (directory, next) = (&self.directory, self.next);
        let request = format!("GET /v2/keys{directory}?wait=true&recursive=true&waitIndex={next}");
        let response = self.etcd.http(&request);
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let event: Value = serde_json::from_str(body).unwrap();
        self.next = event["node"]["modifiedIndex"].as_u64().unwrap() + 1;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Event {
            action: text(&event["action"]).unwrap(),
            value: text(&event["node"]["value"]).unwrap_or_default(),
            previous: text(&event["prevNode"]["value"]),
        }
    }

    /// Returns the next event for which `noticed` holds. The server answers a poll when there is an event, so this
    /// ends only if there is one; the test runner ends a test that waits too long.
    fn next_that(&mut self, noticed: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if noticed(&event) {
                return event;
            }
        }
    }
}

struct Case {
    layout: &'static str,
    directory: &'static str,
    registration: Registration,
    is_online: fn(&Event) -> bool,
}

/// Registers, updates and removes an instance in a layout, and checks what the older programs of the layout notice, and
/// that this library's own set reports each change once.
async fn is_noticed(case: Case) {
    let Some(etcd) = Etcd::start_v2() else { return };
    let layout = case.layout;
    let client = Client::connect(&format!(
        "etcd2://{}/?ttl=60s&layout={layout}",
        etcd.endpoint()
    ))
    .await
    .unwrap();
    let service = case.registration.service().clone();
    let set = client.services(service.as_str()).unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let mut watch = Watch::start(&etcd, case.directory);

    let lease = client.register(case.registration).await.unwrap();
    let event = watch.next_that(case.is_online);
    assert!(!event.value.ends_with(' '), "{layout}: {event:?}");
    assert!(subscriber.next_event().await.starts_with("up "), "{layout}");
    assert!(subscriber.next_event().await.starts_with("leader "));
    let created = set.leader().unwrap().created();

    // Only a changed value counts for the programs of layout native; the others take nothing from it.
    if layout == "native" {
        lease.update([("v", "2")]).await.unwrap();
        let event = watch.next_that(Event::is_changed_value);
        assert_eq!(event.value, r#"{"v":"2"}"#);
        assert!(subscriber.next_event().await.starts_with("update "));
        assert_eq!(set.leader().unwrap().created(), created);
    }

    // A heartbeat is no event.
    lease.heartbeat().await.unwrap();
    lease.unregister().await.unwrap();
    let event = watch.next_that(|_| true);
    assert!(event.is_gone(), "{layout}: {event:?}");
    assert!(
        subscriber.next_event().await.starts_with("down "),
        "{layout}"
    );
    client.close(WAIT_TIMEOUT).await.unwrap();
}

/// S1.30, S1.31.
#[tokio::test(flavor = "multi_thread")]
async fn go_discover_notices_registrations_updates_and_removals() {
    is_noticed(Case {
        layout: "native",
        directory: "/discover/services/web",
        registration: at("web", "127.0.0.1:1", &[("v", "1")]),
        is_online: Event::is_changed_value,
    })
    .await;
}

/// S2.40, S2.41.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_discovery_notices_new_and_removed_hosts() {
    let fields = [("hostname", "h"), ("ports.http", "80")];
    is_noticed(Case {
        layout: "scalingo",
        directory: "/services/web",
        registration: at("web", "h:80", &fields),
        is_online: Event::is_new_host,
    })
    .await;
}

/// S3.30.
#[tokio::test(flavor = "multi_thread")]
async fn embassy_notices_new_and_removed_endpoints() {
    for layout in ["embassy", "registrator"] {
        is_noticed(Case {
            layout,
            directory: "/services",
            registration: at("web", "127.0.0.1:80", &[]),
            is_online: |event| event.action == "set",
        })
        .await;
    }
}
