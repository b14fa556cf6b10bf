//! What the library is before it does anything: its size, its loading, its threads and its memory; and what it
//! takes when it has much to keep and nothing happens.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, built, loader, program, with_peers};
use crate::measured::{Measured, Told};
use crate::process;
use crate::scenario::register::SETTLED;

const LIBRARY: &str = "libdiscover.so";
/// With `local://` alone, so without TLS, and for size: `tools/bench.sh` builds it.
const SMALL: &str = "small/release/libdiscover.so";
const PACKAGE: &str = "bench-packages/python/libdiscover/_native.abi3.so";
/// A discovery client whose server is not here: only its loading is looked at.
const NACOS: &str = "nacos-sdk-rust";
const LOADS: usize = 5;
const IDLE: Duration = Duration::from_secs(5);
/// A third of the time to live, three times.
const KEPT: Duration = Duration::from_secs(15);

struct Print {
    start: f64,
    memory: f64,
    threads: f64,
    idle: f64,
    /// What the program says of itself: `load` in microseconds, `bare` and `loaded` in KiB, `size` in bytes.
    said: serde_json::Value,
}

impl Print {
    /// No number where the program does not say it.
    fn said(&self, name: &str) -> f64 {
        self.said[name].as_f64().unwrap_or(f64::NAN)
    }
}

/// See the module.
pub async fn run() -> Result<Told, String> {
    let etcd = Etcd::start().await?;
    let programs = with_peers(&["aetcd", NACOS]);
    let prints = Measured::of(&programs, 1, async |name| measure(&etcd, name).await).await;
    let loads = Measured::of(&["c"], LOADS, async |_| load()).await;
    let kept = Measured::of(&["rust"], 1, async |name| keeping(&etcd, name).await).await;
    let mut figures = vec![
        Figure::new(10, "c", format!("size of {LIBRARY}, MB"), size(LIBRARY)?).most(2.0),
        Figure::new(10, "c", "the same without TLS, for size, MB", size(SMALL)?).most(1.2),
        Figure::new(10, "c", "dlopen, µs", loads.value("c", |took| *took)).most(500.0),
    ];
    let what = "idle with 1000 services and 10000 registrations, % of a processor";
    figures.push(Figure::new(10, "rust", what, kept.value("rust", |idle| *idle)).most(0.2));
    for name in [FLOOR].into_iter().chain(prints.languages()) {
        figures.extend(alone(&prints, name));
    }
    for peer in prints.peers("python") {
        figures.extend(beside_a_peer(&prints, peer)?);
    }
    let others = loads.told(Vec::new()).and(kept.told(Vec::new()));
    Ok(prints.told(figures).and(others))
}

fn alone(prints: &Measured<Print>, name: &'static str) -> Vec<Figure> {
    let value = |get: fn(&Print) -> f64| prints.value(name, get);
    let figure = |what: &str, get: fn(&Print) -> f64| Figure::new(10, name, what, value(get));
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
        figure("idle, % of a processor", |print| print.idle).most(0.2),
    ];
    if !value(|print| print.said("load")).is_nan() {
        figures.push(figure("loaded, µs", |print| print.said("load")).most(15_000.0));
        let own = |print: &Print| print.memory - print.said("bare") / 1024.0;
        figures.push(figure("memory beyond the interpreter's, MB", own).most(6.0));
    }
    figures
}

fn beside_a_peer(prints: &Measured<Print>, peer: &str) -> Result<Vec<Figure>, String> {
    let figure = |what: &str, get: fn(&Print) -> f64| {
        Figure::new(10, "python", what, prints.value("python", get))
            .against(peer, prints.value(peer, get))
    };
    if peer != NACOS {
        return Ok(vec![figure("memory, MB", |print| print.memory)]);
    }
    let loaded = |print: &Print| (print.said("loaded") - print.said("bare")) / 1024.0;
    let theirs = prints.value(peer, |print| print.said("size")) / 1e6;
    let size = Figure::new(
        10,
        "python",
        "size of the native module, MB",
        size(PACKAGE)?,
    );
    Ok(vec![
        figure("loaded, µs", |print| print.said("load")),
        figure("memory once loaded, beyond the interpreter's, MB", loaded),
        size.against(peer, theirs),
    ])
}

async fn measure(etcd: &Etcd, name: &str) -> Result<Print, String> {
    let task = if name == NACOS { "load" } else { "follow" };
    let mut program = Program::start(program(name)?.args([task, &etcd.url(), "1"]))?;
    let (memory, threads) = (
        process::memory(program.pid()).0,
        process::threads(program.pid()),
    );
    let print = Print {
        start: program.took,
        memory: memory as f64 / 1024.0,
        threads: threads as f64,
        idle: idle(&program, IDLE).await,
        said: program.said.take(),
    };
    program.finish()?;
    Ok(print)
}

/// A program that has much to keep.
async fn keeping(etcd: &Etcd, name: &str) -> Result<f64, String> {
    let program = Program::start(program(name)?.args(["both", &etcd.url(), "1000", "10000"]))?;
    tokio::time::sleep(SETTLED).await; // tidy: sleep, what comes after is measured
    let idle = idle(&program, KEPT).await;
    program.finish()?;
    Ok(idle)
}

/// Percent of a processor.
async fn idle(program: &Program, time: Duration) -> f64 {
    let before = process::cpu(program.pid());
    tokio::time::sleep(time).await; // tidy: sleep, what is measured is a time
    let spent = process::cpu(program.pid()).saturating_sub(before);
    spent as f64 / time.as_micros() as f64 * 100.0
}

fn load() -> Result<f64, String> {
    let told = Program::ask(loader()?.arg(built()?.join(LIBRARY)))?;
    told["load"]
        .as_f64()
        .ok_or_else(|| format!("it said {told}"))
}

fn size(file: &str) -> Result<f64, String> {
    let found = std::fs::metadata(built()?.join(file)).map_err(|e| format!("{file}: {e}"))?;
    Ok(found.len() as f64 / 1e6)
}
