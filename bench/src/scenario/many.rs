//! 1,000 services watched by one process.

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::process;

const ROUNDS: usize = 3;
const SERVICES: &str = "1000";

struct Cost {
    took: f64,
    grown: f64,
    peak: f64,
    connections: f64,
    streams: f64,
}

/// Measures time, memory and connections.
pub async fn run() -> Result<ScenarioResult, String> {
    let etcd = Etcd::start().await?;
    let programs = with_peers(&["Go", "aetcd", "etcd3", "npm etcd3"]);
    let costs = Measured::measure(&programs, ROUNDS, async |name| measure(&etcd, name)).await;
    let streams = own_streams(&etcd)?;
    let mut figures = Vec::new();
    for language in costs.languages() {
        figures.extend(beside_the_floor(&costs, language));
        if matches!(language, "rust" | "c") {
            let grown = costs.value(language, |cost| cost.grown);
            let figure = Figure::new(4, language, GROWN, grown);
            figures.push(
                figure
                    .against("a raw client with a stream each", streams)
                    .most(0.05),
            );
        }
        for peer in costs.peers(language) {
            figures.extend(beside_a_peer(&costs, language, peer));
        }
    }
    Ok(costs.result(figures))
}

const READY: &str = "1000 services watched, µs";
const GROWN: &str = "memory for 1000 services, MB";
const PEAK: &str = "peak memory with 1000 services, MB";

fn beside_the_floor(costs: &Measured<Cost>, language: &'static str) -> Vec<Figure> {
    let figure = |what: &str, get: fn(&Cost) -> f64| {
        Figure::new(4, language, what, costs.value(language, get))
    };
    let ready = figure(READY, |cost| cost.took).over(costs.floor(|cost| cost.took));
    let megabytes = match language {
        "rust" | "c" => 1.0,
        "python" => 2.0,
        _ => 3.0,
    };
    vec![
        match language {
            "rust" | "c" => ready.most(1.3),
            _ => ready,
        },
        figure(GROWN, |cost| cost.grown).most(megabytes),
        figure(PEAK, |cost| cost.peak).over(costs.floor(|cost| cost.peak)),
        figure("connections", |cost| cost.connections).most(1.0),
        figure("watch streams", |cost| cost.streams).most(1.0),
    ]
}

fn beside_a_peer(costs: &Measured<Cost>, language: &'static str, peer: &str) -> [Figure; 3] {
    let figure = |what: &str, get: fn(&Cost) -> f64| {
        Figure::new(4, language, what, costs.value(language, get))
            .against(peer, costs.value(peer, get))
    };
    let ready = figure(READY, |cost| cost.took);
    let grown = figure(GROWN, |cost| cost.grown);
    let peak = figure(PEAK, |cost| cost.peak);
    match peer {
        "Go" => [ready.most(0.35), grown.most(0.1), peak],
        "aetcd" => [ready.most(0.3), grown, peak],
        "npm etcd3" => [ready.most(0.3), grown.most(0.2), peak],
        _ => [ready, grown, peak],
    }
}

/// Returns the additional memory of the floor's client with one stream for each watch.
fn own_streams(etcd: &Etcd) -> Result<f64, String> {
    let memory = |count: &str| {
        let streams = Program::start(program(FLOOR)?.args(["streams", &etcd.url(), count]))?;
        let memory = process::memory(streams.pid()).0 as f64 / 1024.0;
        streams.finish().map(|_| memory)
    };
    Ok(memory(SERVICES)? - memory("1")?)
}

fn measure(etcd: &Etcd, name: &str) -> Result<Cost, String> {
    let start =
        |services: &str| Program::start(program(name)?.args(["follow", &etcd.url(), services]));
    let few = start("1")?;
    let before = process::memory(few.pid()).0;
    few.finish()?;
    let many = start(SERVICES)?;
    let (now, peak) = process::memory(many.pid());
    let connections = process::connections(many.pid(), etcd.port()) as f64;
    let (took, streams) = (many.took, etcd.watch_streams()?);
    many.finish()?;
    Ok(Cost {
        took,
        grown: now.saturating_sub(before) as f64 / 1024.0,
        peak: peak as f64 / 1024.0,
        connections,
        streams,
    })
}
