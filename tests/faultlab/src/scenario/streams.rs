//! Faults of the connections between the clients and the store, injected by the proxy.

use std::time::Duration;

use crate::lab::{Evidence, Lab};
use crate::scenario::Scenario;
use discover_testkit::clock::pause;
use discover_testkit::proxy::Faults;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("reset", "A11", reset).proxied(),
        Scenario::new("swallowed", "A09", swallowed)
            .proxied()
            .reachable(0.0),
        Scenario::new("loss-and-jitter", "A13", loss_and_jitter)
            .proxied()
            .reachable(0.0),
        Scenario::new("slow-drip", "A18", slow_drip).proxied(),
        Scenario::new("slow-link", "A18", slow_link)
            .proxied()
            .reachable(4.0),
        Scenario::new("high-latency", "A13", high_latency)
            .proxied()
            .reachable(4.0),
    ]
}

/// Every connection is reset, repeatedly.
fn reset(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let (before, connections) = (proxy.affected(), proxy.accepted());
        for _ in 0..10 {
            proxy.reset();
            pause(0.35);
        }
        Ok(vec![
            ("connections reset", proxy.affected() - before),
            ("connections made", proxy.accepted() - connections),
        ])
    })
}

/// Half-open connections: data of the open connections is discarded, while their other end still acknowledges it.
fn swallowed(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let (before, connections) = (proxy.affected(), proxy.accepted());
        proxy.swallow();
        pause(12.0);
        Ok(vec![
            ("chunks discarded", proxy.affected() - before),
            ("connections made", proxy.accepted() - connections),
        ])
    })
}

fn loss_and_jitter(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.affected();
        let (delay, jitter) = (Duration::from_millis(40), Duration::from_millis(40));
        // An occasional reset, as by a middlebox that forgets its connections.
        proxy.set_faults(Faults {
            delay,
            jitter,
            loss: 0.1,
            break_rate: 0.002,
            ..Faults::default()
        });
        pause(8.0);
        proxy.set_faults(Faults::default());
        Ok(vec![("chunks delayed or lost", proxy.affected() - before)])
    })
}

/// The link has 500 kbit/s. Connections that are opened again list over it.
fn slow_link(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.affected();
        proxy.set_faults(Faults {
            bytes_per_second: Some(62_500),
            ..Faults::default()
        });
        pause(5.0);
        proxy.reset();
        pause(10.0);
        proxy.set_faults(Faults::default());
        Ok(vec![("chunks delayed", proxy.affected() - before)])
    })
}

/// A round trip takes half a second.
fn high_latency(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.affected();
        proxy.set_faults(Faults {
            delay: Duration::from_millis(250),
            ..Faults::default()
        });
        pause(5.0);
        proxy.reset();
        pause(10.0);
        proxy.set_faults(Faults::default());
        Ok(vec![("chunks delayed", proxy.affected() - before)])
    })
}

/// Responses arrive byte by byte, and then the connection is reset in the middle of one.
fn slow_drip(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.affected();
        proxy.set_faults(Faults {
            bytes_per_second: Some(1000),
            ..Faults::default()
        });
        pause(4.0);
        proxy.reset();
        pause(1.0);
        proxy.set_faults(Faults::default());
        proxy.reset();
        Ok(vec![("bytes delayed", proxy.affected() - before)])
    })
}
