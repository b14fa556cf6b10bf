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

/// Time limit of each wait for an expected condition.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the full scale in `make soak`, a tenth of it otherwise.
fn scale() -> Scale {
    let full = Scale {
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
        return full;
    }
    Scale {
        watchers: 200,
        clients: 2,
        instances: 1000,
        services: 5,
        rate: 50.0,
        time: Duration::from_secs(6),
        heartbeat: Duration::from_secs(2),
        ..full
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_lost_and_no_resource_grows() {
    let mut run = Run::start(scale(), None).await;
    run.change(false).await;
    run.check_flat();
    run.verify("own registry").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_store_no_change_is_lost_and_the_store_sees_one_connection() {
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
async fn an_agent_killed_under_load_restores_all_registrations_and_watchers_receive_the_difference()
{
    let mut run = Run::start(scale(), None).await;
    run.change(true).await;
    run.verify("killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_store_killed_under_load_restores_all_registrations() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let mut run = Run::start(scale(), Some(&etcd)).await;
    run.change(true).await;
    assert_eq!(run.connections_to(&etcd.endpoint()), 1);
    run.verify("killed, with etcd").await;
}
