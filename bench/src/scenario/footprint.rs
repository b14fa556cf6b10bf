//! Size, load time, threads and memory of the library before it does anything, and its idle CPU time with many registrations.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, built, loader, program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::process;
use crate::scenario::register::SETTLED;

const LIBRARY: &str = "libdiscover.so";
/// Built with `local://` alone, without TLS and optimized for size, by `tools/bench.sh`.
const SMALL: &str = "small/release/libdiscover.so";
const PACKAGE: &str = "bench-packages/python/libdiscover/_native.abi3.so";
/// A discovery client whose server is not available: only its loading is measured.
const NACOS: &str = "nacos-sdk-rust";
const LOADS: usize = 5;
const IDLE: Duration = Duration::from_secs(5);
/// Three times a third of the TTL.
const KEPT: Duration = Duration::from_secs(15);

struct Footprint {
    start: f64,
    memory: f64,
    threads: f64,
    idle: f64,
    /// What the program says of itself: `load` in microseconds, `bare` and `loaded` in KiB, `size` in bytes.
    report: serde_json::Value,
}

impl Footprint {
    /// Returns a reported value; NaN if it is missing.
    fn reported(&self, name: &str) -> f64 {
        self.report[name].as_f64().unwrap_or(f64::NAN)
    }
}

/// Measures the footprint of all programs.
pub async fn run() -> Result<ScenarioResult, String> {
    let etcd = Etcd::start().await?;
    let programs = with_peers(&["aetcd", NACOS]);
    let prints = Measured::measure(&programs, 1, async |name| measure(&etcd, name).await).await;
    let loads = Measured::measure(&["c"], LOADS, async |_| load()).await;
    let kept = Measured::measure(&["rust"], 1, async |name| keeping(&etcd, name).await).await;
    let mut figures = vec![
        Figure::new(10, "c", format!("size of {LIBRARY}, MB"), size(LIBRARY)?).most(2.0),
        Figure::new(
            10,
            "c",
            "size without TLS, optimized for size, MB",
            size(SMALL)?,
        )
        .most(1.2),
        Figure::new(10, "c", "dlopen, µs", loads.value("c", |took| *took)).most(500.0),
    ];
    let what = "idle with 1000 services and 10000 registrations, % of a core";
    figures.push(Figure::new(10, "rust", what, kept.value("rust", |idle| *idle)).most(0.2));
    for name in [FLOOR].into_iter().chain(prints.languages()) {
        figures.extend(alone(&prints, name));
    }
    for peer in prints.peers("python") {
        figures.extend(beside_a_peer(&prints, peer)?);
    }
    let others = loads.result(Vec::new()).merge(kept.result(Vec::new()));
    Ok(prints.result(figures).merge(others))
}

fn alone(prints: &Measured<Footprint>, name: &'static str) -> Vec<Figure> {
    let value = |get: fn(&Footprint) -> f64| prints.value(name, get);
    let figure = |what: &str, get: fn(&Footprint) -> f64| Figure::new(10, name, what, value(get));
    let native = matches!(name, "rust" | "c");
    let limited = |figure: Figure, most: f64| if native { figure.most(most) } else { figure };
    let threads = figure("threads", |print| print.threads);
    let mut figures = vec![
        limited(
            figure("connected, listed and watching, µs", |print| print.start),
            6000.0,
        ),
        limited(figure("memory, MB", |print| print.memory), 5.0),
        // The program's own is one of them.
        if name == "c" {
            threads.most(3.0)
        } else {
            threads
        },
        figure("idle, % of a core", |print| print.idle).most(0.2),
    ];
    if !value(|print| print.reported("load")).is_nan() {
        figures.push(figure("load time, µs", |print| print.reported("load")).most(15_000.0));
        let own = |print: &Footprint| print.memory - print.reported("bare") / 1024.0;
        figures.push(figure("memory above the interpreter's, MB", own).most(6.0));
    }
    figures
}

fn beside_a_peer(prints: &Measured<Footprint>, peer: &str) -> Result<Vec<Figure>, String> {
    let figure = |what: &str, get: fn(&Footprint) -> f64| {
        Figure::new(10, "python", what, prints.value("python", get))
            .against(peer, prints.value(peer, get))
    };
    if peer != NACOS {
        return Ok(vec![figure("memory, MB", |print| print.memory)]);
    }
    let loaded = |print: &Footprint| (print.reported("loaded") - print.reported("bare")) / 1024.0;
    let theirs = prints.value(peer, |print| print.reported("size")) / 1e6;
    let size = Figure::new(
        10,
        "python",
        "size of the native module, MB",
        size(PACKAGE)?,
    );
    Ok(vec![
        figure("load time, µs", |print| print.reported("load")),
        figure("memory after loading, above the interpreter's, MB", loaded),
        size.against(peer, theirs),
    ])
}

async fn measure(etcd: &Etcd, name: &str) -> Result<Footprint, String> {
    let task = if name == NACOS { "load" } else { "follow" };
    let mut program = Program::start(program(name)?.args([task, &etcd.url(), "1"]))?;
    let (memory, threads) = (
        process::memory(program.pid()).0,
        process::threads(program.pid()),
    );
    let print = Footprint {
        start: program.took,
        memory: memory as f64 / 1024.0,
        threads: threads as f64,
        idle: idle(&program, IDLE).await,
        report: program.report.take(),
    };
    program.finish()?;
    Ok(print)
}

/// Measures the idle CPU time of a program with many registrations.
async fn keeping(etcd: &Etcd, name: &str) -> Result<f64, String> {
    let program = Program::start(program(name)?.args(["both", &etcd.url(), "1000", "10000"]))?;
    tokio::time::sleep(SETTLED).await; // tidy: sleep, what comes after is measured
    let idle = idle(&program, KEPT).await;
    program.finish()?;
    Ok(idle)
}

/// Returns the CPU time in percent of a core.
async fn idle(program: &Program, time: Duration) -> f64 {
    let before = process::cpu(program.pid());
    tokio::time::sleep(time).await; // tidy: sleep, what is measured is a time
    let spent = process::cpu(program.pid()).saturating_sub(before);
    spent as f64 / time.as_micros() as f64 * 100.0
}

fn load() -> Result<f64, String> {
    let report = Program::ask(loader()?.arg(built()?.join(LIBRARY)))?;
    report["load"]
        .as_f64()
        .ok_or_else(|| format!("unexpected report {report}"))
}

fn size(file: &str) -> Result<f64, String> {
    let found = std::fs::metadata(built()?.join(file)).map_err(|e| format!("{file}: {e}"))?;
    Ok(found.len() as f64 / 1e6)
}
