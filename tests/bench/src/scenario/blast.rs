//! How many changes a second are taken in, from a server that tells them as fast as it can.

use std::time::Duration;

use crate::child::Program;
use crate::fake::{Fake, Tale};
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, program, with_peers};
use crate::measured::{Measured, Told};
use crate::process;

/// Into the set: what was changed again before it was told is told once, by design.
const INTO: Tale = Tale {
    instances: 1000,
    changes: 300_000,
    all_timed: false,
};
/// Each told: none is of an instance that was changed before.
const EACH: Tale = Tale {
    instances: 50_000,
    changes: 50_000,
    all_timed: true,
};
/// The same, of those who need a hundred microseconds for each.
const FEW: Tale = Tale {
    instances: 10_000,
    changes: 10_000,
    all_timed: true,
};
/// Who takes this little processor, of three hundred milliseconds, has done all that there was to do.
const AT_REST: u64 = 5_000;
const LONGEST: u32 = 200;

struct Pace {
    /// Changes in a second.
    rate: f64,
    /// Microseconds of processor for each.
    cpu: f64,
}

/// See the module.
pub async fn run() -> Result<Told, String> {
    let into = Measured::of(&with_peers(&["Go"]), 1, async |name| {
        measure(name, INTO).await
    })
    .await;
    let peers = ["Go", "aetcd", "etcd3", "npm etcd3"];
    let each = async |name| {
        let tale = if is_slow(name) { FEW } else { EACH };
        measure(name, tale).await
    };
    let each = Measured::of(&with_peers(&peers), 1, each).await;
    let (into_figures, each_figures) =
        (figures(&into, "into the set"), figures(&each, "each told"));
    Ok(into.told(into_figures).and(each.told(each_figures)))
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
        let own = format!("processor for a change {what}, µs");
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

async fn measure(name: &str, tale: Tale) -> Result<Pace, String> {
    let fake = Fake::start(tale).await?;
    let follower = Program::start(program(name)?.args(["follow", &fake.url(), "1"]))?;
    if LANGUAGES.contains(&name) {
        // Ours looks once, soon after its start, whether it has missed anything.
        fake.compared().await;
    }
    let before = process::cpu(follower.pid());
    let began = fake.tell_all().await?;
    let cpu = at_rest(&follower).await?.saturating_sub(before);
    let seen = follower.finish()?;
    let wanted = if tale.all_timed { tale.changes } else { 1 };
    let (latencies, online) = (seen.latencies(), seen.values["online"].as_u64());
    if latencies.len() as u64 != wanted || online != Some(tale.instances) {
        let told = latencies.len();
        return Err(format!("told {told} of {wanted}, and has {online:?}"));
    }
    let took = fake.since(began, latencies.last().copied().unwrap_or(f64::NAN));
    Ok(Pace {
        rate: tale.changes as f64 / took * 1e6,
        cpu: cpu as f64 / tale.changes as f64,
    })
}

/// Waits until a program has nothing to do any more; gives the processor it had until then.
async fn at_rest(program: &Program) -> Result<u64, String> {
    let mut last = process::cpu(program.pid());
    for _ in 0..LONGEST {
        tokio::time::sleep(Duration::from_millis(300)).await; // tidy: sleep, polling with a bound
        let now = process::cpu(program.pid());
        if now.saturating_sub(last) < AT_REST {
            return Ok(now);
        }
        last = now;
    }
    Err("it never rests".to_owned())
}
