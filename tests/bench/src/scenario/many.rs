//! A thousand services followed by one process.

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers, program};
use crate::process;

const SERVICES: &str = "1000";

struct Cost {
    took: f64,
    grown: f64,
    peak: f64,
    connections: f64,
}

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let etcd = Etcd::start().await?;
    let raw = measure(&etcd, FLOOR)?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let cost = measure(&etcd, language)?;
        let figure = |what: &str, value: f64| Figure::new(4, language, what, value);
        let megabytes = match language {
            "rust" | "c" => 1.0,
            "python" => 2.0,
            _ => 3.0,
        };
        let ready = figure("1000 services watched, µs", cost.took).over(raw.took);
        let native = matches!(language, "rust" | "c");
        figures.push(if native { ready.most(1.3) } else { ready });
        let memory = figure("memory for 1000 services, MB", cost.grown);
        figures.push(memory.most(megabytes));
        let peak = figure("peak memory with 1000 services, MB", cost.peak);
        figures.push(peak.over(raw.peak));
        figures.push(figure("connections", cost.connections).most(1.0));
        for peer in peers(language)? {
            let theirs = measure(&etcd, peer)?;
            let ready = figure("1000 services watched, µs", cost.took).against(peer, theirs.took);
            figures.push(match peer {
                "aetcd" | "npm etcd3" => ready.most(0.3),
                _ => ready,
            });
            let peak = figure("peak memory with 1000 services, MB", cost.peak);
            figures.push(peak.against(peer, theirs.peak));
        }
    }
    Ok(figures)
}

fn measure(etcd: &Etcd, language: &str) -> Result<Cost, String> {
    let start =
        |services: &str| Program::start(program(language)?.args(["follow", &etcd.url(), services]));
    let few = start("1")?;
    let before = process::memory(few.pid()).0;
    few.finish()?;
    let many = start(SERVICES)?;
    let (now, peak) = process::memory(many.pid());
    let connections = process::connections(many.pid(), etcd.port) as f64;
    let took = many.took;
    many.finish()?;
    Ok(Cost {
        took,
        grown: now.saturating_sub(before) as f64 / 1024.0,
        peak: peak as f64 / 1024.0,
        connections,
    })
}
