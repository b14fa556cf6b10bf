//! Restarts of the agent, and errors without an agent.

mod support;

use std::sync::Arc;
use std::time::Duration;

use discover_core::{
    AgentApi, Client, ErrorKind, Event, Instance, Registration, SetState, Standing,
};
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use support::{Subscriber, WAIT_TIMEOUT, etcd, eventually};
use tokio::time::timeout;

fn web(port: u16) -> Registration {
    Registration::new("web", port)
        .unwrap()
        .host("127.0.0.1")
        .unwrap()
}

/// G2: after a kill and a restart, owners restore every registration on the agent, and subscribers receive no
/// events for unchanged instances.
async fn owners_restore_and_subscribers_receive_only_changes(mut agent: support::agent::Agent) {
    let url = format!("{}?ttl=10s", agent.socket_url());
    let owner = Client::connect(&url).await.unwrap();
    let watcher = Client::connect(&url).await.unwrap();
    let one = owner.register(web(1)).await.unwrap();
    let two = owner
        .register(web(2).attributes([("v", "1")]).unwrap())
        .await
        .unwrap();
    let set = watcher.services("web").unwrap();
    set.wait(2, WAIT_TIMEOUT).await.unwrap();
    let mut subscriber = Subscriber::new(&set);
    subscriber
        .expect_events(&[
            "up 127.0.0.1:1",
            "up 127.0.0.1:2 v=1",
            "leader 127.0.0.1:1",
            "current",
        ])
        .await;
    agent.kill();
    subscriber.expect_events(&["stale"]).await;
    assert_eq!(set.online().len(), 2, "the set keeps its contents");
    agent.restart();
    subscriber.expect_events(&["fresh"]).await;
    eventually("both are restored", async || {
        one.heartbeat().await.is_ok() && two.heartbeat().await.is_ok()
    })
    .await;
    assert_eq!(set.status().state, SetState::Current);
    two.update([("v", "2")]).await.unwrap();
    // An instance that went offline or came online meanwhile would be reported before this event.
    subscriber.expect_events(&["update 127.0.0.1:2 v=2"]).await;
    one.unregister().await.unwrap();
    subscriber
        .expect_events(&["down 127.0.0.1:1", "leader 127.0.0.1:2 v=2"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_agent_with_its_own_registry_loses_nothing() {
    if let Some(agent) = support::agent::start(None) {
        owners_restore_and_subscribers_receive_only_changes(agent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_agent_in_front_of_etcd_loses_nothing() {
    let Some(etcd) = etcd::shared() else { return };
    let prefix = format!("{:016x}", fastrand::u64(..));
    let store = format!("etcd://{}/{prefix}?ttl=10s", etcd.endpoint());
    if let Some(agent) = support::agent::start(Some(&store)) {
        owners_restore_and_subscribers_receive_only_changes(agent).await;
    }
}

/// The registration of an owner that does not return expires after its TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_registration_that_is_not_restored_expires() {
    let Some(mut agent) = support::agent::start(None) else {
        return;
    };
    let url = agent.socket_url();
    let owner = Client::connect(&format!("{url}?ttl=1s")).await.unwrap();
    let lease = owner.register(web(1)).await.unwrap();
    agent.kill();
    // Without the agent, closing cannot unregister it.
    let _ = owner.close(Duration::from_millis(100)).await;
    drop(lease);
    agent.restart();
    let watcher = Client::connect(&url).await.unwrap();
    let set = watcher.services("web").unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    eventually("the instance has expired", async || set.online().is_empty()).await;
}

/// The catalog contains a service while it has instances.
/// Waits until a lease whose next heartbeat is due in 20 s reports that it was replaced.
async fn expect_replaced_at_once(mut lease: discover_core::Lease) {
    let replaced = async { while !matches!(lease.changed().await, Standing::Replaced(_)) {} };
    let reported = timeout(Duration::from_secs(10), replaced).await;
    reported.expect("the owner learns before its next heartbeat");
}

/// G31: a take-over through the agent is reported to the owner at once, not with its next heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_owner_is_told_at_once_that_its_instance_was_taken_over_or_removed() {
    let Some(agent) = support::agent::start(None) else {
        return;
    };
    let url = format!("{}?ttl=60s", agent.socket_url());
    let owner = Client::connect(&url).await.unwrap();
    let other = Client::connect(&url).await.unwrap();
    let lease = owner.register(web(1)).await.unwrap();
    let kept = owner.register(web(2)).await.unwrap();
    let removed = owner.register(web(3)).await.unwrap();
    let taken = other.register(web(1)).await.unwrap();
    expect_replaced_at_once(lease).await;

    let api = AgentApi::open(&url).unwrap();
    let path = "/v1/services/web/instances/127.0.0.1:3";
    api.request("DELETE", path, None, WAIT_TIMEOUT)
        .await
        .unwrap();
    expect_replaced_at_once(removed).await;
    assert!(matches!(kept.standing(), Standing::Live));
    assert!(matches!(taken.standing(), Standing::Live));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_owner_is_told_at_once_that_its_instance_was_taken_over_in_the_store() {
    let Some(etcd) = etcd::shared() else { return };
    let prefix = format!("{:016x}", fastrand::u64(..));
    let store = format!("etcd://{}/{prefix}?ttl=60s", etcd.endpoint());
    let Some(agent) = support::agent::start(Some(&store)) else {
        return;
    };
    let owner = format!("{}?ttl=60s", agent.socket_url());
    let owner = Client::connect(&owner).await.unwrap();
    let direct = Client::connect(&store).await.unwrap();
    let lease = owner.register(web(1)).await.unwrap();
    let _taken = direct.register(web(1)).await.unwrap();
    expect_replaced_at_once(lease).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_catalog_lists_services_that_have_instances() {
    for scheme in ["memory", "local", "etcd", "agent", "agent_etcd"] {
        let Some(registry) = support::TestRegistry::new(scheme) else {
            continue;
        };
        let client = registry.client().await;
        assert!(client.catalog().await.unwrap().is_empty(), "{scheme}");
        let _web = client.register(web(1)).await.unwrap();
        let again = Registration::new("db", 5).unwrap().host("h").unwrap();
        let db = client.register(again).await.unwrap();
        let names = async || -> Vec<String> {
            let names = client.catalog().await.unwrap();
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names().await, ["db", "web"], "{scheme}");
        db.unregister().await.unwrap();
        assert_eq!(names().await, ["web"], "{scheme}");
    }
}

#[tokio::test]
async fn without_an_agent_the_error_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no-agent");
    let url = format!("discoverd+unix://{}?connect_timeout=100ms", path.display());
    let error = Client::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("no-agent"), "{error}");
    let lazy = Client::connect(&format!("{url}&lazy=true")).await.unwrap();
    let set = lazy.services("web").unwrap();
    eventually("the status has the reason", async || {
        set.status().fault.is_some()
    })
    .await;
    assert_eq!(set.status().state, SetState::Pending);
}

/// G2, G8: an agent killed during many changes loses none, and no subscriber receives a `down` event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_under_load_loses_nothing() {
    const MEMBERS: u16 = 200;
    let Some(mut agent) = support::agent::start(None) else {
        return;
    };
    let url = format!("{}?ttl=10s", agent.socket_url());
    let owner = Client::connect(&url).await.unwrap();
    let all = (1..=MEMBERS).map(|port| owner.register(web(port)));
    let leases = try_join_all(all).await.unwrap();
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let client = Client::connect(&url).await.unwrap();
        let set = client.services("web").unwrap();
        set.wait(usize::from(MEMBERS), WAIT_TIMEOUT).await.unwrap();
        let mut events = set.subscribe();
        let gone = tokio::spawn(async move {
            let mut gone = 0;
            while let Some(event) = events.next().await {
                gone += usize::from(matches!(event, Event::Down(_)));
            }
            gone
        });
        watchers.push((client, set, gone));
    }
    let change = async |round: u32| {
        let updates = leases.iter().map(|l| l.update([("n", round.to_string())]));
        join_all(updates).await.into_iter().all(|done| done.is_ok())
    };
    for round in 0..6 {
        if round == 3 {
            // The agent is killed while the updates are in flight.
            tokio::join!(change(round), async { agent.kill() });
            agent.restart();
        }
        change(round).await;
    }
    eventually("the last update succeeds", async || change(7).await).await;
    for (client, set, gone) in watchers {
        eventually("all instances have the last update", async || {
            let online = set.online();
            let last = |i: &Arc<Instance>| i.attributes().get("n").is_some_and(|n| n == "7");
            online.len() == usize::from(MEMBERS) && online.iter().all(last)
        })
        .await;
        client.close(WAIT_TIMEOUT).await.unwrap();
        assert_eq!(gone.await.unwrap(), 0);
    }
}
