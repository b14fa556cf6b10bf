//! Explains what is wrong with a snapshot that matches no revision.

use std::collections::BTreeSet;

use super::{Comparison, Report, ViolationKind};
use crate::history::{Epoch, Instance, Set};
use crate::watcher_output::Snapshot;

/// How many later revisions are compared.
const AHEAD: usize = 300;

impl Comparison<'_> {
    /// Adds the violations of a snapshot, compared with this epoch or a later one.
    pub(super) fn diagnose(&self, epoch: usize, snapshot: &Snapshot, report: &mut Report) {
        let epochs = &self.history.epochs;
        // A revision of a later epoch is compared with that epoch.
        let begun =
            (epoch..epochs.len()).filter(|e| *e == epoch || epochs[*e].began <= snapshot.at);
        let nearest = begun
            .min_by_key(|e| self.differences(*e, snapshot))
            .unwrap_or(epoch);
        let expected = &epochs[nearest];
        let Some(set) = self.epochs[nearest].at(snapshot.revision) else {
            let text = format!(
                "revision {}; the last revision of the store is {}",
                snapshot.revision,
                expected.head()
            );
            return report.add(ViolationKind::UnknownRevision, snapshot.at, "", text);
        };
        if let Some((kind, fits)) = self.ahead_or_torn(expected, set, snapshot) {
            let text = format!(
                "named revision {}, equals revision {fits}",
                snapshot.revision
            );
            return report.add(kind, snapshot.at, "", text);
        }
        for id in different(set, &snapshot.set) {
            let (right, shown) = (set.get(id), snapshot.set.get(id));
            let kind = match (right, shown) {
                (Some(_), None) => ViolationKind::Lost,
                (None, Some(shown)) if !self.ever_was(id, shown) => ViolationKind::Phantom,
                (None, _) => ViolationKind::Ghost,
                (Some(right), Some(shown)) if right.created != shown.created => {
                    ViolationKind::WrongCreated
                }
                (Some(_), Some(_)) => ViolationKind::WrongValue,
            };
            let text = format!(
                "at revision {}: shown {shown:?}, expected {right:?}",
                snapshot.revision
            );
            report.add(kind, snapshot.at, id, text);
        }
    }

    fn differences(&self, epoch: usize, snapshot: &Snapshot) -> usize {
        let set = self.epochs[epoch].at(snapshot.revision);
        set.map_or(usize::MAX, |set| different(set, &snapshot.set).len())
    }

    /// Returns the kind and revision if the set equals a later revision, or this revision mixed with a part of another.
    fn ahead_or_torn(
        &self,
        epoch: &Epoch,
        set: &Set,
        snapshot: &Snapshot,
    ) -> Option<(ViolationKind, u64)> {
        let mut later = set.clone();
        let coming = epoch.revisions.range(snapshot.revision + 1..);
        for (number, revision) in coming.take(AHEAD) {
            if revision.apply(self.service, &mut later) && later == snapshot.set {
                return Some((ViolationKind::Ahead, *number));
            }
        }
        let (this, next) = (snapshot.revision, snapshot.revision + 1);
        let before = self.state_at(epoch, this - 1);
        if self.is_part(epoch, this, &before, &snapshot.set) {
            return Some((ViolationKind::Torn, this));
        }
        let torn = self.is_part(epoch, next, set, &snapshot.set);
        torn.then_some((ViolationKind::Torn, next))
    }

    /// Returns true if the set is the one before `revision` with some, but not all, of its changes.
    fn is_part(&self, epoch: &Epoch, revision: u64, before: &Set, shown: &Set) -> bool {
        let revision = epoch.revisions.get(&revision).cloned().unwrap_or_default();
        let done = |id: &&str| {
            let mut changes = revision
                .changes
                .iter()
                .filter(|c| c.service == self.service);
            changes.any(|c| c.id == **id && shown.get(*id) == c.now.as_ref())
        };
        let different = different(before, shown);
        !different.is_empty() && different.iter().all(done)
    }

    fn state_at(&self, epoch: &Epoch, revision: u64) -> Set {
        let mut set = Set::new();
        for (_, revision) in epoch.revisions.range(..=revision) {
            revision.apply(self.service, &mut set);
        }
        set
    }

    fn ever_was(&self, id: &str, shown: &Instance) -> bool {
        let revisions = self
            .history
            .epochs
            .iter()
            .flat_map(|epoch| epoch.revisions.values());
        let mut changes = revisions
            .flat_map(|r| &r.changes)
            .filter(|c| c.service == self.service && c.id == id);
        changes.any(|c| {
            c.now
                .as_ref()
                .is_some_and(|now| now.created == shown.created)
        })
    }
}

/// Returns the ids whose instances differ.
pub(super) fn different<'a>(one: &'a Set, other: &'a Set) -> Vec<&'a str> {
    let ids: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = |id: &&String| one.get(*id) != other.get(*id);
    ids.into_iter()
        .filter(differs)
        .map(String::as_str)
        .collect()
}
