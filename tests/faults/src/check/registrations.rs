//! A living process is registered all the time, but for what a fault takes and a little more.

use super::{Broken, Kind, Rules};
use crate::clock::Micros;
use crate::history::History;
use crate::record::Snapshot;

/// How much later than the programs the witness may hear of a change.
const HEARING: Micros = 50_000;

/// A process that holds a registration.
#[derive(Clone, Debug)]
pub struct Registrant {
    /// Of the instance.
    pub id: String,
    /// When it was told that it is registered.
    pub from: Micros,
    /// When it began to leave.
    pub until: Micros,
}

/// Finds who was missing for too long.
pub fn check_registrations(
    history: &History,
    service: &str,
    registrants: &[Registrant],
    rules: &Rules,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    for registrant in registrants {
        for (from, until) in absences(history, service, registrant) {
            // The longest part of the absence that no fault excuses.
            let unexcused = unexcused(from, until, rules);
            // The program knows of its registration a moment before the witness does.
            let unheard = from == registrant.from && until - from <= HEARING;
            if unexcused > 0 && !unheard {
                let text = format!(
                    "missing for {} ms, {} ms more than any fault excuses",
                    (until - from) / 1000,
                    unexcused / 1000
                );
                let (kind, id) = (Kind::Unregistered, registrant.id.clone());
                broken.push(Broken {
                    kind,
                    at: from,
                    id,
                    text,
                });
            }
        }
    }
    broken
}

/// Finds who was taken away from a watcher while and after the store lost everybody at once.
pub fn check_protected(
    snapshots: &[Snapshot],
    registrants: &[Registrant],
    rules: &Rules,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    for registrant in registrants {
        let lost = |s: &&Snapshot| {
            let in_fault = rules.faults.iter().any(|(began, _)| s.at >= *began);
            let shown =
                s.set.contains_key(&registrant.id) || s.suspects.contains_key(&registrant.id);
            in_fault && s.at < registrant.until && !shown
        };
        if let Some(snapshot) = snapshots.iter().find(lost) {
            let (kind, id) = (Kind::TakenAway, registrant.id.clone());
            let text = format!("not there at revision {}", snapshot.revision);
            broken.push(Broken {
                kind,
                at: snapshot.at,
                id,
                text,
            });
        }
    }
    broken
}

/// When the key of a registrant was missing while the process lived.
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

/// How much of an absence lies outside of all faults and what is granted after them. While the store
/// could be reached all the time, no more than that is granted.
fn unexcused(from: Micros, until: Micros, rules: &Rules) -> Micros {
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
