//! Behaviour in existing fleets: neighbours, restarts, two layouts at once.

mod support;

use std::time::Duration;

use discover_core::{Client, ErrorKind, Lease};
use support::fleet::{Fleet, at};
use support::{Subscriber, TestRegistry, WAIT_TIMEOUT, eventually};
use tokio::time::Instant;

/// S0.60, S0.61: an instance that restarts within the TTL is online at once, with new metadata and its old
/// age.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_within_the_ttl_takes_the_record_over() {
    let Some(fleet) = Fleet::new() else { return };
    let client = fleet.client("containerpilot").await;
    let key = "/containerpilot/app/app-host1/service";
    fleet.put(
        key,
        r#"{"id":"app-host1","address":"10.0.0.1","port":1,"tags":null,"owner":"ops"}"#,
    );
    let set = client.services("app").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber
        .expect_events(&["up 10.0.0.1:1", "leader 10.0.0.1:1", "current"])
        .await;
    let created = set.leader().unwrap().created();
    let again = at("app", "10.0.0.2:2", &[]).id("app-host1").unwrap();
    let lease = client.register(again).await.unwrap();
    subscriber.expect_events(&["update 10.0.0.2:2"]).await;
    assert_eq!(set.leader().unwrap().created(), created);
    let kept = fleet.get(key);
    assert!(
        kept.ends_with(r#""port":2,"tags":null,"owner":"ops"}"#),
        "{kept}"
    );
    lease.update([("v", "1")]).await.unwrap();
    assert!(
        fleet
            .get(key)
            .contains(r#""attributes":{"v":"1"},"owner":"ops""#)
    );
}

/// S0.11, S0.12, S0.14, S0.22, S0.30, S0.34, S0.52, S0.60, S0.64 on the API of ContainerPilot: the TTL is
/// that of the directory, a heartbeat emits no event, a restarted instance takes over, and unregistering
/// removes the directory.
#[tokio::test(flavor = "multi_thread")]
async fn containerpilot_sets_its_ttl_on_a_directory_of_etcd2() {
    let Some(etcd) = support::etcd::shared_v2() else {
        return;
    };
    let registry = TestRegistry::new("etcd2").unwrap();
    let client = TestRegistry::with_options(&registry, "layout=containerpilot")
        .client()
        .await;
    let root = registry.url.rsplit('/').next().unwrap();
    let root = format!("/{}", root.split('?').next().unwrap());
    let folder = format!("{root}/containerpilot/app/app-host1");
    let get = |path: &str| etcd.http(&format!("GET /v2/keys{path}"));
    let app = || at("app", "10.0.0.1:8000", &[]).id("app-host1").unwrap();
    let set = client.services("app").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    // A file in place of a directory is no instance.
    etcd.ctl2(&["set", &format!("{root}/containerpilot/file"), "x"]);
    let file = client.services("file").unwrap();
    assert!(file.wait(0, WAIT_TIMEOUT).await.unwrap().is_empty());
    // As the original writes it, without later heartbeats: it expires with its directory.
    let record = r#"{"id":"old","name":"app","address":"10.0.0.9","port":80,"tags":null}"#;
    etcd.ctl2(&[
        "mkdir",
        "--ttl",
        "1",
        &format!("{root}/containerpilot/app/old"),
    ]);
    etcd.ctl2(&[
        "set",
        &format!("{root}/containerpilot/app/old/service"),
        record,
    ]);
    subscriber
        .expect_events(&[
            "up 10.0.0.9:80",
            "leader 10.0.0.9:80",
            "down 10.0.0.9:80",
            "leader",
        ])
        .await;
    let first = client.register(app()).await.unwrap();
    subscriber
        .expect_events(&["up 10.0.0.1:8000", "leader 10.0.0.1:8000"])
        .await;
    let (seen, file) = (get(&folder), get(&format!("{folder}/service")));
    assert!(
        seen.contains(r#""dir":true"#) && seen.contains(r#""ttl":"#),
        "{seen}"
    );
    assert!(!file.contains(r#""ttl":"#), "{file}");
    first.update([("v", "1")]).await.unwrap();
    subscriber
        .expect_events(&["update 10.0.0.1:8000 v=1"])
        .await;
    for _ in 0..3 {
        first.heartbeat().await.unwrap();
    }
    // Longer than the TTL: the directory is renewed, and no event is emitted.
    // tidy: sleep, for longer than a TTL
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(set.online().len(), 1);
    let other = TestRegistry::with_options(&registry, "layout=containerpilot")
        .client()
        .await;
    let second = other.register(app()).await.unwrap();
    subscriber.expect_events(&["update 10.0.0.1:8000"]).await;
    eventually("the first lease is replaced", async || {
        first.standing().name() == "replaced"
    })
    .await;
    second.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 10.0.0.1:8000", "leader"])
        .await;
    assert!(
        get(&folder).contains(r#""errorCode":100"#),
        "{}",
        get(&folder)
    );
}

/// Collisions under /services: each of four systems is seen by its own clients, and none counts as invalid.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_under_one_prefix_do_not_disturb_each_other() {
    let Some(fleet) = Fleet::new() else { return };
    fleet.put("/services/web/h:c:80", "10.0.0.1:80");
    fleet.put("/services/web/u-n", r#"{"name":"n","ports":{"http":"81"}}"#);
    fleet.put(
        "/services/web/versions/1.0/config/details",
        r#"{"name":"web","run":{}}"#,
    );
    fleet.put(
        "/services/web/instances/1/state",
        r#"{"service_version":"1.0","state":"running"}"#,
    );
    fleet.put(
        "/services/prod/web/80/82/c",
        r#"{"ipaddress":"10.0.0.2","host_port":"82","port":"80"}"#,
    );
    for (layout, address) in [
        ("registrator", "10.0.0.1:80"),
        ("scalingo", "n:81"),
        ("embassy", "10.0.0.2:82"),
    ] {
        let client = fleet.client(layout).await;
        let set = client.services("web").unwrap();
        let online = set.wait(1, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(
            (online.len(), online[0].address()),
            (1, address),
            "{layout}"
        );
        assert_eq!(set.status().invalid, 0, "{layout}");
    }
}

/// A registration in two layouts is one instance of both, visible to the clients of either.
async fn two_layouts_are_one_set(registry: &TestRegistry) {
    let join = |layout: &str| TestRegistry::with_options(registry, &format!("layout={layout}"));
    let (both, old, new) = (
        join("registrator,native").client().await,
        join("registrator").client().await,
        join("native").client().await,
    );
    let set = both.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let mine = at("web", "127.0.0.1:1", &[("zone", "eu")]);
    let lease = both.register(mine).await.unwrap();
    subscriber
        .expect_events(&["up 127.0.0.1:1 zone=eu", "leader 127.0.0.1:1 zone=eu"])
        .await;
    assert_eq!(set.leader().unwrap().layouts(), ["registrator", "native"]);
    assert_eq!(set.leader().unwrap().id(), "127.0.0.1:1");
    let ends: [(&Client, &str, usize); 2] = [(&old, "registrator", 0), (&new, "native", 1)];
    for (client, layout, attributes) in ends {
        let seen = client
            .services("web")
            .unwrap()
            .wait(1, WAIT_TIMEOUT)
            .await
            .unwrap();
        assert_eq!(
            (seen[0].address(), seen[0].layouts()),
            ("127.0.0.1:1", &[layout.to_owned()][..])
        );
        assert_eq!(seen[0].attributes().len(), attributes);
    }
    lease.update([("zone", "us")]).await.unwrap();
    subscriber
        .expect_events(&["update 127.0.0.1:1 zone=us"])
        .await;
    // An instance of the old fleet only, and its migration to both.
    let other = old.register(at("web", "127.0.0.1:2", &[])).await.unwrap();
    subscriber.expect_events(&["up 127.0.0.1:2"]).await;
    let migrated: Lease = new
        .register(at("web", "127.0.0.1:2", &[("v", "2")]))
        .await
        .unwrap();
    subscriber.expect_events(&["update 127.0.0.1:2 v=2"]).await;
    other.unregister().await.unwrap();
    subscriber.expect_events(&["update 127.0.0.1:2 v=2"]).await;
    let online = set.online();
    assert!(
        online
            .iter()
            .any(|i| i.port() == 2 && i.layouts() == ["native"])
    );
    migrated.unregister().await.unwrap();
    lease.unregister().await.unwrap();
    eventually("all instances are offline", async || {
        set.online().is_empty()
    })
    .await;
}

/// A change that is written in all layouts of an instance is reported without a timer, and one that another program
/// writes in one layout does not wait for others either. Time stands still unless something waits for it.
#[tokio::test(start_paused = true)]
async fn several_layouts_delay_no_change_of_an_instance() {
    let registry = TestRegistry::new("memory").unwrap();
    let join = |layout: &str| TestRegistry::with_options(&registry, &format!("layout={layout}"));
    let (both, old) = (
        join("registrator,native").client().await,
        join("registrator").client().await,
    );
    let set = both.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let other = old.register(at("web", "h:2", &[])).await.unwrap();
    subscriber.expect_events(&["up h:2", "leader h:2"]).await;

    let mut start = Instant::now();
    let mut took = |step: &str| {
        let elapsed = std::mem::replace(&mut start, Instant::now()).elapsed();
        assert!(elapsed < Duration::from_millis(1), "{step}: {elapsed:?}");
    };
    let lease = both
        .register(at("web", "h:1", &[("v", "1")]))
        .await
        .unwrap();
    assert_eq!(set.online().len(), 2, "its own set shows it");
    subscriber.expect_events(&["up h:1 v=1"]).await;
    took("register");
    lease.update([("v", "2")]).await.unwrap();
    subscriber.expect_events(&["update h:1 v=2"]).await;
    took("update");
    lease.unregister().await.unwrap();
    subscriber.expect_events(&["down h:1 v=2"]).await;
    took("unregister");
    other.unregister().await.unwrap();
    subscriber.expect_events(&["down h:2", "leader"]).await;
    took("unregister from one layout");
}

/// G4: a layout that cannot represent a registration refuses it before anything is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_layout_cannot_represent_is_refused() {
    let registry = TestRegistry::new("memory").unwrap();
    let client = TestRegistry::with_options(&registry, "layout=registrator")
        .client()
        .await;
    let full = at("web", "h:1", &[("zone", "eu")]);
    let error = client.register(full).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.report().contains("layout registrator"), "{error}");
    let lease = client.register(at("web", "h:1", &[])).await.unwrap();
    let error = lease.update([("zone", "eu")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(lease.standing().name(), "live");
}

/// A program of etcd-discovery cannot list a service with a record of registrator among its hosts, and no
/// reader of registrator's records expects a document.
#[tokio::test(flavor = "multi_thread")]
async fn layouts_under_one_prefix_are_read_and_not_written() {
    let registry = TestRegistry::new("memory").unwrap();
    for both in [
        "scalingo,registrator",
        "registrator,scalingo",
        "kratos,go-micro&go-micro.prefix=/microservices",
    ] {
        let client = TestRegistry::with_options(&registry, &format!("layout={both}"))
            .client()
            .await;
        let error = client.register(at("web", "h:1", &[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{both}");
        let error = error.report();
        assert!(error.contains("give them prefixes of their own"), "{error}");
    }
    let apart = "layout=scalingo,registrator&registrator.prefix=/registrator";
    let apart = TestRegistry::with_options(&registry, apart).client().await;
    let lease = apart.register(at("web", "h:1", &[])).await.unwrap();
    let old = TestRegistry::with_options(&registry, "layout=scalingo,registrator");
    let online = old.client().await.services("web").unwrap();
    assert_eq!(
        online.wait(1, WAIT_TIMEOUT).await.unwrap()[0].address(),
        "h:1"
    );
    lease.unregister().await.unwrap();
}

/// The key is where other programs look for the instance: an update does not move it.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_part_of_the_key_is_refused() {
    let registry = TestRegistry::new("memory").unwrap();
    let client = TestRegistry::with_options(&registry, "layout=embassy")
        .client()
        .await;
    let set = client.services("web").unwrap();
    let lease = client
        .register(at("web", "h:1", &[("port", "80")]))
        .await
        .unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    for moved in [vec![("port", "81"), ("v", "1")], vec![("v", "1")]] {
        let error = lease.update(moved).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.report();
        assert!(text.contains("attribute port is part of the key"), "{text}");
    }
    assert_eq!(lease.attributes()["port"], "80");
    lease.update([("port", "80"), ("v", "2")]).await.unwrap();
    eventually("the update is seen", async || {
        let online = set.online();
        online.len() == 1 && online[0].attributes().get("v").is_some_and(|v| v == "2")
    })
    .await;
    lease.unregister().await.unwrap();
    eventually("the instance is offline", async || set.online().is_empty()).await;
}

/// If one of two layouts cannot represent tags, it still writes the attributes.
#[tokio::test(flavor = "multi_thread")]
async fn a_layout_without_room_for_tags_keeps_the_attributes() {
    let registry = TestRegistry::new("memory").unwrap();
    let join = |layout: &str| TestRegistry::with_options(&registry, &format!("layout={layout}"));
    let both = join("containerpilot,grpc").client().await;
    let tagged = at("web", "h:1", &[("zone", "eu")]).tags(["a,b"]).unwrap();
    let lease = both.register(tagged).await.unwrap();
    let grpc = join("grpc").client().await;
    let set = grpc.services("web").unwrap();
    let seen = set.wait(1, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(seen[0].attributes()["zone"], "eu");
    assert!(seen[0].tags().is_empty());
    // An attribute that it cannot represent is removed, and written again by a later update that it can.
    lease.update([("tags", "x")]).await.unwrap();
    eventually("the attributes are removed", async || {
        set.online()
            .first()
            .is_some_and(|i| i.attributes().is_empty())
    })
    .await;
    lease.update([("zone", "us")]).await.unwrap();
    eventually("the attributes are back", async || {
        set.online()
            .first()
            .is_some_and(|i| i.attributes().contains_key("zone"))
    })
    .await;
}

support::on!(memory local etcd etcd2; two_layouts_are_one_set);
