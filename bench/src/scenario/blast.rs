//! Changes received per second, from a server that sends them as fast as it can.

use std::time::Duration;

use crate::child::Program;
use crate::fake_etcd::{FakeEtcd, LoadScript};
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use crate::process;

/// Into the set: of several changes of one instance only the last is notified, by design.
const INTO_SET: LoadScript = LoadScript {
    instances: 1000,
    changes: 300_000,
    all_timed: false,
};
/// Each change notified: every instance changes once.
const EACH_NOTIFIED: LoadScript = LoadScript {
    instances: 50_000,
    changes: 50_000,
    all_timed: true,
};
/// As `EACH_NOTIFIED`, for clients that need 100 µs per change.
const FEW: LoadScript = LoadScript {
    instances: 10_000,
    changes: 10_000,
    all_timed: true,
};
/// A program that uses less CPU time than this in 300 ms has finished its work.
const AT_REST: u64 = 5_000;
const DEADLINE: u32 = 200;

struct Pace {
    /// Changes per second.
    rate: f64,
    /// CPU time per change in microseconds.
    cpu: f64,
}

/// Measures changes into the set, and changes each notified.
pub async fn run() -> Result<ScenarioResult, String> {
    let into = Measured::measure(&with_peers(&["Go"]), 1, async |name| {
        measure(name, INTO_SET).await
    })
    .await;
    let peers = ["Go", "aetcd", "etcd3", "npm etcd3"];
    let each = async |name| {
        let script = if is_slow(name) { FEW } else { EACH_NOTIFIED };
        measure(name, script).await
    };
    let each = Measured::measure(&with_peers(&peers), 1, each).await;
    let (into_figures, each_figures) = (
        figures(&into, "into the set"),
        figures(&each, "each notified"),
    );
    Ok(into.result(into_figures).merge(each.result(each_figures)))
}

fn is_slow(name: &str) -> bool {
    matches!(name, "aetcd" | "etcd3" | "npm etcd3")
}

fn figures(paces: &Measured<Pace>, what: &str) -> Vec<Figure> {
    let (cpu, text) = (|pace: &Pace| pace.cpu, format!("changes a second, {what}"));
    let mut figures = Vec::new();
    for language in paces.languages() {
        let pace = |name| paces.value(name, |pace| pace.rate);
        let rate = || Figure::new(3, language, text.clone(), pace(language));
        figures.push(match (language, what) {
            ("rust", "into the set") => rate().over(pace(FLOOR)).least(0.85),
            ("c", "into the set") => rate().over(pace(FLOOR)).least(0.75),
            ("rust" | "c", _) => rate().over(pace(FLOOR)),
            (_, "into the set") => rate().least(300_000.0),
            _ => rate().least(60_000.0),
        });
        let own = format!("CPU per change {what}, µs");
        let own = Figure::new(3, language, own, paces.value(language, cpu));
        figures.push(own.over(paces.floor(cpu)));
        for peer in paces.peers(language) {
            let rate = rate().against(peer, pace(peer));
            figures.push(match (language, peer, what) {
                ("rust", "Go", "into the set") => rate.least(5.0),
                (_, "aetcd", _) => rate.least(6.5),
                (_, "npm etcd3", _) => rate.least(7.0),
                _ => rate,
            });
        }
    }
    figures
}

async fn measure(name: &str, script: LoadScript) -> Result<Pace, String> {
    let fake = FakeEtcd::start(script).await?;
    let follower = Program::start(program(name)?.args(["follow", &fake.url(), "1"]))?;
    if LANGUAGES.contains(&name) {
        // The library compares once, soon after its start.
        fake.compared().await;
    }
    let before = process::cpu(follower.pid());
    let began = fake.send_all().await?;
    let cpu = at_rest(&follower).await?.saturating_sub(before);
    let seen = follower.finish()?;
    let wanted = if script.all_timed { script.changes } else { 1 };
    let (latencies, online) = (seen.latencies(), seen.values["online"].as_u64());
    if latencies.len() as u64 != wanted || online != Some(script.instances) {
        let notified = latencies.len();
        return Err(format!(
            "notified of {notified} of {wanted} changes, with {online:?} online"
        ));
    }
    let took = fake.since(began, latencies.last().copied().unwrap_or(f64::NAN));
    Ok(Pace {
        rate: script.changes as f64 / took * 1e6,
        cpu: cpu as f64 / script.changes as f64,
    })
}

/// Waits until a program is idle; returns its CPU time until then.
async fn at_rest(program: &Program) -> Result<u64, String> {
    let mut last = process::cpu(program.pid());
    for _ in 0..DEADLINE {
        tokio::time::sleep(Duration::from_millis(300)).await; // tidy: sleep, polling with a bound
        let now = process::cpu(program.pid());
        if now.saturating_sub(last) < AT_REST {
            return Ok(now);
        }
        last = now;
    }
    Err("it never becomes idle".to_owned())
}
