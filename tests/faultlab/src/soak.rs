//! A long run: a heavy load, and a random fault every few seconds. Each round ends with a period of rest in which everything
//! is checked, and checked data is discarded. Meanwhile the programs under test are measured, to see whether they stay flat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::{Expectations, check};
use crate::contention::ContentionGauge;
use crate::lab::{Lab, Setup};
use crate::load;
use crate::process_stats::{ProcessStats, sample, trends};
use crate::run::sort;
use crate::scenario::{Scenario, lasting};
use crate::watcher_output::{OutputLine, Snapshot};
use crate::watchers::MEMBERS;
use discover_testkit::clock::{Micros, SECOND, now, pause, seconds, wait_until};

/// Duration of a round, and the interval of measurements, in seconds.
const ROUND: f64 = 15.0;
const SAMPLE_INTERVAL: f64 = 2.5;

/// Writes per second.
const RATE: f64 = 500.0;

/// How often the programs read their sets, in milliseconds.
const PACE: u32 = 200;

/// The last snapshot of a program in a round, and the last revision that equals it.
#[derive(Clone)]
struct RoundEnd {
    last: Snapshot,
    until: u64,
}

/// What is known of one program.
#[derive(Default)]
struct WatcherRecord {
    round_ends: BTreeMap<&'static str, RoundEnd>,
    samples: Vec<ProcessStats>,
    compared: usize,
    violations: usize,
    longest: Micros,
}

/// Runs for some minutes; returns true if no guarantee was violated and everything stayed flat.
pub fn soak(minutes: f64, bound: f64) -> Result<bool, String> {
    let setup = Setup {
        proxied: true,
        rate: RATE,
        pace: PACE,
        ..Setup::default()
    };
    let lab = Lab::start(&setup)?;
    let mut records: Vec<WatcherRecord> = lab
        .watchers
        .iter()
        .map(|_| WatcherRecord::default())
        .collect();
    let (began, mut rounds, mut void) = (now(), 0, 0);
    while seconds(now() - began) < minutes * 60.0 {
        let scenarios = lasting();
        let scenario = &scenarios[fastrand::usize(..scenarios.len())];
        rounds += 1;
        if let Err(why) = round(&lab, scenario, bound, &mut records) {
            println!("round {rounds}: {}: void: {why}", scenario.name);
            void += 1;
        } else {
            let violations: usize = records.iter().map(|k| k.violations).sum();
            let written = lab.load.committed_between(began, Micros::MAX);
            println!(
                "round {rounds}: {}: {written} writes, {violations} violations so far",
                scenario.name
            );
        }
    }
    let flat = report(&lab, &records, seconds(now() - began) / 60.0);
    let violations: usize = records.iter().map(|k| k.violations).sum();
    println!(
        "{rounds} rounds, {void} void, {violations} violations, {}",
        if flat { "flat" } else { "not flat" }
    );
    Ok(flat && violations == 0 && void == 0)
}

fn round(
    lab: &Lab,
    scenario: &Scenario,
    bound: f64,
    records: &mut [WatcherRecord],
) -> Result<(), String> {
    let (gauge, began, earlier) = (ContentionGauge::start(), now(), lab.faults().len());
    lab.load.resume();
    let over = AtomicBool::new(false);
    let evidence = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                sample_processes(lab, records);
                pause(SAMPLE_INTERVAL);
            }
        });
        // On this thread: a member dies with the thread that started it.
        let evidence = (scenario.inject)(lab);
        wait_until(ROUND, || seconds(now() - began) >= ROUND);
        over.store(true, Ordering::Relaxed);
        evidence
    })?;
    if let Some((what, _)) = evidence.iter().find(|(_, count)| *count == 0) {
        return Err(format!("no {what}"));
    }
    lab.load.stop_with_stable_set()?;
    let _ = lab.wait_quiescent(gauge.stretch(bound + 2.0));
    pause(0.5);
    let micros = (gauge.stretch(bound) * SECOND as f64) as Micros;
    let faults = lab.faults()[earlier..].to_vec();
    let rules = Expectations {
        bound: micros,
        faults,
        end: now(),
        ..Expectations::default()
    };
    evaluate(lab, &rules, records);
    Ok(())
}

fn sample_processes(lab: &Lab, records: &mut [WatcherRecord]) {
    for (watcher, records) in lab.watchers.iter().zip(records) {
        records.samples.extend(sample(watcher.pid()));
    }
}

fn evaluate(lab: &Lab, rules: &Expectations, records: &mut [WatcherRecord]) {
    let history = lab.ground_truth.history();
    let mut compacted = lab.ground_truth.head();
    for (watcher, records) in lab.watchers.iter().zip(records) {
        let lines: Vec<OutputLine> = watcher.take_lines();
        let (mut seen, _) = sort(lines, rules.end);
        for service in [load::SERVICE, MEMBERS] {
            let mut seen = seen.remove(service).unwrap_or_default();
            seen.events.clear();
            let last = records.continue_from(service, &mut seen.snapshots);
            let report = check(&history, service, &seen, rules);
            for violations in &report.violations {
                println!("  {} {service}: {violations}", watcher.language);
            }
            records.violations += report.violations.len();
            records.compared += report.compared;
            records.longest = records.longest.max(report.longest);
            if let (Some(last), Some(judged)) = (last, seen.snapshots.pop()) {
                let until = history.epochs[0].same_until(service, judged.revision);
                compacted = compacted.min(until);
                records.round_ends.insert(service, RoundEnd { last, until });
            }
        }
    }
    lab.ground_truth.forget_until(compacted);
}

impl WatcherRecord {
    /// Inserts the last snapshot of the previous round. Earlier revisions are discarded, so its revision, and later ones with the
    /// same contents, are replaced by the last equal one. Returns the last snapshot unchanged: a program may keep naming its
    /// revision for many rounds.
    fn continue_from(&self, service: &str, snapshots: &mut Vec<Snapshot>) -> Option<Snapshot> {
        let Some(RoundEnd { last, until }) = self.round_ends.get(service) else {
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

fn report(lab: &Lab, records: &[WatcherRecord], minutes: f64) -> bool {
    let mut flat = true;
    for (watcher, records) in lab.watchers.iter().zip(records) {
        print!(
            "{:<8}{} compared, {} violations, longest {:.2} s",
            watcher.language,
            records.compared,
            records.violations,
            seconds(records.longest)
        );
        for (what, trend) in trends(&records.samples, minutes) {
            print!("; {what} {trend}");
            flat &= trend.is_flat();
        }
        println!();
    }
    flat
}
