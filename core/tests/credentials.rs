//! The service description that the hosts of etcd-discovery share, with its credentials.

mod support;

use std::collections::BTreeSet;

use discover_core::{Client, ErrorKind, Lease, scalingo};
use futures_util::future::join_all;
use support::etcd::Etcd;
use support::fleet::{Fleet, Record, at};
use support::{TestRegistry, WAIT_TIMEOUT, eventually};

/// S2.4 to S2.6, S2.44, S2.60: the host registered last sets the credentials of all public hosts; their owners are
/// notified.
async fn credentials_are_shared_by_public_hosts(registry: &TestRegistry) {
    let client = TestRegistry::with_options(registry, "layout=scalingo")
        .client()
        .await;
    let public = |address: &str, user: &str, password: &str| {
        let fields = [("public", "true"), ("user", user), ("password", password)];
        at("api", address, &fields)
    };
    let first = client
        .register(public("n1:80", "old", "one"))
        .await
        .unwrap();
    let mut changes = first.changes();
    let set = client.services("api").unwrap();
    let second = client
        .register(public("n2:80", "new", "two"))
        .await
        .unwrap();
    let has = |lease: &Lease, user: &str| lease.attributes()["user"] == user;
    while !has(&first, "new") {
        let next = futures_util::StreamExt::next(&mut changes);
        let standing = tokio::time::timeout(WAIT_TIMEOUT, next)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(standing.name(), "live");
    }
    eventually(
        "all hosts have the credentials of the last one",
        async || {
            let online = set.online();
            online.len() == 2 && online.iter().all(|i| i.attributes()["password"] == "two")
        },
    )
    .await;
    // S2.6, S2.60: a private host keeps its own credentials and changes no others.
    let mine = [("user", "me"), ("password", "mine")];
    let private = client.register(at("api", "n3:80", &mine)).await.unwrap();
    // An update changes the shared description, too. Fields that it does not contain are kept.
    second
        .update([("public", "true"), ("user", "newer"), ("password", "3")])
        .await
        .unwrap();
    eventually("the first host has them, too", async || {
        has(&first, "newer")
    })
    .await;
    assert_eq!(private.attributes()["user"], "me");
    eventually("the view has the new credentials", async || {
        let online = set.online();
        let public = online
            .iter()
            .filter(|i| i.attributes().contains_key("public"));
        public.clone().count() == 2 && public.clone().all(|i| i.attributes()["password"] == "3")
    })
    .await;
    let leader = scalingo::Host::from_instance(&set.leader().unwrap());
    assert_eq!(
        leader.private_url("", "/").unwrap(),
        "http://newer:3@n1:80/"
    );
    let service = scalingo::Service::from_set(&set);
    assert_eq!((service.name(), service.all().len()), ("api", 3));
    assert_eq!(service.first(), Some(&leader));
}

/// S2.45, S2.62, S2.63: a description that is deleted or damaged is restored, and clears no credentials.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_description_is_restored() {
    let Some(fleet) = Fleet::new() else { return };
    let client = fleet.client("scalingo").await;
    let fields = [("public", "true"), ("user", "u"), ("password", "p")];
    let lease = client.register(at("api", "n1:80", &fields)).await.unwrap();
    let key = "/services_infos/api";
    let description = fleet.get(key);
    assert!(
        description.contains(r#""user":"u","password":"p""#),
        "{description}"
    );
    fleet.delete(key);
    eventually("the description is back", async || {
        fleet.get(key) == description
    })
    .await;
    let private = r#"{"name":"api","critical":false}"#;
    let bare = r#"{"name":"api","critical":false,"public":true}"#;
    for bad in ["rubbish", private, bare] {
        fleet.put(key, bad);
        eventually("the description is restored", async || {
            fleet.get(key) == description
        })
        .await;
    }
    assert_eq!(lease.attributes()["password"], "p");
    // Credentials that another program writes are adopted.
    fleet.put(
        key,
        r#"{"name":"api","critical":false,"user":"v","password":"q","public":true}"#,
    );
    eventually("the lease has the new credentials", async || {
        lease.attributes()["user"] == "v"
    })
    .await;
    let host = |keys: Vec<String>| {
        keys.into_iter()
            .find(|key| key.starts_with("/services/api/"))
    };
    let host = host(fleet.keys()).unwrap();
    eventually("the record of the host has them, too", async || {
        fleet.get(&host).contains(r#""user":"v","password":"q""#)
    })
    .await;
    assert_eq!(lease.standing().name(), "live");
}

/// S2.4, S2.60: hosts register while other programs write the same service description, each conditional on the
/// current contents: no write is lost, and finally all hosts have the credentials of the last one.
async fn concurrent_writers_lose_nothing(registry: &TestRegistry) {
    const HOSTS: usize = 6;
    const OTHERS: usize = 4;
    const MEMBERS: usize = 40;
    let client = TestRegistry::with_options(registry, "layout=scalingo")
        .client()
        .await;
    let record = Record::new(registry, "/services_infos/api");
    assert!(record.put(None, "{}").await);
    let others = (0..OTHERS).map(|first| {
        let record = record.clone();
        tokio::spawn(async move {
            for i in (first..MEMBERS).step_by(OTHERS) {
                record.add_member(format!("other-{i}")).await;
            }
        })
    });
    let others = join_all(others.collect::<Vec<_>>());
    let host = |i: usize| {
        let (user, password) = (format!("user-{i}"), format!("password-{i}"));
        let (user, password) = (user.as_str(), password.as_str());
        let fields = [("public", "true"), ("user", user), ("password", password)];
        at("api", &format!("n{i}:80"), &fields)
    };
    let hosts = (0..HOSTS).map(|i| {
        let (client, host) = (client.clone(), host(i));
        tokio::spawn(async move { client.register(host).await.unwrap() })
    });
    let hosts = join_all(hosts.collect::<Vec<_>>());
    let (others, hosts) = tokio::join!(others, hosts);
    others.into_iter().for_each(Result::unwrap);
    let mut hosts: Vec<Lease> = hosts.into_iter().map(Result::unwrap).collect();
    let described = record.get().await.unwrap().0;
    let members: BTreeSet<String> = (0..MEMBERS).map(|i| format!("other-{i}")).collect();
    let found = described.keys().filter(|name| name.starts_with("other-"));
    assert_eq!(found.cloned().collect::<BTreeSet<_>>(), members);
    let all_have = async |hosts: &[Lease]| {
        let shared = record.get().await.unwrap().0["password"].clone();
        let has = |host: &Lease| host.attributes()["password"] == shared;
        hosts.iter().all(has)
    };
    eventually("all hosts have the same credentials", async || {
        all_have(&hosts).await
    })
    .await;
    let last = client.register(host(HOSTS)).await.unwrap();
    let described = record.get().await.unwrap().0;
    assert_eq!(described["user"], format!("user-{HOSTS}"));
    hosts.push(last);
    eventually(
        "all hosts have the credentials of the last one",
        async || all_have(&hosts).await,
    )
    .await;
    assert_eq!(hosts[0].attributes()["user"], format!("user-{HOSTS}"));
}

/// If the shared description may not be written, the whole update is refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_may_not_be_shared_changes_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "app:pw"]);
    etcd.ctl(&["role", "add", "app"]);
    etcd.ctl(&["user", "grant-role", "app", "app"]);
    let grant = |kind, prefix| {
        let role = ["role", "grant-permission", "app", "--prefix", kind, prefix];
        etcd.ctl(&[&["--user=root:secret"], &role[..]].concat());
    };
    grant("readwrite", "/");
    assert!(etcd.ctl(&["auth", "enable"]).contains("Enabled"));
    let url = format!("etcd://app:pw@{}?layout=scalingo", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let fields = |user| [("public", "true"), ("user", user), ("password", "p")];
    let host = at("api", "n1:80", &fields("old"));
    let lease = client.register(host).await.unwrap();
    let own = || etcd.ctl(&["--user=root:secret", "get", "--prefix", "/services/"]);
    let before = own();
    assert!(before.contains(r#""user":"old""#), "{before}");

    let revoke = ["role", "revoke-permission", "app", "--prefix", "/"];
    etcd.ctl(&[&["--user=root:secret"], &revoke[..]].concat());
    grant("readwrite", "/services/");
    grant("read", "/");
    let error = lease.update(fields("new")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(own(), before);
    assert_eq!(lease.attributes()["user"], "old");
    // Attributes of the host alone may still be changed.
    lease.update([("zone", "eu")]).await.unwrap();
    assert!(own().contains(r#""zone":"eu""#), "{}", own());
}

support::on!(memory local etcd etcd2; credentials_are_shared_by_public_hosts);
support::on!(etcd etcd2; concurrent_writers_lose_nothing);
