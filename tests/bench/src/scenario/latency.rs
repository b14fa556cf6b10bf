//! How late a change is told: one at a time, and a thousand at once.

use std::time::Duration;

use crate::child::{Program, quantile};
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers, program};
use crate::{process, writer};

const CHANGES: u32 = 1000;
const PACE: Duration = Duration::from_millis(10);
const BURSTS: usize = 10;
const BURST: u64 = 1000;

struct Late {
    p50: f64,
    p99: f64,
    /// The median beyond that of etcd's confirmation.
    over_ack: f64,
    cpu: f64,
}

/// A hundred changes a second.
pub async fn steady() -> Result<Vec<Figure>, String> {
    let etcd = Etcd::start().await?;
    let raw = one(&etcd, FLOOR).await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let late = one(&etcd, language).await?;
        let beyond = match language {
            "rust" => 30.0,
            "c" => 40.0,
            _ => 90.0,
        };
        let figure = |what: &str, value: f64| Figure::new(1, language, what, value);
        let over = late.over_ack - raw.over_ack;
        figures.push(figure("median over ack beyond the floor's, µs", over).most(beyond));
        let native = language == "rust";
        let limited = |figure: Figure, most: f64| if native { figure.most(most) } else { figure };
        figures.push(limited(figure("median, µs", late.p50).over(raw.p50), 1.05));
        figures.push(limited(
            figure("99th of a hundred, µs", late.p99).over(raw.p99),
            1.15,
        ));
        figures.push(limited(
            figure("processor for a change, µs", late.cpu).over(raw.cpu),
            1.15,
        ));
        for peer in peers(language)? {
            let theirs = one(&etcd, peer).await?;
            let beyond = theirs.over_ack - raw.over_ack;
            let over = figure("median over ack beyond the floor's, µs", over).against(peer, beyond);
            let cpu = figure("processor for a change, µs", late.cpu).against(peer, theirs.cpu);
            figures.extend(match peer {
                "etcd3" => [over.most(0.25), cpu],
                "npm etcd3" => [over.most(0.4), cpu.most(0.3)],
                _ => [over, cpu],
            });
        }
    }
    Ok(figures)
}

async fn one(etcd: &Etcd, language: &str) -> Result<Late, String> {
    let mut client = etcd.client().await?;
    let follower = Program::start(program(language)?.args(["follow", &etcd.url(), "1"]))?;
    // The first ones warm up.
    writer::steady(&mut client, CHANGES / 10, PACE).await?;
    let before = process::cpu(follower.pid());
    let acks = writer::steady(&mut client, CHANGES, PACE).await?;
    settle().await;
    let cpu = (process::cpu(follower.pid()) - before) as f64 / f64::from(CHANGES);
    let seen = follower.finish()?.latencies;
    let (p50, p99) = (quantile(&seen, 0.5), quantile(&seen, 0.99));
    Ok(Late {
        p50,
        p99,
        over_ack: p50 - quantile(&acks, 0.5),
        cpu,
    })
}

/// A thousand instances written at once, ten times.
pub async fn burst() -> Result<Vec<Figure>, String> {
    let etcd = Etcd::start().await?;
    let raw = flood(&etcd, FLOOR).await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let most = if matches!(language, "rust" | "c") {
            1.05
        } else {
            1.15
        };
        let median = flood(&etcd, language).await?;
        figures.push(
            Figure::new(2, language, "median in bursts of 1000, µs", median)
                .over(raw)
                .most(most),
        );
    }
    Ok(figures)
}

async fn flood(etcd: &Etcd, language: &str) -> Result<f64, String> {
    let client = etcd.client().await?;
    let follower = Program::start(program(language)?.args(["follow", &etcd.url(), "1"]))?;
    for _ in 0..BURSTS {
        writer::burst(&client, BURST).await?;
        settle().await;
    }
    Ok(quantile(&follower.finish()?.latencies, 0.5))
}

/// Until what was written last has been told.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await; // tidy: sleep, a moment of rest
}
