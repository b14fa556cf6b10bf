//! Ten thousand registrations, and keeping them alive.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, program};
use crate::process;

const INSTANCES: &str = "10000";
/// A lease of the floor lives for 15 s and is renewed each 5 s, and so is one of ours.
const KEPT: Duration = Duration::from_secs(30);

struct Cost {
    took: f64,
    etcd: f64,
    kept: f64,
    kept_etcd: f64,
    grown: f64,
}

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let raw = measure(FLOOR).await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let cost = measure(language).await?;
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
        figures.push(figure(7, "memory grown meanwhile, MB", cost.grown).most(2.0));
    }
    Ok(figures)
}

async fn measure(language: &str) -> Result<Cost, String> {
    let etcd = Etcd::start().await?;
    let before = process::cpu(etcd.pid());
    let member = Program::start(program(language)?.args(["register", &etcd.url(), INSTANCES]))?;
    let registered = process::cpu(etcd.pid());
    let (own, memory) = (process::cpu(member.pid()), process::memory(member.pid()).0);
    tokio::time::sleep(KEPT).await; // tidy: sleep, what is measured is a time
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
