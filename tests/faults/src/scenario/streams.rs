//! Bad weather in the streams between the clients and the store, made by the proxy.

use std::time::Duration;

use crate::clock::pause;
use crate::lab::{Evidence, Lab};
use crate::proxy::Weather;
use crate::scenario::Scenario;

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
    ]
}

/// Every connection is reset, again and again.
fn reset(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let (before, connections) = (proxy.harmed(), proxy.connections());
        for _ in 0..10 {
            proxy.reset();
            pause(0.35);
        }
        Ok(vec![
            ("connections reset", proxy.harmed() - before),
            ("connections made", proxy.connections() - connections),
        ])
    })
}

/// Half-open: what was open passes nothing on any more, and its other end answers TCP all the same.
fn swallowed(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let (before, connections) = (proxy.harmed(), proxy.connections());
        proxy.swallow();
        pause(12.0);
        Ok(vec![
            ("pieces swallowed", proxy.harmed() - before),
            ("connections made", proxy.connections() - connections),
        ])
    })
}

fn loss_and_jitter(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.harmed();
        let (delay, jitter) = (Duration::from_millis(40), Duration::from_millis(40));
        // A break now and then, as of a box on the way that forgets its connections.
        proxy.weather(Weather {
            delay,
            jitter,
            loss: 0.1,
            breaks: 0.002,
            ..Weather::default()
        });
        pause(8.0);
        proxy.weather(Weather::default());
        Ok(vec![("pieces delayed or lost", proxy.harmed() - before)])
    })
}

/// Byte by byte, and then cut in the middle of whatever was coming.
fn slow_drip(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        let before = proxy.harmed();
        proxy.weather(Weather {
            drip: true,
            ..Weather::default()
        });
        pause(4.0);
        proxy.reset();
        pause(1.0);
        proxy.weather(Weather::default());
        proxy.reset();
        Ok(vec![("bytes dripped", proxy.harmed() - before)])
    })
}
