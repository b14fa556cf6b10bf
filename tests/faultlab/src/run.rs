//! Runs one scenario from beginning to end and evaluates it.

use std::collections::BTreeMap;

use crate::check::{
    Expectations, Observations, Registrant, Violation, ViolationKind, check, check_protected,
    check_registrations,
};
use crate::contention::ContentionGauge;
use crate::history::History;
use crate::lab::{Evidence, Lab};
use crate::load;
use crate::scenario::{Guarantees, Scenario};
use crate::watcher_output::OutputLine;
use crate::watchers::{MEMBERS, Watcher};
use discover_testkit::clock::{Micros, SECOND, now, pause, seconds};

/// How soon after a fault a living process must be registered again, in seconds.
const REGISTERED: f64 = 2.0;

/// The result of a run.
pub struct Outcome {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// Its row of the catalogue of faults.
    pub row: &'static str,
    /// Number of members of the store.
    pub members: usize,
    /// CPU contention: how many times longer work took.
    pub busy: f64,
    /// What happened in the fault.
    pub evidence: Evidence,
    /// Why the run proves nothing: the lab failed, or the fault did not happen.
    pub void: Option<String>,
    /// One result per language.
    pub rows: Vec<LanguageResult>,
}

/// The result of one language.
pub struct LanguageResult {
    /// The language.
    pub language: &'static str,
    /// All violations.
    pub violations: Vec<Violation>,
    /// The longest lag.
    pub longest: Micros,
    /// Number of compared snapshots.
    pub compared: usize,
    /// How often the library listed again, if it reports that.
    pub relists: Option<u64>,
}

impl Outcome {
    /// Returns true if the fault happened and no guarantee was violated.
    pub fn passed(&self) -> bool {
        self.void.is_none()
            && !self.rows.is_empty()
            && self.rows.iter().all(|row| row.violations.is_empty())
    }
}

/// Runs a scenario; `bound` is the time in seconds in which a watcher must be current again.
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
    let gauge = ContentionGauge::start();
    let mut lab = Lab::start(&scenario.setup)?;
    outcome.evidence = (scenario.inject)(&lab)?;
    // The load continues for a while, so that recovered watchers receive changes.
    lab.load.resume();
    pause(1.5);
    lab.load.stop_with_stable_set()?;
    // A late watcher is a violation, found by the checker.
    let _ = lab.wait_quiescent(gauge.stretch(bound + 2.0));
    pause(0.5);
    lab.ground_truth.verify()?;
    let history = lab.ground_truth.history();
    let unknown = history.missing(
        lab.load
            .revisions()
            .into_iter()
            .map(|(_, revision)| revision),
    );
    if !unknown.is_empty() {
        return Err(format!(
            "the ground truth lacks confirmed writes: {unknown:?}"
        ));
    }
    outcome.busy = gauge.busy();
    let micros = |time: f64| (time * SECOND as f64) as Micros;
    let stretched = |bound: f64| micros(gauge.stretch(bound));
    let guarantees = &scenario.guarantees;
    let rules = Expectations {
        bound: stretched(bound),
        registered: stretched(REGISTERED),
        faults: lab.faults(),
        behind: guarantees.behind.map(|slack| stretched(bound + slack)),
        retained: guarantees.retained.map(micros),
        end: now(),
    };
    let written =
        |(from, healed): &(Micros, Micros)| lab.ground_truth.count_between(*from, *healed);
    let writes = rules.faults.iter().map(written).sum();
    outcome.void = missed_fault(guarantees, rules.faults.len(), writes, &outcome.evidence);
    let all: Vec<Registrant> = lab
        .watchers
        .iter()
        .flat_map(|watcher| watcher.registrants(rules.end))
        .collect();
    for watcher in std::mem::take(&mut lab.watchers) {
        outcome
            .rows
            .push(evaluate(watcher, &all, &history, &rules, guarantees));
    }
    if outcome.void.is_some() || outcome.rows.iter().any(|row| !row.violations.is_empty()) {
        keep_logs(lab);
    }
    Ok(())
}

/// Stops a program and evaluates its output.
fn evaluate(
    watcher: Watcher,
    all: &[Registrant],
    history: &History,
    rules: &Expectations,
    guarantees: &Guarantees,
) -> LanguageResult {
    let language = watcher.language;
    let own = watcher.registrants(rules.end);
    let (lines, died) = watcher.finish();
    let (seen, relists) = sort(lines, rules.end);
    let mut row = LanguageResult {
        language,
        violations: Vec::new(),
        longest: 0,
        compared: 0,
        relists,
    };
    for service in [load::SERVICE, MEMBERS] {
        let none = Observations::default();
        let report = check(history, service, seen.get(service).unwrap_or(&none), rules);
        row.longest = row.longest.max(report.longest);
        row.compared += report.compared;
        row.violations.extend(report.violations);
    }
    let mut strict = rules.clone();
    if guarantees.always_registered {
        strict.faults.clear();
    }
    row.violations
        .extend(check_registrations(history, MEMBERS, &own, &strict));
    if guarantees.protected {
        let shown = seen.get(MEMBERS).map_or(&[][..], |seen| &seen.snapshots);
        row.violations.extend(check_protected(shown, all, rules));
    }
    if let Some(text) = died {
        let (kind, at, id) = (ViolationKind::Died, rules.end, String::new());
        row.violations.push(Violation { kind, at, id, text });
    }
    row
}

/// Returns why the fault did not happen, if so: such a run proves nothing.
pub fn missed_fault(
    guarantees: &Guarantees,
    faults: usize,
    writes: usize,
    evidence: &Evidence,
) -> Option<String> {
    if faults == 0 {
        return Some("the injector recorded no fault".to_owned());
    }
    if evidence.is_empty() {
        return Some("the injector returned no evidence".to_owned());
    }
    if let Some((what, _)) = evidence.iter().find(|(_, count)| *count == 0) {
        return Some(format!("the fault did not happen: no {what}"));
    }
    let wanted = guarantees.writes;
    (writes < wanted)
        .then(|| format!("the fault did not happen: {writes} of {wanted} writes during it"))
}

/// Sorts the output by service, up to `end`, and returns the number of relists. As the programs leave one after the other,
/// they see each other go offline; that is not evaluated.
pub fn sort(lines: Vec<OutputLine>, end: Micros) -> (BTreeMap<String, Observations>, Option<u64>) {
    let mut seen: BTreeMap<String, Observations> = BTreeMap::new();
    let mut relists = None;
    for line in lines {
        match line {
            OutputLine::Snapshot(service, snapshot) if snapshot.at <= end => {
                seen.entry(service).or_default().snapshots.push(snapshot)
            }
            OutputLine::Event(service, event) if event.at <= end => {
                seen.entry(service).or_default().events.push(event)
            }
            OutputLine::Metrics(values) => relists = values.get("relists").copied(),
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

/// Describes a run for the terminal.
pub fn describe(outcome: &Outcome) -> String {
    let evidence: Vec<_> = outcome
        .evidence
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let mut text = format!(
        "{} on {}: {} (CPU contention: {:.1})\n",
        outcome.scenario,
        outcome.members,
        evidence.join(", "),
        outcome.busy
    );
    if let Some(why) = &outcome.void {
        text += &format!("  void: {why}\n");
    }
    for row in &outcome.rows {
        for violations in row.violations.iter().take(8) {
            text += &format!(
                "  {} at {:.3}: {violations}\n",
                row.language,
                seconds(violations.at)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_its_fault_is_void() {
        let guarantees = Guarantees {
            behind: None,
            retained: None,
            protected: false,
            always_registered: false,
            writes: 20,
        };
        let met = vec![("packets stopped", 7), ("elections", 1)];
        let missed = vec![("packets stopped", 0), ("elections", 1)];
        assert_eq!(missed_fault(&guarantees, 1, 20, &met), None);
        assert!(
            missed_fault(&guarantees, 0, 20, &met).is_some(),
            "no fault at all"
        );
        assert!(
            missed_fault(&guarantees, 1, 19, &met).is_some(),
            "the load had ended"
        );
        assert!(
            missed_fault(&guarantees, 1, 20, &missed).is_some(),
            "nothing was stopped"
        );
        assert!(
            missed_fault(&guarantees, 1, 20, &Evidence::new()).is_some(),
            "no evidence"
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
        assert!(!outcome(None).passed(), "no watcher");
    }
}
