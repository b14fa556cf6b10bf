//! Back after twenty thousand revisions were missed; the floor has etcd repeat them.

use std::time::Duration;

use crate::child::Program;
use crate::clock::now;
use crate::etcd::{Etcd, url};
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, Told};
use crate::proxy::Proxy;
use crate::writer;

const INSTANCES: u64 = 10_000;
const MISSED: u64 = 20_000;
/// How many of the instances are written again and again meanwhile, all at once.
const CHANGED: u64 = 500;

struct Back {
    /// Microseconds from the first connection to the last change.
    took: f64,
    /// Instances that are not as the store has them.
    wrong: f64,
    /// Connections that it took: with more than one, most of the time was a wait between two.
    connections: f64,
}

/// See the module.
pub async fn run() -> Result<Told, String> {
    let measure = async |name| match name {
        FLOOR => replayed().await,
        _ => recovered(name).await,
    };
    let back = Measured::of(&with_peers(&[]), 1, measure).await;
    let figures = |language: &'static str| {
        let native = matches!(language, "rust" | "c");
        let took = back.value(language, |back| back.took);
        let took = Figure::new(8, language, "back after 20000 revisions, µs", took);
        let took = took.over(back.floor(|back| back.took));
        let alone = back.value(language, |back| back.took / 1000.0);
        let alone = Figure::new(8, language, "back after 20000 revisions, ms", alone);
        let wrong = back.value(language, |back| back.wrong);
        let wrong = Figure::new(8, language, "instances wrong after that", wrong);
        let connections = back.value(language, |back| back.connections);
        [
            took.most(if native { 0.05 } else { 0.1 }),
            if native { alone.most(110.0) } else { alone },
            wrong.most(0.0),
            Figure::new(8, language, "connections that it took", connections),
        ]
    };
    let figures = back.languages().flat_map(figures).collect();
    Ok(back.told(figures))
}

async fn replayed() -> Result<Back, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(INSTANCES).await?;
    let from = etcd.revision().await? + 1;
    miss(&etcd).await?;
    let replay = Program::start(program(FLOOR)?.args(["replay", &etcd.url(), &from.to_string()]))?;
    tokio::time::sleep(Duration::from_secs(5)).await; // tidy: sleep, a replay of two seconds
    let began = replay.ready;
    let seen = replay.finish()?;
    let (last, told) = (
        seen.values["last"].as_u64().unwrap_or(0),
        seen.latencies().len(),
    );
    if told as u64 != MISSED + 1 {
        return Err(format!(
            "etcd repeated {told} of {MISSED} revisions in five seconds"
        ));
    }
    Ok(Back {
        took: last.saturating_sub(began) as f64,
        wrong: 0.0,
        connections: 1.0,
    })
}

async fn recovered(language: &str) -> Result<Back, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(INSTANCES).await?;
    let proxy = Proxy::start(etcd.port).await?;
    let follower = Program::start(program(language)?.args(["follow", &url(proxy.port), "1"]))?;
    proxy.cut().await;
    let last = miss(&etcd).await?;
    proxy.heal();
    tokio::time::sleep(Duration::from_secs(6)).await; // tidy: sleep, longer than any wait between attempts
    let (first, connections) = (proxy.first(), proxy.count() as f64);
    let seen = follower.finish()?;
    let (latencies, online) = (seen.latencies(), seen.values["online"].as_u64());
    // Latencies tell when a change came; the last one was written last.
    let came = latencies.first().map(|late| last + *late as u64);
    let came = came.ok_or("it saw nothing after the gap")?;
    let (changed, there) = (latencies.len() as u64, online.unwrap_or(0));
    Ok(Back {
        took: came.saturating_sub(first) as f64,
        wrong: (changed.abs_diff(CHANGED) + there.abs_diff(INSTANCES)) as f64,
        connections,
    })
}

/// Writes what is missed, and gives when the last of it was written.
async fn miss(etcd: &Etcd) -> Result<u64, String> {
    let client = etcd.client().await?;
    for _ in 0..MISSED / CHANGED {
        writer::burst(&client, CHANGED).await?;
    }
    let began = now();
    writer::put(client, 0).await?;
    Ok(began)
}
