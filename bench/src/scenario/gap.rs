//! Recovery after 20,000 missed revisions; for the floor, etcd replays them.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::{Etcd, url};
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::writer;
use discover_testkit::clock::now;
use discover_testkit::proxy::FaultProxy;

const INSTANCES: u64 = 10_000;
const MISSED: u64 = 20_000;
/// Number of instances that are written again and again meanwhile.
const CHANGED: u64 = 500;

struct Recovery {
    /// Microseconds from the first connection to the last change.
    took: f64,
    /// Instances that differ from the store.
    wrong: f64,
    /// Connections used: with more than one, most of the time was a backoff.
    connections: f64,
}

/// Measures the recovery of all programs.
pub async fn run() -> Result<ScenarioResult, String> {
    let measure = async |name| match name {
        FLOOR => replayed().await,
        _ => recovered(name).await,
    };
    let back = Measured::measure(&with_peers(&[]), 1, measure).await;
    let figures = |language: &'static str| {
        let native = matches!(language, "rust" | "c");
        let took = back.value(language, |back| back.took);
        let took = Figure::new(
            8,
            language,
            "recovered after 20000 missed revisions, µs",
            took,
        );
        let took = took.over(back.floor(|back| back.took));
        let alone = back.value(language, |back| back.took / 1000.0);
        let alone = Figure::new(
            8,
            language,
            "recovered after 20000 missed revisions, ms",
            alone,
        );
        let wrong = back.value(language, |back| back.wrong);
        let wrong = Figure::new(8, language, "wrong instances after that", wrong);
        let connections = back.value(language, |back| back.connections);
        [
            took.most(if native { 0.05 } else { 0.1 }),
            if native { alone.most(110.0) } else { alone },
            wrong.most(0.0),
            Figure::new(8, language, "connections used", connections),
        ]
    };
    let figures = back.languages().flat_map(figures).collect();
    Ok(back.result(figures))
}

async fn replayed() -> Result<Recovery, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(INSTANCES).await?;
    let from = etcd.revision().await? + 1;
    miss(&etcd).await?;
    let replay = Program::start(program(FLOOR)?.args(["replay", &etcd.url(), &from.to_string()]))?;
    tokio::time::sleep(Duration::from_secs(5)).await; // tidy: sleep, a replay of two seconds
    let began = replay.ready;
    let seen = replay.finish()?;
    let (last, replayed) = (
        seen.values["last"].as_u64().unwrap_or(0),
        seen.latencies().len(),
    );
    if replayed as u64 != MISSED + 1 {
        return Err(format!(
            "etcd replayed {replayed} of {MISSED} revisions in five seconds"
        ));
    }
    Ok(Recovery {
        took: last.saturating_sub(began) as f64,
        wrong: 0.0,
        connections: 1.0,
    })
}

async fn recovered(language: &str) -> Result<Recovery, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(INSTANCES).await?;
    let proxy = FaultProxy::start(format!("127.0.0.1:{}", etcd.port()));
    let follower =
        Program::start(program(language)?.args(["follow", &url(proxy.address().port()), "1"]))?;
    tokio::task::block_in_place(|| proxy.cut());
    let last = miss(&etcd).await?;
    proxy.heal();
    tokio::time::sleep(Duration::from_secs(6)).await; // tidy: sleep, longer than any wait between attempts
    let (first, connections) = (proxy.first_accepted(), proxy.established() as f64);
    let seen = follower.finish()?;
    let (latencies, online) = (seen.latencies(), seen.values["online"].as_u64());
    // The smallest delay belongs to the last change.
    let came = latencies.first().map(|late| last + *late as u64);
    let came = came.ok_or("it received nothing after the gap")?;
    let (changed, there) = (latencies.len() as u64, online.unwrap_or(0));
    Ok(Recovery {
        took: came.saturating_sub(first) as f64,
        wrong: (changed.abs_diff(CHANGED) + there.abs_diff(INSTANCES)) as f64,
        connections,
    })
}

/// Writes the revisions to miss, and returns when the last one was written.
async fn miss(etcd: &Etcd) -> Result<u64, String> {
    let client = etcd.client().await?;
    for _ in 0..MISSED / CHANGED {
        writer::burst(&client, CHANGED).await?;
    }
    let began = now();
    writer::put(client, 0).await?;
    Ok(began)
}
