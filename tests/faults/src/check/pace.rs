//! How far a watcher was behind, and when it was current again.

use super::{Kind, Place, Report, Truth};
use crate::clock::Micros;
use crate::record::{Snapshot, State};

impl Truth<'_> {
    /// How far it was behind, in the whole run and after each fault.
    pub(super) fn check_pace(&self, snapshots: &[Snapshot], placed: &[Place], report: &mut Report) {
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
                report.add(Kind::Behind, at, "", text);
            }
        }
        for &(_, healed) in &self.rules.faults {
            let Some((owed, _)) = self.commits().filter(|(_, at)| *at <= healed).last() else {
                continue;
            };
            let current = |s: &Snapshot| s.state == State::Current && s.at >= first;
            let mut seen = snapshots.iter().zip(placed);
            let again = seen
                .find(|(s, place)| **place >= owed && current(s))
                .map(|(s, _)| s.at);
            // It may have got so far, and lost the store again.
            let then = snapshots
                .iter()
                .take_while(|s| s.at <= healed + self.rules.bound)
                .last();
            let held = then.is_some_and(current);
            let in_time = again.is_some_and(|again| again <= healed + self.rules.bound) && held;
            if !in_time && self.rules.end > healed + self.rules.bound {
                let after = |a: Micros| {
                    format!(
                        "current {} ms after the healing",
                        a.saturating_sub(healed) / 1000
                    )
                };
                let text = again.map_or("never current again".to_owned(), after);
                let again = if held { "" } else { ", and not at the bound" };
                report.add(Kind::Late, healed, "", format!("{text}{again}"));
            }
        }
    }

    /// All revisions of the service, with their epochs, and when they came.
    fn commits(&self) -> impl Iterator<Item = (Place, Micros)> {
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
                // What an epoch began with is owed from its beginning, and what it lost never.
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
