//! Endpoints that are not members of the store.

use crate::lab::{Evidence, Lab};
use crate::scenario::Scenario;
use discover_testkit::clock::pause;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("dead-endpoints", "A19", dead_endpoints).dead_endpoints(),
        Scenario::new("grpc-proxy", "A23", grpc_proxy).grpc_proxied(),
    ]
}

/// Two of five endpoints are dead from the start. All connections break, so that the programs try them again.
fn dead_endpoints(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        for member in lab.cluster.all() {
            lab.cluster.kill(member);
            pause(1.0);
            lab.cluster.start_member(member);
            lab.wait_healthy()?;
        }
        Ok(vec![("members restarted", lab.cluster.size() as u64)])
    })
}

/// The leader behind the proxy dies, and then the proxy.
fn grpc_proxy(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.grpc_proxy.as_ref().ok_or("the lab has no proxy")?;
    let leader = lab.cluster.leader()?;
    lab.fault(|| {
        lab.cluster.kill(leader);
        pause(3.0);
        lab.cluster.start_member(leader);
        lab.wait_healthy()?;
        proxy.kill();
        pause(2.0);
        proxy.restart();
        pause(2.0);
        Ok(vec![("members killed", 1), ("proxies killed", 1)])
    })
}
