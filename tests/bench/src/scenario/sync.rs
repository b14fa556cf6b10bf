//! Getting all that there is: at the start, and after a gap.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::{Etcd, url};
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers, program};
use crate::proxy::Proxy;
use crate::{process, writer};

const GAP: u64 = 20_000;
const GAP_INSTANCES: u64 = 10_000;

/// A hundred thousand instances, and ten thousand.
pub async fn cold() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for instances in [10_000, 100_000] {
        let etcd = Etcd::start().await?;
        etcd.fill(instances).await?;
        let (raw, raw_peak) = start(&etcd, FLOOR, instances)?;
        for language in LANGUAGES {
            let (took, peak) = start(&etcd, language, instances)?;
            let (ratio, megabytes) = match language {
                "rust" => (1.0, 84.0),
                "c" => (1.05, 84.0),
                "python" => (1.3, 120.0),
                _ => (1.4, 150.0),
            };
            let what = format!("{instances} instances listed, µs");
            let figure = Figure::new(5, language, what, took).over(raw);
            if instances < 100_000 {
                figures.push(figure);
                continue;
            }
            figures.push(figure.most(ratio));
            let what = format!("peak memory at {instances}, MB");
            let memory = Figure::new(5, language, what, peak).beside(raw_peak);
            figures.push(memory.most(megabytes));
            for peer in peers(language)? {
                let (theirs, their_peak) = start(&etcd, peer, instances)?;
                let what = format!("{instances} instances listed, µs");
                let figure = Figure::new(5, language, what, took).against(peer, theirs);
                figures.push(figure.most(if peer == "etcd3" { 0.22 } else { 0.5 }));
                let what = format!("peak memory at {instances}, MB");
                figures.push(Figure::new(5, language, what, peak).against(peer, their_peak));
            }
        }
    }
    Ok(figures)
}

fn start(etcd: &Etcd, language: &str, instances: u64) -> Result<(f64, f64), String> {
    let follower = Program::start(program(language)?.args(["follow", &etcd.url(), "1"]))?;
    let (took, peak) = (follower.took, process::memory(follower.pid()).1);
    let online = follower.finish()?.values["online"].as_u64();
    if online != Some(instances) {
        return Err(format!("{language} saw {online:?} instances"));
    }
    Ok((took, peak as f64 / 1024.0))
}

/// Twenty thousand revisions are missed; the floor has etcd repeat them.
pub async fn gap() -> Result<Vec<Figure>, String> {
    let raw = replayed().await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let most = if matches!(language, "rust" | "c") {
            0.05
        } else {
            0.1
        };
        let back = recovered(language).await?;
        figures.push(
            Figure::new(8, language, "back after 20000 revisions, µs", back)
                .over(raw)
                .most(most),
        );
    }
    Ok(figures)
}

async fn replayed() -> Result<f64, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(GAP_INSTANCES).await?;
    let from = GAP_INSTANCES.div_ceil(128) + 2;
    miss(&etcd).await?;
    let replay = Program::start(program(FLOOR)?.args(["replay", &etcd.url(), &from.to_string()]))?;
    tokio::time::sleep(Duration::from_secs(5)).await; // tidy: sleep, a replay of two seconds
    let began = replay.ready;
    let last = replay.finish()?.values["last"].as_u64().unwrap_or(0);
    Ok(last.saturating_sub(began) as f64)
}

async fn recovered(language: &str) -> Result<f64, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(GAP_INSTANCES).await?;
    let proxy = Proxy::start(etcd.port).await?;
    let follower = Program::start(program(language)?.args(["follow", &url(proxy.port), "1"]))?;
    proxy.cut();
    let last = miss(&etcd).await?;
    proxy.heal();
    tokio::time::sleep(Duration::from_secs(4)).await; // tidy: sleep, longer than any wait between attempts
    let first = proxy.first();
    let latencies = follower.finish()?.latencies;
    // Latencies tell when a change came; the last one was written last.
    let came = latencies.first().map(|late| last + *late as u64);
    let came = came.ok_or_else(|| format!("{language} saw nothing after the gap"))?;
    Ok(came.saturating_sub(first) as f64)
}

/// Writes what is missed, and gives when the last of it was written.
async fn miss(etcd: &Etcd) -> Result<u64, String> {
    let client = etcd.client().await?;
    for _ in 0..GAP / 500 {
        writer::burst(&client, 500).await?;
    }
    let began = crate::clock::now();
    writer::put(client, 0).await?;
    Ok(began)
}
