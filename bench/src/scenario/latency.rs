//! Delay of notifications: one change at a time, and 1,000 at once, in short rounds in which each program has its turn.

use std::time::Duration;

use crate::child::{Program, quantile};
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::{process, writer};

const ROUNDS: usize = 5;
const CHANGES: u32 = 200;
const PACE: Duration = Duration::from_millis(10);
/// Changes for warm-up.
const WARM: u32 = 200;
const WARM_PACE: Duration = Duration::from_millis(2);
const BURST_ROUNDS: usize = 5;
const BURSTS: usize = 4;
const BURST: u64 = 1000;

struct Late {
    p50: f64,
    p99: f64,
    /// The median minus that of etcd's confirmation.
    over_ack: f64,
    cpu: f64,
}

/// Measures 100 changes per second.
pub async fn steady() -> Result<ScenarioResult, String> {
    let etcd = Etcd::start().await?;
    let programs = with_peers(&["Go", "aetcd", "etcd3", "etcetra", "npm etcd3"]);
    let late = Measured::measure(&programs, ROUNDS, async |name| one(&etcd, name).await).await;
    let mut figures = Vec::new();
    for language in late.languages() {
        figures.extend(beside_the_floor(&late, language));
        for peer in late.peers(language) {
            figures.extend(beside_a_peer(&late, language, peer));
        }
    }
    Ok(late.result(figures))
}

const OVER: &str = "median delay after the ack, minus the floor's, µs";
const CPU: &str = "CPU per change, µs";

fn beyond(late: &Measured<Late>, name: &str) -> f64 {
    late.value(name, |late| late.over_ack) - late.floor(|late| late.over_ack)
}

fn beside_the_floor(late: &Measured<Late>, language: &'static str) -> Vec<Figure> {
    let most = match language {
        "rust" => 30.0,
        "c" => 40.0,
        _ => 90.0,
    };
    let over = Figure::new(1, language, OVER, beyond(late, language)).most(most);
    let ratio = |what: &str, get: fn(&Late) -> f64, most: f64| {
        let own = Figure::new(1, language, what, late.value(language, get));
        let own = own.over(late.floor(get));
        if language == "rust" {
            own.most(most)
        } else {
            own
        }
    };
    vec![
        over,
        ratio("median delay, µs", |late| late.p50, 1.05),
        ratio("99th percentile of the delay, µs", |late| late.p99, 1.15),
        ratio(CPU, |late| late.cpu, 1.15),
    ]
}

fn beside_a_peer(late: &Measured<Late>, language: &'static str, peer: &str) -> [Figure; 2] {
    let over = Figure::new(1, language, OVER, beyond(late, language));
    let over = over.against(peer, beyond(late, peer));
    let cpu = |name: &str| late.value(name, |late| late.cpu);
    let cpu = Figure::new(1, language, CPU, cpu(language)).against(peer, cpu(peer));
    match (language, peer) {
        ("rust", "Go") => [over, cpu.most(0.4)],
        (_, "etcetra") => [over.most(0.5), cpu.most(0.4)],
        (_, "etcd3") => [over.most(0.25), cpu],
        (_, "npm etcd3") => [over.most(0.4), cpu.most(0.3)],
        _ => [over, cpu],
    }
}

async fn one(etcd: &Etcd, name: &str) -> Result<Late, String> {
    let mut client = etcd.client().await?;
    let follower = Program::start(program(name)?.args(["follow", &etcd.url(), "1"]))?;
    writer::steady(&mut client, WARM, WARM_PACE).await?;
    settle().await;
    let before = process::cpu(follower.pid());
    let acks = writer::steady(&mut client, CHANGES, PACE).await?;
    settle().await;
    let cpu = process::cpu(follower.pid()).saturating_sub(before) as f64 / f64::from(CHANGES);
    let seen = follower.finish()?.last(CHANGES as usize);
    let (p50, p99) = (quantile(&seen, 0.5), quantile(&seen, 0.99));
    Ok(Late {
        p50,
        p99,
        over_ack: p50 - quantile(&acks, 0.5),
        cpu,
    })
}

/// Measures 1,000 instances written at once, several times.
pub async fn burst() -> Result<ScenarioResult, String> {
    let etcd = Etcd::start().await?;
    let programs = with_peers(&[]);
    let late = Measured::measure(&programs, BURST_ROUNDS, async |name| {
        flood(&etcd, name).await
    })
    .await;
    let figure = |language: &'static str| {
        let native = matches!(language, "rust" | "c");
        let median = late.value(language, |late| *late);
        let figure = Figure::new(2, language, "median delay in bursts of 1000, µs", median);
        let figure = figure.over(late.floor(|late| *late));
        figure.most(if native { 1.05 } else { 1.15 })
    };
    let figures = late.languages().map(figure).collect();
    Ok(late.result(figures))
}

async fn flood(etcd: &Etcd, name: &str) -> Result<f64, String> {
    let client = etcd.client().await?;
    let follower = Program::start(program(name)?.args(["follow", &etcd.url(), "1"]))?;
    for _ in 0..BURSTS {
        writer::burst(&client, BURST).await?;
        settle().await;
    }
    Ok(quantile(&follower.finish()?.latencies(), 0.5))
}

/// Waits until the last write has been notified.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await; // tidy: sleep, a moment of rest
}
