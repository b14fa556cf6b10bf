//! Checks that a living process stays registered, except during faults and a grace period after them.

use super::{Expectations, Violation, ViolationKind};
use crate::history::History;
use crate::watcher_output::Snapshot;
use discover_testkit::clock::Micros;

/// How much later than the programs the recorder may receive a change.
const RECORDER_LAG: Micros = 50_000;

/// A process that holds a registration.
#[derive(Clone, Debug)]
pub struct Registrant {
    /// The instance.
    pub id: String,
    /// When it received the confirmation of its registration.
    pub from: Micros,
    /// When it began to leave.
    pub until: Micros,
}

/// Finds registrations that were missing for too long.
pub fn check_registrations(
    history: &History,
    service: &str,
    registrants: &[Registrant],
    rules: &Expectations,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for registrant in registrants {
        for (from, until) in absences(history, service, registrant) {
            // The part of the absence that no fault excuses.
            let unexcused = unexcused(from, until, rules);
            // The program knows of its registration slightly earlier than the recorder.
            let unheard = from == registrant.from && until - from <= RECORDER_LAG;
            if unexcused > 0 && !unheard {
                let text = format!(
                    "missing for {} ms, {} ms more than any fault excuses",
                    (until - from) / 1000,
                    unexcused / 1000
                );
                let (kind, id) = (ViolationKind::Unregistered, registrant.id.clone());
                violations.push(Violation {
                    kind,
                    at: from,
                    id,
                    text,
                });
            }
        }
    }
    violations
}

/// Finds instances that a watcher removed while, or after, the store lost all of them at once.
pub fn check_protected(
    snapshots: &[Snapshot],
    registrants: &[Registrant],
    rules: &Expectations,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for registrant in registrants {
        let lost = |s: &&Snapshot| {
            let in_fault = rules.faults.iter().any(|(began, _)| s.at >= *began);
            let shown =
                s.set.contains_key(&registrant.id) || s.suspects.contains_key(&registrant.id);
            in_fault && s.at < registrant.until && !shown
        };
        if let Some(snapshot) = snapshots.iter().find(lost) {
            let (kind, id) = (ViolationKind::TakenAway, registrant.id.clone());
            let text = format!("not there at revision {}", snapshot.revision);
            violations.push(Violation {
                kind,
                at: snapshot.at,
                id,
                text,
            });
        }
    }
    violations
}

/// Returns the intervals in which the key of a registrant was missing while its process lived.
fn absences(history: &History, service: &str, registrant: &Registrant) -> Vec<(Micros, Micros)> {
    let mut changes: Vec<(Micros, bool)> = Vec::new();
    for (number, epoch) in history.epochs.iter().enumerate() {
        let ended = history
            .epochs
            .get(number + 1)
            .map_or(Micros::MAX, |next| next.began);
        let mut present = false;
        let mut begun = number == 0;
        for (revision, content) in &epoch.revisions {
            if !begun && *revision > epoch.base {
                changes.push((epoch.began, present));
                begun = true;
            }
            let own = content
                .changes
                .iter()
                .filter(|c| c.service == service && c.id == registrant.id);
            for change in own {
                present = change.now.is_some();
                if begun && content.at < ended {
                    changes.push((content.at.max(epoch.began), present));
                }
            }
        }
        if !begun {
            changes.push((epoch.began, present));
        }
    }
    let mut absences = Vec::new();
    let mut missing = Some(0);
    for (at, present) in changes {
        match (present, missing) {
            (true, Some(since)) => {
                absences.push((since, at));
                missing = None;
            }
            (false, None) => missing = Some(at),
            _ => {}
        }
    }
    absences.extend(missing.map(|since| (since, Micros::MAX)));
    let clip =
        |(from, until): (Micros, Micros)| (from.max(registrant.from), until.min(registrant.until));
    absences
        .into_iter()
        .map(clip)
        .filter(|(from, until)| from < until)
        .collect()
}

/// Returns the part of an instance's absence, in microseconds, that no fault explains. Each fault and the grace period after it
/// are excluded; if the store stayed reachable, only one grace period is.
fn unexcused(from: Micros, until: Micros, rules: &Expectations) -> Micros {
    if rules.behind.is_some() {
        return (until - from).saturating_sub(rules.registered);
    }
    let mut at = from;
    let mut unexcused = 0;
    let mut faults = rules.faults.clone();
    faults.sort_unstable();
    for (began, healed) in faults {
        if began > at {
            unexcused += began.min(until).saturating_sub(at);
        }
        at = at.max((healed + rules.registered).min(until));
    }
    unexcused + until.saturating_sub(at)
}
