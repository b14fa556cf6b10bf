//! Runs one scenario from beginning to end, and judges it.

use std::collections::BTreeMap;

use crate::check::{
    Broken, Kind, Registrant, Rules, Seen, check, check_protected, check_registrations,
};
use crate::clock::{Micros, SECOND, now, pause, seconds};
use crate::gauge::Gauge;
use crate::history::History;
use crate::lab::{Evidence, Lab};
use crate::load;
use crate::record::Line;
use crate::scenario::{Promise, Scenario};
use crate::watchers::{MEMBERS, Watcher};

/// How soon after a fault a living process is registered again, in seconds.
const REGISTERED: f64 = 2.0;

/// How a run ended.
pub struct Outcome {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// Its row of the catalogue.
    pub row: &'static str,
    /// How many members the store had.
    pub members: usize,
    /// How many times longer things took because of what else the machine did.
    pub busy: f64,
    /// What happened in the fault.
    pub evidence: Evidence,
    /// Why the run proves nothing: the lab broke, or the fault was not met.
    pub void: Option<String>,
    /// One for each language.
    pub rows: Vec<Row>,
}

/// What is said of one language.
pub struct Row {
    /// Which.
    pub language: &'static str,
    /// All broken promises.
    pub broken: Vec<Broken>,
    /// The longest that it was behind.
    pub longest: Micros,
    /// How many snapshots were compared.
    pub compared: usize,
    /// How often it listed anew, if it tells.
    pub relists: Option<u64>,
}

impl Outcome {
    /// Whether the fault was met and every promise kept.
    pub fn passed(&self) -> bool {
        self.void.is_none()
            && !self.rows.is_empty()
            && self.rows.iter().all(|row| row.broken.is_empty())
    }
}

/// Runs a scenario; `bound` is how many seconds a watcher has to be current again.
pub fn run(scenario: &Scenario, bound: f64) -> Outcome {
    let mut outcome = Outcome {
        scenario: scenario.name,
        row: scenario.row,
        members: scenario.setup.members,
        busy: 1.0,
        evidence: Evidence::new(),
        void: None,
        rows: Vec::new(),
    };
    if let Err(why) = attempt(scenario, bound, &mut outcome) {
        outcome.void = Some(why);
    }
    outcome
}

fn attempt(scenario: &Scenario, bound: f64, outcome: &mut Outcome) -> Result<(), String> {
    let gauge = Gauge::start();
    let mut lab = Lab::start(&scenario.setup)?;
    outcome.evidence = (scenario.inject)(&lab)?;
    // The load goes on for a while, so that who has come back is seen to follow.
    lab.load.resume();
    pause(1.5);
    lab.load.settle()?;
    // Who is late is late, and is judged for it.
    let _ = lab.wait_rest(gauge.stretch(bound + 2.0));
    pause(0.5);
    lab.truth.verify()?;
    let history = lab.truth.history();
    let unknown = history.missing(
        lab.load
            .revisions()
            .into_iter()
            .map(|(_, revision)| revision),
    );
    if !unknown.is_empty() {
        return Err(format!(
            "the recorded truth lacks confirmed writes: {unknown:?}"
        ));
    }
    outcome.busy = gauge.busy();
    let micros = |time: f64| (time * SECOND as f64) as Micros;
    let stretched = |bound: f64| micros(gauge.stretch(bound));
    let promise = &scenario.promise;
    let rules = Rules {
        bound: stretched(bound),
        registered: stretched(REGISTERED),
        faults: lab.faults(),
        behind: promise.behind.map(|slack| stretched(bound + slack)),
        held: promise.held.map(micros),
        end: now(),
    };
    let written = |(from, healed): &(Micros, Micros)| lab.truth.count_between(*from, *healed);
    let writes = rules.faults.iter().map(written).sum();
    outcome.void = unmet(promise, rules.faults.len(), writes, &outcome.evidence);
    let all: Vec<Registrant> = lab
        .watchers
        .iter()
        .flat_map(|watcher| watcher.registrants(rules.end))
        .collect();
    for watcher in std::mem::take(&mut lab.watchers) {
        outcome
            .rows
            .push(judge(watcher, &all, &history, &rules, promise));
    }
    if outcome.void.is_some() || outcome.rows.iter().any(|row| !row.broken.is_empty()) {
        keep_logs(lab);
    }
    Ok(())
}

/// Lets a program leave, and judges it.
fn judge(
    watcher: Watcher,
    all: &[Registrant],
    history: &History,
    rules: &Rules,
    promise: &Promise,
) -> Row {
    let language = watcher.language;
    let own = watcher.registrants(rules.end);
    let (lines, died) = watcher.finish();
    let (seen, relists) = sort(lines, rules.end);
    let mut row = Row {
        language,
        broken: Vec::new(),
        longest: 0,
        compared: 0,
        relists,
    };
    for service in [load::SERVICE, MEMBERS] {
        let none = Seen::default();
        let report = check(history, service, seen.get(service).unwrap_or(&none), rules);
        row.longest = row.longest.max(report.longest);
        row.compared += report.compared;
        row.broken.extend(report.broken);
    }
    let mut strict = rules.clone();
    if promise.kept {
        strict.faults.clear();
    }
    row.broken
        .extend(check_registrations(history, MEMBERS, &own, &strict));
    if promise.protected {
        let shown = seen.get(MEMBERS).map_or(&[][..], |seen| &seen.snapshots);
        row.broken.extend(check_protected(shown, all, rules));
    }
    if let Some(text) = died {
        let (kind, at, id) = (Kind::Died, rules.end, String::new());
        row.broken.push(Broken { kind, at, id, text });
    }
    row
}

/// Why the fault was none, if it was: a run that met none proves nothing.
pub fn unmet(
    promise: &Promise,
    faults: usize,
    writes: usize,
    evidence: &Evidence,
) -> Option<String> {
    if faults == 0 {
        return Some("the injector told of no fault".to_owned());
    }
    if evidence.is_empty() {
        return Some("the injector has nothing to show".to_owned());
    }
    if let Some((what, _)) = evidence.iter().find(|(_, count)| *count == 0) {
        return Some(format!("the fault was not met: no {what}"));
    }
    let wanted = promise.writes;
    (writes < wanted)
        .then(|| format!("the fault was not met: {writes} writes during it, of {wanted}"))
}

/// Lines by service, up to the end, and how often the library listed anew. As the programs leave one
/// after the other, they see each other go; that is not judged.
pub fn sort(lines: Vec<Line>, end: Micros) -> (BTreeMap<String, Seen>, Option<u64>) {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut relists = None;
    for line in lines {
        match line {
            Line::Snapshot(service, snapshot) if snapshot.at <= end => {
                seen.entry(service).or_default().snapshots.push(snapshot)
            }
            Line::Event(service, event) if event.at <= end => {
                seen.entry(service).or_default().events.push(event)
            }
            Line::Metrics(values) => relists = values.get("relists").copied(),
            _ => {}
        }
    }
    (seen, relists)
}

fn keep_logs(lab: Lab) {
    if std::env::var_os("FAULTS_KEEP").is_some() {
        eprintln!("logs: {}", lab.keep().display());
    }
}

/// What a run says of itself, for people who watch.
pub fn describe(outcome: &Outcome) -> String {
    let evidence: Vec<_> = outcome
        .evidence
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let mut text = format!(
        "{} on {}: {} (machine busy: {:.1})\n",
        outcome.scenario,
        outcome.members,
        evidence.join(", "),
        outcome.busy
    );
    if let Some(why) = &outcome.void {
        text += &format!("  void: {why}\n");
    }
    for row in &outcome.rows {
        for broken in row.broken.iter().take(8) {
            text += &format!(
                "  {} at {:.3}: {broken}\n",
                row.language,
                seconds(broken.at)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_was_not_met_is_none() {
        let promise = Promise {
            behind: None,
            held: None,
            protected: false,
            kept: false,
            writes: 20,
        };
        let met = vec![("packets stopped", 7), ("elections", 1)];
        let missed = vec![("packets stopped", 0), ("elections", 1)];
        assert_eq!(unmet(&promise, 1, 20, &met), None);
        assert!(unmet(&promise, 0, 20, &met).is_some(), "no fault at all");
        assert!(unmet(&promise, 1, 19, &met).is_some(), "the load had ended");
        assert!(
            unmet(&promise, 1, 20, &missed).is_some(),
            "nothing was stopped"
        );
        assert!(
            unmet(&promise, 1, 20, &Evidence::new()).is_some(),
            "nothing to show"
        );
    }

    #[test]
    fn a_void_run_has_not_passed() {
        let outcome = |void: Option<&str>| Outcome {
            scenario: "none",
            row: "",
            members: 1,
            busy: 1.0,
            evidence: Evidence::new(),
            void: void.map(str::to_owned),
            rows: Vec::new(),
        };
        assert!(!outcome(Some("not met")).passed());
        assert!(!outcome(None).passed(), "nobody watched");
    }
}
