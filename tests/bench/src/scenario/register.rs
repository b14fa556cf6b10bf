//! Ten thousand registrations, and keeping them alive; and a thousand, which is what peers can do.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers, program};
use crate::process;

const INSTANCES: u64 = 10_000;
const FEW: u64 = 1000;
/// A lease of the floor lives for 15 s and is renewed each 5 s, and so is one of ours.
const KEPT: Duration = Duration::from_secs(30);
const FEW_KEPT: Duration = Duration::from_secs(15);

struct Cost {
    took: f64,
    etcd: f64,
    kept: f64,
    kept_etcd: f64,
    grown: f64,
}

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let raw = measure(FLOOR, INSTANCES, KEPT).await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let cost = measure(language, INSTANCES, KEPT).await?;
        let figure = |goal: u8, what: &str, value: f64| Figure::new(goal, language, what, value);
        let time = if matches!(language, "rust" | "c") {
            0.35
        } else {
            0.4
        };
        figures.push(
            figure(6, "10000 registered, µs", cost.took)
                .over(raw.took)
                .most(time),
        );
        figures.push(
            figure(6, "etcd's processor for that, µs", cost.etcd)
                .over(raw.etcd)
                .most(0.3),
        );
        figures.push(
            figure(7, "30 s of keeping 10000, µs of processor", cost.kept)
                .over(raw.kept)
                .most(0.03),
        );
        let etcd = figure(7, "etcd's processor for that, µs", cost.kept_etcd);
        figures.push(etcd.over(raw.kept_etcd).most(0.02));
        let grown = figure(7, "memory grown meanwhile, MB", cost.grown);
        figures.push(grown.beside(raw.grown).most(2.0));
        figures.extend(beside_peers(language).await?);
    }
    Ok(figures)
}

/// A thousand, which peers make and keep one by one.
async fn beside_peers(language: &'static str) -> Result<Vec<Figure>, String> {
    let peers = peers(language)?;
    let mut figures = Vec::new();
    if peers.is_empty() {
        return Ok(figures);
    }
    let cost = measure(language, FEW, FEW_KEPT).await?;
    for peer in peers {
        let theirs = measure(peer, FEW, FEW_KEPT).await?;
        let figure = |goal: u8, what: &str, own: f64, theirs: f64| {
            Figure::new(goal, language, what, own).against(peer, theirs)
        };
        let took = figure(6, "1000 registered, µs", cost.took, theirs.took);
        let what = "15 s of keeping 1000, µs of processor";
        let kept = figure(7, what, cost.kept, theirs.kept);
        let etcd = figure(
            7,
            "etcd's processor for that, µs",
            cost.kept_etcd,
            theirs.kept_etcd,
        );
        figures.extend(match peer {
            "aetcd" => [took.most(0.3), kept, etcd],
            "etcd3" => [took, kept.most(0.02), etcd],
            _ => [took.most(0.1), kept.most(0.1), etcd],
        });
    }
    Ok(figures)
}

async fn measure(language: &str, instances: u64, kept: Duration) -> Result<Cost, String> {
    let etcd = Etcd::start().await?;
    let before = process::cpu(etcd.pid());
    let count = instances.to_string();
    let member = Program::start(program(language)?.args(["register", &etcd.url(), &count]))?;
    let registered = process::cpu(etcd.pid());
    let (own, memory) = (process::cpu(member.pid()), process::memory(member.pid()).0);
    tokio::time::sleep(kept).await; // tidy: sleep, what is measured is a time
    let cost = Cost {
        took: member.took,
        etcd: (registered - before) as f64,
        kept: (process::cpu(member.pid()) - own) as f64,
        kept_etcd: (process::cpu(etcd.pid()) - registered) as f64,
        grown: process::memory(member.pid()).0.saturating_sub(memory) as f64 / 1024.0,
    };
    member.finish()?;
    Ok(cost)
}
