//! Logins to etcd that expire or become outdated, and authentication that is enabled and disabled while clients run.
//! None of it may be visible to the program: no stale set, no failed call, no new connection.

mod support;

use std::time::Duration;

use discover_core::{Client, Event, Lease, Registration, ServiceSet, Standing};
use futures_util::{FutureExt, StreamExt};
use support::etcd::{Etcd, EtcdOptions};
use support::{WAIT_TIMEOUT, eventually};
use tokio::time::sleep;

const TOKEN_TTL: Duration = Duration::from_secs(2);

/// A client with a registration and a subscription that were made with its first login.
struct RunningClient {
    service: &'static str,
    client: Client,
    lease: Lease,
    set: ServiceSet,
    events: futures_util::stream::BoxStream<'static, Event>,
    ports: std::ops::RangeFrom<u16>,
}

impl RunningClient {
    async fn start(etcd: &Etcd, service: &'static str) -> RunningClient {
        let url = format!("etcd://root:secret@{}/?ttl=3s", etcd.endpoint());
        let client = Client::connect(&url).await.unwrap();
        let lease = client.register(at(service, 1)).await.unwrap();
        let set = client.services(service).unwrap();
        set.wait(1, WAIT_TIMEOUT).await.unwrap();
        let events = set.subscribe();
        RunningClient {
            service,
            client,
            lease,
            set,
            events,
            ports: 2..,
        }
    }

    /// Uses every kind of request: a put, a transaction, lists, watches, and a delete.
    async fn use_everything(&mut self) {
        let port = self.ports.next().unwrap();
        let name = format!("{}-{port}", self.service);
        let other = self.client.services(&name).unwrap();
        let lease = self.client.register(at(self.service, port)).await.unwrap();
        let _elsewhere = self.client.register(at(&name, 1)).await.unwrap();
        other.wait(1, WAIT_TIMEOUT).await.unwrap();
        let mark = port.to_string();
        self.lease.update([("mark", mark.as_str())]).await.unwrap();
        lease.update([("mark", "new")]).await.unwrap();
        lease.unregister().await.unwrap();
        eventually("the set is up to date", async || {
            let online = self.set.online();
            online.len() == 1 && online[0].attributes()["mark"] == mark
        })
        .await;
    }

    /// Checks that the subscription saw the changes and nothing else, on the first connection.
    fn check_undisturbed(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            let kind = event.kind();
            assert!(!["stale", "fresh", "reset"].contains(&kind), "{kind}");
        }
        assert!(matches!(self.lease.standing(), Standing::Live));
        assert_eq!(self.client.metrics().reconnects, 0);
    }
}

fn at(service: &str, port: u16) -> Registration {
    Registration::at(service, &format!("127.0.0.1:{port}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_renewed() {
    let Some(etcd) = EtcdOptions::default().jwt_ttl(TOKEN_TTL).start() else {
        return;
    };
    etcd.enable_authentication();
    let mut running = RunningClient::start(&etcd, "web").await;
    for _ in 0..2 {
        sleep(TOKEN_TTL + Duration::from_secs(1)).await; // tidy: sleep, the token expires by the clock
        running.use_everything().await;
    }
    running.check_undisturbed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_change_of_the_permissions_outdates_is_renewed() {
    let Some(etcd) = EtcdOptions::default()
        .jwt_ttl(Duration::from_secs(600))
        .start()
    else {
        return;
    };
    etcd.enable_authentication();
    let mut running = RunningClient::start(&etcd, "web").await;
    for role in ["a", "b", "c"] {
        assert!(etcd.ctl_as_root(&["role", "add", role]).contains(role));
        running.use_everything().await;
    }
    running.check_undisturbed();
}

/// Calls that are refused at the same time log in once: etcd checks one password at a time, in a tenth of a second.
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_with_an_outdated_token_succeed_at_once() {
    let Some(etcd) = EtcdOptions::default()
        .jwt_ttl(Duration::from_secs(600))
        .start()
    else {
        return;
    };
    etcd.enable_authentication();
    let mut running = RunningClient::start(&etcd, "web").await;
    assert!(etcd.ctl_as_root(&["role", "add", "a"]).contains('a'));
    let before = logins(&etcd);
    let calls = (100..150).map(|port| running.client.register(at("web", port)));
    let leases = futures_util::future::try_join_all(calls).await.unwrap();
    assert_eq!(logins(&etcd) - before, 1);
    running.set.wait(51, WAIT_TIMEOUT).await.unwrap();
    running.check_undisturbed();
    drop(leases);
}

fn logins(etcd: &Etcd) -> u64 {
    etcd.metric(
        "grpc_server_started_total{grpc_method=\"Authenticate\",grpc_service=\"etcdserverpb.Auth\",\
         grpc_type=\"unary\"}",
    )
}

/// A login is not used while authentication is disabled, as by etcdctl.
#[tokio::test(flavor = "multi_thread")]
async fn authentication_is_enabled_and_disabled_while_clients_run() {
    let Some(etcd) = Etcd::start() else { return };
    let mut running = RunningClient::start(&etcd, "web").await;
    running.use_everything().await;
    etcd.enable_authentication();
    running.use_everything().await;
    let mut with_login = RunningClient::start(&etcd, "api").await;
    for _ in 0..2 {
        let disabled = etcd.ctl_as_root(&["auth", "disable"]);
        assert!(disabled.contains("Disabled"), "{disabled}");
        running.use_everything().await;
        with_login.use_everything().await;
        assert!(etcd.ctl(&["auth", "enable"]).contains("Enabled"));
        running.use_everything().await;
    }
    running.check_undisturbed();
    with_login.check_undisturbed();
}
