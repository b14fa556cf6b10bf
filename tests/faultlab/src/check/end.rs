//! Compares the last snapshot with the store at the end, after all watchers are at rest.

use super::diagnose::different;
use super::{Comparison, Observations, Report, ViolationKind};
use crate::watcher_output::State;
use discover_testkit::clock::Micros;

impl Comparison<'_> {
    /// Checks that after convergence no instance is missing and none is a ghost.
    pub(super) fn check_end(&self, seen: &Observations, report: &mut Report) {
        let Some(last) = seen.snapshots.last() else {
            return report.add(ViolationKind::Blind, 0, "", "no snapshot was seen");
        };
        if last.state != State::Current {
            report.add(
                ViolationKind::NotCurrent,
                last.at,
                "",
                format!("{:?} at the end", last.state),
            );
        }
        let truth = self.epochs.last().expect("a history has an epoch").last();
        for id in different(truth, &last.set) {
            if self.changed_just_now(id) {
                continue;
            }
            let (right, shown) = (truth.get(id), last.set.get(id));
            let kind = match (right, shown) {
                (Some(_), None) => ViolationKind::MissingAtEnd,
                (None, Some(shown)) if self.still_held(id, shown.created) => continue,
                (None, _) => ViolationKind::GhostAtEnd,
                (Some(_), Some(_)) => ViolationKind::WrongAtEnd,
            };
            report.add(
                kind,
                last.at,
                id,
                format!("shown {shown:?}, expected {right:?}"),
            );
        }
    }

    /// Returns true for a change so close to the end that it need not have arrived yet.
    fn changed_just_now(&self, id: &str) -> bool {
        let newest = self
            .history
            .epochs
            .last()
            .into_iter()
            .flat_map(|e| e.revisions.values().rev());
        let since = self.rules.end.saturating_sub(self.rules.bound);
        let recent = newest.take_while(|revision| revision.at > since);
        let mut changes = recent.flat_map(|revision| &revision.changes);
        changes.any(|change| change.service == self.service && change.id == id)
    }

    fn still_held(&self, id: &str, created: u64) -> bool {
        let allowed = |at: Micros| {
            self.rules
                .retained
                .is_some_and(|retained| self.rules.end.saturating_sub(at) <= retained)
                && self.lost_in_fault(at)
        };
        self.deleted(id, created).is_some_and(allowed)
    }
}
