//! Compares the last snapshot with the store at the end, when everything has come to rest.

use super::diagnose::different;
use super::{Kind, Report, Seen, Truth};
use crate::clock::Micros;
use crate::record::State;

impl Truth<'_> {
    /// No ghost and nothing missing after convergence.
    pub(super) fn check_end(&self, seen: &Seen, report: &mut Report) {
        let Some(last) = seen.snapshots.last() else {
            return report.add(Kind::Blind, 0, "", "no snapshot was seen");
        };
        if last.state != State::Current {
            report.add(
                Kind::NotCurrent,
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
                (Some(_), None) => Kind::MissingAtEnd,
                (None, Some(shown)) if self.still_held(id, shown.created) => continue,
                (None, _) => Kind::GhostAtEnd,
                (Some(_), Some(_)) => Kind::WrongAtEnd,
            };
            report.add(
                kind,
                last.at,
                id,
                format!("it shows {shown:?}, right is {right:?}"),
            );
        }
    }

    /// What came so shortly before the end is not owed yet.
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
                .held
                .is_some_and(|held| self.rules.end.saturating_sub(at) <= held)
                && self.lost_in_fault(at)
        };
        self.deleted(id, created).is_some_and(allowed)
    }
}
