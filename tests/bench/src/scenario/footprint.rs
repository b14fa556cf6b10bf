//! What the library is before it does anything: its size, its loading, its threads and its memory.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, built, program};
use crate::process;

const LIBRARY: &str = "libdiscover.so";

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let etcd = Etcd::start().await?;
    let mut figures = Vec::new();
    let library =
        std::fs::metadata(built()?.join(LIBRARY)).map_err(|e| format!("{LIBRARY}: {e}"))?;
    let megabytes = library.len() as f64 / 1e6;
    figures.push(Figure::new(10, "c", format!("size of {LIBRARY}, MB"), megabytes).most(2.0));
    for language in [&[FLOOR][..], &LANGUAGES].concat() {
        let follower = Program::start(program(language)?.args(["follow", &etcd.url(), "1"]))?;
        let pid = follower.pid();
        let figure = |what: &str, value: f64| Figure::new(10, language, what, value);
        let start = figure("connected, listed and watching, µs", follower.took);
        let native = matches!(language, "rust" | "c");
        figures.push(if native { start.most(6000.0) } else { start });
        let memory = figure("memory, MB", process::memory(pid).0 as f64 / 1024.0);
        figures.push(if native { memory.most(5.0) } else { memory });
        let threads = figure("threads", process::threads(pid) as f64);
        // The program's own is one of them.
        figures.push(if language == "c" {
            threads.most(3.0)
        } else {
            threads
        });
        if follower.load > 0.0 {
            figures.push(figure("loaded, µs", follower.load).most(15_000.0));
        }
        let before = process::cpu(pid);
        tokio::time::sleep(Duration::from_secs(5)).await; // tidy: sleep, what is measured is a time
        let idle = (process::cpu(pid) - before) as f64 / 5e6 * 100.0;
        figures.push(figure("idle, % of a processor", idle).most(0.2));
        follower.finish()?;
    }
    Ok(figures)
}
