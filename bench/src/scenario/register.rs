//! 10,000 registrations and keeping them alive; and 1,000, which most other clients can handle.

use std::time::Duration;

use crate::child::Program;
use crate::etcd::Etcd;
use crate::figure::Figure;
use crate::languages::{program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::process;

const INSTANCES: u64 = 10_000;
const FEW: u64 = 1000;
/// Renewals due in that time, each a third of the TTL after the previous one.
const RENEWALS: f64 = INSTANCES as f64 * 6.0;
/// Leases of the floor and of the library live for 15 s and are renewed every 5 s.
const KEPT: Duration = Duration::from_secs(30);
const FEW_KEPT: Duration = Duration::from_secs(15);
/// The initial comparison of each watch is over after this time.
pub const SETTLED: Duration = Duration::from_secs(5);

struct Cost {
    took: f64,
    etcd: f64,
    settled: f64,
    kept: f64,
    kept_etcd: f64,
    grown: f64,
}

/// Measures registering and keeping alive.
pub async fn run() -> Result<ScenarioResult, String> {
    let many = async |name| measure(name, INSTANCES, KEPT).await;
    let many = Measured::measure(&with_peers(&["Go"]), 1, many).await;
    // The languages that have peers of this kind.
    let mut some = with_peers(&["aetcd", "etcd3", "npm etcd3"]);
    some.retain(|name| !matches!(*name, "floor" | "rust" | "c"));
    let few = async |name| measure(name, FEW, FEW_KEPT).await;
    let few = Measured::measure(&some, 1, few).await;
    let mut figures = Vec::new();
    for language in many.languages() {
        figures.extend(beside_the_floor(&many, language));
        for peer in many.peers(language) {
            figures.extend(beside_go(&many, language, peer));
        }
        for peer in few.peers(language) {
            figures.extend(beside_a_peer(&few, language, peer));
        }
    }
    let go = many.value("Go", |cost| cost.kept_etcd);
    let mut result = many.result(figures).merge(few.result(Vec::new()));
    match etcd_alone(go).await {
        Ok(figures) => result.figures.extend(figures),
        Err(why) => result.failed.push(why),
    }
    Ok(result)
}

/// Measures an idle etcd and one renewal; `go` is etcd's CPU time with the Go client, if that was measured.
async fn etcd_alone(go: f64) -> Result<[Figure; 2], String> {
    let idle = idle_etcd().await?;
    let what = "etcd's CPU for one renewal of a dedicated lease, µs";
    let own = Figure::new(7, "rust", what, renewal(idle).await?);
    let what = "30 s of an idle etcd, µs of CPU";
    Ok([
        match (go - idle) / RENEWALS {
            theirs if theirs > 0.0 => own.against("Go", theirs).most(1.0),
            _ => own,
        },
        Figure::new(7, "floor", what, idle),
    ])
}

const ETCD: &str = "etcd's CPU for that, µs";
const KEEPING: &str = "30 s of keeping 10000 alive, µs of CPU";

fn beside_the_floor(costs: &Measured<Cost>, language: &'static str) -> [Figure; 6] {
    let figure = |goal: u8, what: &str, get: fn(&Cost) -> f64| {
        Figure::new(goal, language, what, costs.value(language, get)).over(costs.floor(get))
    };
    let native = matches!(language, "rust" | "c");
    let took = figure(6, "10000 registered, µs", |cost| cost.took);
    let grown = costs.value(language, |cost| cost.grown);
    let grown = Figure::new(7, language, "memory growth meanwhile, MB", grown);
    [
        took.most(if native { 0.35 } else { 0.4 }),
        figure(6, ETCD, |cost| cost.etcd).most(0.3),
        figure(7, "5 s after that, µs of CPU", |cost| cost.settled),
        figure(7, KEEPING, |cost| cost.kept).most(0.03),
        figure(7, ETCD, |cost| cost.kept_etcd).most(0.02),
        grown.beside(costs.floor(|cost| cost.grown)).most(2.0),
    ]
}

fn beside_go(costs: &Measured<Cost>, language: &'static str, peer: &str) -> [Figure; 4] {
    let figure = |goal: u8, what: &str, get: fn(&Cost) -> f64| {
        Figure::new(goal, language, what, costs.value(language, get))
            .against(peer, costs.value(peer, get))
    };
    [
        figure(6, "10000 registered, µs", |cost| cost.took),
        figure(6, ETCD, |cost| cost.etcd),
        figure(7, KEEPING, |cost| cost.kept).most(0.2),
        figure(7, ETCD, |cost| cost.kept_etcd).most(0.2),
    ]
}

fn beside_a_peer(costs: &Measured<Cost>, language: &'static str, peer: &str) -> [Figure; 3] {
    let figure = |goal: u8, what: &str, get: fn(&Cost) -> f64| {
        Figure::new(goal, language, what, costs.value(language, get))
            .against(peer, costs.value(peer, get))
    };
    let took = figure(6, "1000 registered, µs", |cost| cost.took);
    let kept = figure(7, "15 s of keeping 1000 alive, µs of CPU", |cost| {
        cost.kept
    });
    let etcd = figure(7, ETCD, |cost| cost.kept_etcd);
    match peer {
        "aetcd" => [took.most(0.3), kept, etcd],
        "etcd3" => [took, kept.most(0.02), etcd],
        _ => [took.most(0.1), kept.most(0.1), etcd],
    }
}

/// Returns the CPU time of an idle etcd, the minimum for every client.
async fn idle_etcd() -> Result<f64, String> {
    let etcd = Etcd::start().await?;
    let before = process::cpu(etcd.pid());
    tokio::time::sleep(KEPT).await; // tidy: sleep, what is measured is a time
    Ok(process::cpu(etcd.pid()).saturating_sub(before) as f64)
}

/// Returns the CPU time of etcd for one renewal, beyond that of an idle etcd.
async fn renewal(idle: f64) -> Result<f64, String> {
    let etcd = Etcd::start().await?;
    let count = FEW.to_string();
    let member = Program::start(program("rust")?.args(["alone", &etcd.url(), &count]))?;
    let before = process::cpu(etcd.pid());
    tokio::time::sleep(FEW_KEPT).await; // tidy: sleep, what is measured is a time
    let spent = process::cpu(etcd.pid()).saturating_sub(before) as f64;
    let report = member.finish()?.values;
    let renewed = report["renewed"].as_f64().filter(|renewed| *renewed > 0.0);
    let renewed = renewed.ok_or_else(|| format!("unexpected report {report}"))?;
    Ok((spent - idle * FEW_KEPT.div_duration_f64(KEPT)) / renewed)
}

async fn measure(name: &str, instances: u64, kept: Duration) -> Result<Cost, String> {
    let etcd = Etcd::start().await?;
    let before = process::cpu(etcd.pid());
    let count = instances.to_string();
    let member = Program::start(program(name)?.args(["register", &etcd.url(), &count]))?;
    let etcd_registered = process::cpu(etcd.pid()).saturating_sub(before) as f64;
    let registered = process::cpu(member.pid());
    tokio::time::sleep(SETTLED).await; // tidy: sleep, what is measured is a time
    let spent = |pid: u32, before: u64| process::cpu(pid).saturating_sub(before) as f64;
    let settled = spent(member.pid(), registered);
    let (own, stores) = (process::cpu(member.pid()), process::cpu(etcd.pid()));
    let memory = process::memory(member.pid()).0;
    tokio::time::sleep(kept).await; // tidy: sleep, what is measured is a time
    let cost = Cost {
        took: member.took,
        etcd: etcd_registered,
        settled,
        kept: spent(member.pid(), own),
        kept_etcd: spent(etcd.pid(), stores),
        grown: process::memory(member.pid()).0.saturating_sub(memory) as f64 / 1024.0,
    };
    member.finish()?;
    Ok(cost)
}
