//! Measures how far a watcher was behind, and when it was current again.

use super::{Comparison, Position, Report, ViolationKind};
use crate::watcher_output::{Snapshot, State};
use discover_testkit::clock::Micros;

impl Comparison<'_> {
    /// Checks the lag during the whole run and after each fault.
    pub(super) fn check_pace(
        &self,
        snapshots: &[Snapshot],
        placed: &[Position],
        report: &mut Report,
    ) {
        let first = snapshots
            .iter()
            .find(|s| s.state != State::Pending)
            .map_or(0, |s| s.at);
        let mut next = 0;
        for (number, (revision, at)) in self
            .commits()
            .filter(|(_, at)| *at >= first && *at <= self.rules.end)
            .enumerate()
        {
            while next < placed.len() && placed[next] < revision {
                next += 1;
            }
            let seen = snapshots.get(next).map_or(self.rules.end, |s| s.at);
            let behind = seen.saturating_sub(at);
            report.longest = report.longest.max(behind);
            if self.rules.behind.is_some_and(|allowed| behind > allowed) {
                let text = format!(
                    "revision {} (number {number}) was seen after {} ms",
                    revision.1,
                    behind / 1000
                );
                report.add(ViolationKind::Behind, at, "", text);
            }
        }
        for &(_, healed) in &self.rules.faults {
            let Some((expected, _)) = self.commits().filter(|(_, at)| *at <= healed).last() else {
                continue;
            };
            let current = |s: &Snapshot| s.state == State::Current && s.at >= first;
            let mut seen = snapshots.iter().zip(placed);
            let again = seen
                .find(|(s, place)| **place >= expected && current(s))
                .map(|(s, _)| s.at);
            // It may have caught up and lost the store again.
            let then = snapshots
                .iter()
                .take_while(|s| s.at <= healed + self.rules.bound)
                .last();
            let retained = then.is_some_and(current);
            let in_time = again.is_some_and(|again| again <= healed + self.rules.bound) && retained;
            if !in_time && self.rules.end > healed + self.rules.bound {
                let after = |a: Micros| {
                    format!(
                        "current {} ms after the fault ended",
                        a.saturating_sub(healed) / 1000
                    )
                };
                let text = again.map_or("never current again".to_owned(), after);
                let again = if retained {
                    ""
                } else {
                    ", but not at the bound"
                };
                report.add(ViolationKind::Late, healed, "", format!("{text}{again}"));
            }
        }
    }

    /// Returns all revisions of the service with their epochs and times.
    fn commits(&self) -> impl Iterator<Item = (Position, Micros)> {
        let ended = |epoch: usize| {
            self.history
                .epochs
                .get(epoch + 1)
                .map_or(Micros::MAX, |next| next.began)
        };
        self.epochs
            .iter()
            .enumerate()
            .flat_map(move |(epoch, states)| {
                // Revisions that an epoch inherited are expected from its beginning, lost ones never.
                let base = if epoch == 0 {
                    0
                } else {
                    self.history.epochs[epoch].base
                };
                let in_time =
                    move |(revision, at): &&(u64, Micros)| *at < ended(epoch) && *revision > base;
                states
                    .touched
                    .iter()
                    .filter(in_time)
                    .map(move |(revision, at)| ((epoch, *revision), *at))
            })
    }
}
