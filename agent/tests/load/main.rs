//! Load test of one agent with many watchers, instances and changes: no change is lost, no resource grows,
//! and after a kill all registrations are restored.
//!
//! A tenth of it runs in `make test`; `make soak LOOPS=agent-load` does all of it and prints figures.

#[path = "../../../core/tests/support/etcd.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod etcd;
mod event_checker;
mod harness;
mod http;
mod owners;
mod run;
mod store_observer;
#[path = "../support/mod.rs"]
mod support;
mod watchers;

use std::time::Duration;

use etcd::Etcd;
use harness::Scale;
use run::Run;

/// How long to wait for what must come.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// All of it, or a tenth of each.
fn scale() -> Scale {
    let whole = Scale {
        watchers: 2000,
        clients: 20,
        instances: 10_000,
        services: 50,
        rate: 500.0,
        time: Duration::from_secs(120),
        ttl: Duration::from_secs(90),
        heartbeat: Duration::from_secs(20),
    };
    if std::env::var_os("DISCOVER_SOAK").is_some() {
        return whole;
    }
    Scale {
        watchers: 200,
        clients: 2,
        instances: 1000,
        services: 5,
        rate: 50.0,
        time: Duration::from_secs(6),
        heartbeat: Duration::from_secs(2),
        ..whole
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_grows() {
    let mut run = Run::start(scale(), None).await;
    run.change(false).await;
    run.check_flat();
    run.verify("a registry of its own").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_front_of_a_store_which_sees_one_connection() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let mut run = Run::start(scale(), Some(&etcd)).await;
    run.change(false).await;
    assert_eq!(run.connections_to(&etcd.endpoint()), 1);
    run.check_flat();
    run.verify("etcd").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_has_everybody_again_and_watchers_hear_what_differs() {
    let mut run = Run::start(scale(), None).await;
    run.change(true).await;
    run.verify("killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_front_of_a_store_it_has_everybody_again_too() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let mut run = Run::start(scale(), Some(&etcd)).await;
    run.change(true).await;
    assert_eq!(run.connections_to(&etcd.endpoint()), 1);
    run.verify("killed in front of etcd").await;
}
