//! Every layout on a real etcd, with etcdctl as the other program: registrations are written byte for byte as
//! that program expects them, and its records are read. Then every layout on every store.

mod support;

use discover_core::Registration;
use support::fleet::{Fleet, at};
use support::{Subscriber, TestRegistry, WAIT_TIMEOUT};

/// Checks both directions: a registration is written as the other program writes it, and the record of that program
/// is reported as an instance until it is deleted.
async fn interoperates(layout: &str, ours: (Registration, &str, &str), theirs: (&str, &str, &str)) {
    let Some(fleet) = Fleet::new() else { return };
    let client = fleet.client(layout).await;
    let (registration, key, value) = ours;
    let service = registration.service().clone();
    let set = client.services(service.as_str()).unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber.expect_events(&["current"]).await;
    let lease = client.register(registration.clone()).await.unwrap();
    assert_eq!(fleet.get(key), value, "{layout}");
    assert!(subscriber.next_event().await.starts_with("up "));
    assert!(subscriber.next_event().await.starts_with("leader "));
    let seen = set.leader().unwrap();
    assert_eq!(seen.attributes(), &lease.attributes());
    assert_eq!(
        (seen.id(), seen.layouts()),
        (
            registration.instance_id().as_str(),
            &[layout.to_owned()][..]
        )
    );
    let (key, value, instance) = theirs;
    fleet.put(key, value);
    subscriber.expect_events(&[&format!("up {instance}")]).await;
    fleet.delete(key);
    subscriber
        .expect_events(&[&format!("down {instance}")])
        .await;
    lease.unregister().await.unwrap();
    assert!(subscriber.next_event().await.starts_with("down "));
    // Records that a layout shares between instances remain.
    let left: Vec<String> = fleet.keys();
    assert!(
        left.iter().all(|key| key.starts_with("/services_infos/")),
        "{left:?}"
    );
}

/// S1.20.
#[tokio::test(flavor = "multi_thread")]
async fn native() {
    let ours = at("web", "127.0.0.1:9876", &[("id", "cache1")]);
    let key = "/discover/services/web/127.0.0.1:9876";
    let theirs = ("/discover/services/web/h:1", r#"{"a":"b"}"#, "h:1 a=b");
    interoperates("native", (ours, key, r#"{"id":"cache1"}"#), theirs).await;
}

/// S0.30, S0.31, S0.33.
#[tokio::test(flavor = "multi_thread")]
async fn containerpilot() {
    let ours = at("app", "192.168.1.1:8000", &[]).id("app-host1").unwrap();
    let value =
        r#"{"id":"app-host1","name":"app","address":"192.168.1.1","port":8000,"tags":null}"#;
    let theirs = r#"{"id":"app-x","name":"app","address":"10.0.0.7","port":80,"tags":null}"#;
    let theirs = ("/containerpilot/app/app-x/service", theirs, "10.0.0.7:80");
    interoperates(
        "containerpilot",
        (ours, "/containerpilot/app/app-host1/service", value),
        theirs,
    )
    .await;
}

/// S2.1, S2.3, S2.19, S2.30 to S2.32, S2.40, S2.41, S2.61; on etcd v3 at the keys of S2.46.
#[tokio::test(flavor = "multi_thread")]
async fn scalingo() {
    let uuid = "90836924-c48a-44d4-9071-d925c7977037-node-1";
    let ours = at("svc", "node-1:8080", &[("critical", "true")])
        .id(uuid)
        .unwrap();
    let value = format!(
        r#"{{"name":"node-1","service_name":"svc","ports":{{"http":"8080"}},"private_hostname":"node-1","private_ports":{{"http":"8080"}},"critical":true,"uuid":"{uuid}"}}"#
    );
    let theirs = r#"{"name":"pub.dev","service_name":"svc","ports":{"https":"443"},"user":"u","public":true,"private_hostname":"n2","private_ports":{"https":"8443"},"uuid":"x-n2"}"#;
    let instance = "n2:8443 hostname=pub.dev ports.https=443 public=true scheme=https user=u";
    let key = format!("/services/svc/{uuid}");
    interoperates(
        "scalingo",
        (ours, &key, &value),
        ("/services/svc/x-n2", theirs, instance),
    )
    .await;
}

/// S3.24.
#[tokio::test(flavor = "multi_thread")]
async fn registrator() {
    let ours = at("redis", "10.0.0.1:49161", &[])
        .id("host1:cache:6379")
        .unwrap();
    let ours = (ours, "/services/redis/host1:cache:6379", "10.0.0.1:49161");
    let theirs = (
        "/services/redis/host2:cache:6379",
        "10.0.0.2:1",
        "10.0.0.2:1",
    );
    interoperates("registrator", ours, theirs).await;
}

/// S3.20, S3.21, S3.23.
#[tokio::test(flavor = "multi_thread")]
async fn embassy() {
    let fields = [("image", "eboraas/apache"), ("port", "80"), ("HOME", "/")];
    let ours = at("apache", "192.168.13.90:49161", &fields)
        .id("13532987eae2")
        .unwrap();
    let value = r#"{"id":"13532987eae2","host":"192.168.13.90","ipaddress":"192.168.13.90","env":{"HOME":"/"},"tags":[],"name":"","image":"eboraas/apache","hostname":"13532987eae2","host_port":"49161","proto":"tcp","port":"80","path":"/services/prod/apache/80/49161/13532987eae2"}"#;
    let theirs = r#"{"ipaddress":"10.0.0.1","port":"80"}"#;
    let theirs = ("/services/prod/apache/80/80/x", theirs, "10.0.0.1:80");
    let key = "/services/prod/apache/80/49161/13532987eae2";
    interoperates("embassy", (ours, key, value), theirs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc() {
    let ours = at("web", "10.0.0.1:80", &[("zone", "eu")]);
    let value = r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"zone":"eu"}}"#;
    let theirs = (
        "/grpc/web/1",
        r#"{"Op":0,"Addr":"10.0.0.2:80","Metadata":"v1"}"#,
        "10.0.0.2:80 metadata=v1",
    );
    interoperates("grpc", (ours, "/grpc/web/10.0.0.1:80", value), theirs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kratos() {
    let ours = at("hello", "127.0.0.1:8000", &[("version", "v1")])
        .id("7f3a")
        .unwrap();
    let value = r#"{"id":"7f3a","name":"hello","version":"v1","metadata":null,"endpoints":["http://127.0.0.1:8000"]}"#;
    let theirs = r#"{"id":"x","name":"hello","version":"","metadata":{"k":"v"},"endpoints":["grpc://10.0.0.1:9000"]}"#;
    let instance = "10.0.0.1:9000 endpoints=grpc://10.0.0.1:9000 k=v";
    interoperates(
        "kratos",
        (ours, "/microservices/hello/7f3a", value),
        ("/microservices/hello/x", theirs, instance),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_micro() {
    let ours = at("greeter", "10.0.0.1:80", &[]).id("greeter-1").unwrap();
    let value = r#"{"name":"greeter","version":"","metadata":null,"endpoints":null,"nodes":[{"id":"greeter-1","address":"10.0.0.1:80","metadata":null}]}"#;
    let theirs = r#"{"name":"greeter","version":"latest","metadata":{},"endpoints":[],"nodes":[{"id":"greeter-2","address":"10.0.0.2:80","metadata":{"protocol":"mucp"}}]}"#;
    let theirs = (
        "/micro/registry/greeter/greeter-2",
        theirs,
        "10.0.0.2:80 protocol=mucp version=latest",
    );
    interoperates(
        "go-micro",
        (ours, "/micro/registry/greeter/greeter-1", value),
        theirs,
    )
    .await;
}

/// Every layout on every store: an instance is registered, updated and unregistered.
async fn every_layout_works(registry: &TestRegistry) {
    let layouts = "native containerpilot embassy go-micro grpc kratos registrator scalingo";
    for layout in layouts.split(' ') {
        let client = TestRegistry::with_options(registry, &format!("layout={layout}"))
            .client()
            .await;
        let set = client.services("web").unwrap();
        let mut subscriber = Subscriber::new(&set);
        subscriber.expect_events(&["current"]).await;
        let lease = client.register(at("web", "[::1]:80", &[])).await.unwrap();
        subscriber
            .expect_events(&["up [::1]:80", "leader [::1]:80"])
            .await;
        let seen = set.leader().unwrap();
        assert_eq!(
            (seen.id(), seen.layouts()),
            ("[::1]:80", &[layout.to_owned()][..])
        );
        lease.heartbeat().await.unwrap();
        if layout != "registrator" {
            lease.update([("version", "2")]).await.unwrap();
            subscriber
                .expect_events(&["update [::1]:80 version=2"])
                .await;
            assert_eq!(set.leader().unwrap().created(), seen.created(), "{layout}");
        }
        lease.unregister().await.unwrap();
        assert!(
            subscriber.next_event().await.starts_with("down [::1]:80"),
            "{layout}"
        );
        client.close(WAIT_TIMEOUT).await.unwrap();
    }
}

support::on!(memory local etcd etcd2; every_layout_works);
