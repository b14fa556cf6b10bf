//! How many changes a second are taken in, from a server that tells them as fast as it can.

use std::time::Duration;

use crate::child::Program;
use crate::fake::{Fake, Tale};
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers, program};
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
pub async fn run() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for (tale, what) in [(INTO, "into the set"), (EACH, "each told")] {
        let raw = measure(FLOOR, tale).await?;
        for language in LANGUAGES {
            let pace = measure(language, tale).await?;
            let figure = |what: String, value: f64| Figure::new(3, language, what, value);
            let rate = figure(format!("changes a second, {what}"), pace.rate);
            figures.push(match (language, tale.all_timed) {
                ("rust", false) => rate.over(raw.rate).least(0.85),
                ("c", false) => rate.over(raw.rate).least(0.75),
                ("rust" | "c", true) => rate.over(raw.rate),
                (_, false) => rate.least(300_000.0),
                (_, true) => rate.least(60_000.0),
            });
            let cpu = figure(format!("processor for a change {what}, µs"), pace.cpu);
            figures.push(cpu.over(raw.cpu));
            for peer in peers(language)?.into_iter().filter(|_| tale.all_timed) {
                let theirs = measure(peer, FEW).await?;
                let rate = figure(format!("changes a second, {what}"), pace.rate);
                let rate = rate.against(peer, theirs.rate);
                figures.push(match peer {
                    "aetcd" => rate.least(6.5),
                    "npm etcd3" => rate.least(7.0),
                    _ => rate,
                });
            }
        }
    }
    Ok(figures)
}

async fn measure(language: &str, tale: Tale) -> Result<Pace, String> {
    let fake = Fake::start(tale).await?;
    let follower = Program::start(program(language)?.args(["follow", &fake.url(), "1"]))?;
    if LANGUAGES.contains(&language) {
        // Ours looks once, soon after its start, whether it has missed anything.
        fake.compared().await;
    }
    let before = process::cpu(follower.pid());
    let began = fake.tell_all().await?;
    let cpu = at_rest(&follower).await? - before;
    let seen = follower.finish()?;
    let wanted = if tale.all_timed { tale.changes } else { 1 };
    let (told, online) = (seen.latencies.len(), seen.values["online"].as_u64());
    if told as u64 != wanted || online != Some(tale.instances) {
        return Err(format!(
            "{language} told {told} of {wanted}, and has {online:?}"
        ));
    }
    let took = fake.since(began, seen.latencies.last().copied().unwrap_or(f64::NAN));
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
        if now - last < AT_REST {
            return Ok(now);
        }
        last = now;
    }
    Err("it never rests".to_owned())
}
