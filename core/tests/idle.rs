//! A22: idle clients. etcd closes the connection of a client that pings too often: more than once in five
//! seconds, or in two hours while no request is open.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use discover_core::{Client, SetState};
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, web};

/// Duration of the silence. etcd tolerates two pings too many.
fn idle() -> Duration {
    let in_full = std::env::var_os("DISCOVER_SOAK").is_some();
    Duration::from_secs(if in_full { 600 } else { 25 })
}

/// Returns the local ports of the open connections of this machine to an etcd.
fn connections(etcd: &Etcd) -> BTreeSet<String> {
    let port: u16 = etcd.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let (there, established) = (format!(":{port:04X}"), "01");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words[2].ends_with(&there) && words[3] == established;
        ours.then(|| words[1].to_owned())
    };
    table.lines().skip(1).filter_map(own).collect()
}

/// An idle client, one that only watches and one that is only registered keep their connections.
#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_keep_their_connections() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let url = format!("etcd://{}/?ttl=60s", etcd.endpoint());
    let [nothing, watches, registered] = [(); 3].map(|()| Client::connect(&url));
    let (nothing, watches) = (nothing.await.unwrap(), watches.await.unwrap());
    let registered = registered.await.unwrap();
    let set = watches.services("web").unwrap();
    let lease = registered.register(web(1)).await.unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    let before = connections(&etcd);
    assert!(before.len() >= 2, "{before:?}");

    tokio::time::sleep(idle()).await; // tidy: sleep, what must not happen takes time

    assert!(
        connections(&etcd).is_superset(&before),
        "{before:?}, then {:?}",
        connections(&etcd)
    );
    assert_eq!(set.status().state, SetState::Current);
    assert_eq!(lease.standing().name(), "live");
    for client in [nothing, watches, registered] {
        assert_eq!(client.metrics().reconnects, 0);
    }
}
