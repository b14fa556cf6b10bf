//! Listing all instances at the start.

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::process;

const ROUNDS: usize = 3;

/// Measures 10,000 and 100,000 instances.
pub async fn run() -> Result<ScenarioResult, String> {
    let few = listed(10_000, &[]).await?;
    let many = listed(100_000, &["Go", "aetcd", "etcd3", "npm etcd3"]).await?;
    let mut figures = Vec::new();
    for language in few.languages() {
        let took = few.value(language, |start| start.took);
        let figure = Figure::new(5, language, "10000 instances listed, µs", took);
        figures.push(figure.over(few.floor(|start| start.took)));
    }
    for language in many.languages() {
        figures.extend(beside_the_floor(&many, language));
        if language == "rust" {
            let peak = many.value(language, |start| start.peak);
            figures.push(Figure::new(5, language, HOPE, peak).most(60.0));
        }
        for peer in many.peers(language) {
            figures.extend(beside_a_peer(&many, language, peer));
        }
    }
    Ok(few.result(figures).merge(many.result(Vec::new())))
}

const LISTED: &str = "100000 instances listed, µs";
const PEAK: &str = "peak memory at 100000, MB";
const HOPE: &str = "peak memory at 100000, stretch goal, MB";

struct Start {
    took: f64,
    peak: f64,
}

fn beside_the_floor(starts: &Measured<Start>, language: &'static str) -> [Figure; 2] {
    let (ratio, megabytes) = match language {
        "rust" => (1.0, 84.0),
        "c" => (1.05, 84.0),
        "python" => (1.3, 120.0),
        _ => (1.4, 150.0),
    };
    let figure = |what: &str, get: fn(&Start) -> f64| {
        Figure::new(5, language, what, starts.value(language, get))
    };
    let took = figure(LISTED, |start| start.took).over(starts.floor(|start| start.took));
    let peak = figure(PEAK, |start| start.peak).beside(starts.floor(|start| start.peak));
    [took.most(ratio), peak.most(megabytes)]
}

fn beside_a_peer(starts: &Measured<Start>, language: &'static str, peer: &str) -> [Figure; 2] {
    let figure = |what: &str, get: fn(&Start) -> f64| {
        let own = Figure::new(5, language, what, starts.value(language, get));
        own.against(peer, starts.value(peer, get))
    };
    let (took, peak) = (
        figure(LISTED, |start| start.took),
        figure(PEAK, |start| start.peak),
    );
    match (language, peer) {
        ("rust", "Go") => [took.most(0.55), peak],
        (_, "etcd3") => [took.most(0.22), peak],
        (_, "aetcd" | "npm etcd3") => [took.most(0.5), peak],
        _ => [took, peak],
    }
}

async fn listed(instances: u64, peers: &[&'static str]) -> Result<Measured<Start>, String> {
    let etcd = Etcd::start().await?;
    etcd.fill(instances).await?;
    let start = async |name| start(&etcd, name, instances);
    Ok(Measured::measure(&with_peers(peers), ROUNDS, start).await)
}

fn start(etcd: &Etcd, name: &str, instances: u64) -> Result<Start, String> {
    let follower = Program::start(program(name)?.args(["follow", &etcd.url(), "1"]))?;
    let (took, peak) = (follower.took, process::memory(follower.pid()).1);
    let online = follower.finish()?.values["online"].as_u64();
    if online != Some(instances) {
        return Err(format!("saw {online:?} instances"));
    }
    Ok(Start {
        took,
        peak: peak as f64 / 1024.0,
    })
}
