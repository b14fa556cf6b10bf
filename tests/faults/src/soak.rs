//! A long run: a heavy load, and a random fault every few seconds. Each round ends with a moment of
//! rest in which everything is judged, and what was judged is forgotten; meanwhile the programs under
//! test are sampled, to see whether they stay flat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::{Rules, check};
use crate::clock::{Micros, SECOND, now, pause, seconds, wait_until};
use crate::gauge::Gauge;
use crate::lab::{Lab, Setup};
use crate::load;
use crate::record::{Line, Snapshot};
use crate::run::sort;
use crate::sample::{Sample, courses, sample};
use crate::scenario::{Scenario, lasting};
use crate::watchers::MEMBERS;

/// How long one round lasts, in seconds, and how often the processes are looked at.
const ROUND: f64 = 15.0;
const LOOK: f64 = 2.5;

/// How many writes a second.
const RATE: f64 = 500.0;

/// How often the programs look at their sets, in milliseconds.
const PACE: u32 = 200;

/// What a program was last seen to hold, in its own words, and up to which revision that holds.
#[derive(Clone)]
struct Rest {
    last: Snapshot,
    until: u64,
}

/// What is known of one program.
#[derive(Default)]
struct Kept {
    rests: BTreeMap<&'static str, Rest>,
    samples: Vec<Sample>,
    compared: usize,
    broken: usize,
    longest: Micros,
}

/// Runs for so many minutes; true if no promise was broken and everything stayed flat.
pub fn soak(minutes: f64, bound: f64) -> Result<bool, String> {
    let setup = Setup {
        proxied: true,
        rate: RATE,
        pace: PACE,
        ..Setup::default()
    };
    let lab = Lab::start(&setup)?;
    let mut kept: Vec<Kept> = lab.watchers.iter().map(|_| Kept::default()).collect();
    let (began, mut rounds, mut void) = (now(), 0, 0);
    while seconds(now() - began) < minutes * 60.0 {
        let scenarios = lasting();
        let scenario = &scenarios[fastrand::usize(..scenarios.len())];
        rounds += 1;
        if let Err(why) = round(&lab, scenario, bound, &mut kept) {
            println!("round {rounds}: {}: void: {why}", scenario.name);
            void += 1;
        } else {
            let broken: usize = kept.iter().map(|k| k.broken).sum();
            let written = lab.load.committed_between(began, Micros::MAX);
            println!(
                "round {rounds}: {}: {written} writes, {broken} broken so far",
                scenario.name
            );
        }
    }
    let flat = tell(&lab, &kept, seconds(now() - began) / 60.0);
    let broken: usize = kept.iter().map(|k| k.broken).sum();
    println!(
        "{rounds} rounds, {void} void, {broken} broken promises, {}",
        if flat { "flat" } else { "not flat" }
    );
    Ok(flat && broken == 0 && void == 0)
}

fn round(lab: &Lab, scenario: &Scenario, bound: f64, kept: &mut [Kept]) -> Result<(), String> {
    let (gauge, began, earlier) = (Gauge::start(), now(), lab.faults().len());
    lab.load.resume();
    let over = AtomicBool::new(false);
    let evidence = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look(lab, kept);
                pause(LOOK);
            }
        });
        // On this thread, because a member that is started dies with the thread that started it.
        let evidence = (scenario.inject)(lab);
        wait_until(ROUND, || seconds(now() - began) >= ROUND);
        over.store(true, Ordering::Relaxed);
        evidence
    })?;
    if let Some((what, _)) = evidence.iter().find(|(_, count)| *count == 0) {
        return Err(format!("no {what}"));
    }
    lab.load.settle()?;
    let _ = lab.wait_rest(gauge.stretch(bound + 2.0));
    pause(0.5);
    let micros = (gauge.stretch(bound) * SECOND as f64) as Micros;
    let faults = lab.faults()[earlier..].to_vec();
    let rules = Rules {
        bound: micros,
        faults,
        end: now(),
        ..Rules::default()
    };
    judge(lab, &rules, kept);
    Ok(())
}

fn look(lab: &Lab, kept: &mut [Kept]) {
    for (watcher, kept) in lab.watchers.iter().zip(kept) {
        kept.samples.extend(sample(watcher.pid()));
    }
}

fn judge(lab: &Lab, rules: &Rules, kept: &mut [Kept]) {
    let history = lab.truth.history();
    let mut folded = lab.truth.head();
    for (watcher, kept) in lab.watchers.iter().zip(kept) {
        let lines: Vec<Line> = watcher.take_lines();
        let (mut seen, _) = sort(lines, rules.end);
        for service in [load::SERVICE, MEMBERS] {
            let mut seen = seen.remove(service).unwrap_or_default();
            seen.events.clear();
            let last = kept.go_on(service, &mut seen.snapshots);
            let report = check(&history, service, &seen, rules);
            for broken in &report.broken {
                println!("  {} {service}: {broken}", watcher.language);
            }
            kept.broken += report.broken.len();
            kept.compared += report.compared;
            kept.longest = kept.longest.max(report.longest);
            if let (Some(last), Some(judged)) = (last, seen.snapshots.pop()) {
                let until = history.epochs[0].same_until(service, judged.revision);
                folded = folded.min(until);
                kept.rests.insert(service, Rest { last, until });
            }
        }
    }
    lab.truth.forget_until(folded);
}

impl Kept {
    /// Puts the last snapshot of the round before first. What came before that rest is forgotten, so
    /// its revision, and any later one that shows the same, is told as that of the rest. Gives the last
    /// one as it was: a program may go on naming its revision for many rounds.
    fn go_on(&self, service: &str, snapshots: &mut Vec<Snapshot>) -> Option<Snapshot> {
        let Some(Rest { last, until }) = self.rests.get(service) else {
            return snapshots.last().cloned();
        };
        snapshots.insert(0, last.clone());
        let newest = snapshots.last().cloned();
        for snapshot in snapshots {
            if (last.revision..*until).contains(&snapshot.revision) {
                snapshot.revision = *until;
            }
        }
        newest
    }
}

fn tell(lab: &Lab, kept: &[Kept], minutes: f64) -> bool {
    let mut flat = true;
    for (watcher, kept) in lab.watchers.iter().zip(kept) {
        print!(
            "{:<8}{} compared, {} broken, longest {:.2} s",
            watcher.language,
            kept.compared,
            kept.broken,
            seconds(kept.longest)
        );
        for (what, course) in courses(&kept.samples, minutes) {
            print!("; {what} {course}");
            flat &= course.is_flat();
        }
        println!();
    }
    flat
}
