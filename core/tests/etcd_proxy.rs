//! Clients behind `etcd grpc-proxy`, which chooses the ids of watches itself, merges them, and drops progress requests.

mod support;

use std::time::Duration;

use discover_core::{Client, Registration, Standing};
use discover_testkit::etcd_proxy::EtcdProxy;
use futures_util::{FutureExt, StreamExt};
use support::etcd::Etcd;
use support::{Subscriber, WAIT_TIMEOUT, eventually, web};
use tokio::time::sleep;

const SERVICES: u16 = 20;
/// Longer than a connection without a sign of life is kept.
const SILENCE: Duration = Duration::from_secs(4);

fn service(number: u16) -> String {
    format!("service-{number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_watch_gets_its_own_events_and_a_silent_connection_is_kept() {
    let Some(etcd) = Etcd::start() else { return };
    let proxy = EtcdProxy::grpc(&etcd.endpoint());
    let url = format!("etcd://{}/?ttl=3s", proxy.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let mut sets = Vec::new();
    for number in 1..=SERVICES {
        let set = client.services(&service(number)).unwrap();
        let events = set.subscribe();
        sets.push((number, set, events));
    }
    let mut leases = Vec::new();
    for number in 1..=SERVICES {
        let own = Registration::at(&service(number), &format!("127.0.0.1:{number}")).unwrap();
        leases.push(client.register(own).await.unwrap());
    }
    for (_, set, _) in &sets {
        set.wait(1, WAIT_TIMEOUT).await.unwrap();
    }
    sleep(SILENCE).await; // tidy: sleep, the connection is silent meanwhile
    leases[0].update([("a", "b")]).await.unwrap();
    leases.pop().unwrap().unregister().await.unwrap();
    eventually("the last set is empty", async || {
        sets.last().unwrap().1.online().is_empty()
    })
    .await;
    eventually("the update arrives", async || {
        sets[0].1.online()[0].attributes().contains_key("a")
    })
    .await;
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/discover/services/"]);
    assert!(!keys.contains(&service(SERVICES)), "{keys}");
    for (number, set, events) in &mut sets[..usize::from(SERVICES) - 1] {
        let ports: Vec<u16> = set.online().iter().map(|one| one.port()).collect();
        assert_eq!(ports, [*number]);
        while let Some(Some(event)) = events.next().now_or_never() {
            assert_ne!(event.kind(), "stale");
            let of = event.instance().map(|instance| instance.port());
            assert!(of.is_none_or(|of| of == *number), "{of:?} of {number}");
        }
    }
    for lease in &leases {
        assert!(matches!(lease.standing(), Standing::Live));
    }
    assert_eq!(client.metrics().reconnects, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_a_proxy_that_restarts_misses_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let mut proxy = EtcdProxy::grpc(&etcd.endpoint());
    let url = format!("etcd://{}/?ttl=10s", proxy.endpoint());
    let (client, direct) = (
        Client::connect(&url).await.unwrap(),
        Client::connect(&format!("etcd://{}/?ttl=10s", etcd.endpoint()))
            .await
            .unwrap(),
    );
    let lease = client.register(web(1)).await.unwrap();
    let set = client.services("web").unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber
        .expect_events(&["up 127.0.0.1:1", "leader 127.0.0.1:1", "current"])
        .await;
    proxy.restart(|| {
        let register = async { std::mem::forget(direct.register(web(2)).await.unwrap()) };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(register));
    });
    subscriber
        .expect_events(&["stale", "up 127.0.0.1:2", "fresh"])
        .await;
    lease.update([("a", "b")]).await.unwrap();
    subscriber.expect_events(&["update 127.0.0.1:1 a=b"]).await;
    assert!(matches!(lease.standing(), Standing::Live));
}
