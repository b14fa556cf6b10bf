//! Subscriber of a range, with the invariants of everything that is emitted to it.

use super::store_model::{Scope, State, Store, key, set, value};
use crate::kv::{Change, Changes};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Observer {
    pub(super) scope: Scope,
    pub(super) view: State,
    /// Epoch and revision of the last emitted changes.
    at: Option<(u64, u64)>,
    known: bool,
    /// Whether the view is current, as far as the machine knows.
    pub(super) current: bool,
    /// Revisions whose changes the store has lost since the view was right.
    pub(super) swallowed: Vec<u64>,
    /// Whether nothing was emitted since the watch was resumed.
    resumed: bool,
    /// Revision of the newest list of keys since then.
    evidence: u64,
}

impl Observer {
    pub(super) fn new(scope: Scope, known: Option<(u64, State)>) -> Observer {
        Observer {
            scope,
            // A subscriber with known state receives only differences.
            current: known.is_some(),
            known: known.is_some(),
            at: None,
            view: known.map(|(_, view)| view).unwrap_or_default(),
            swallowed: Vec::new(),
            resumed: false,
            evidence: 0,
        }
    }

    /// Records that a watch was requested. After a resume nothing may be emitted before an audit.
    pub(super) fn watched(&mut self) {
        (self.resumed, self.evidence) = (!self.current && (self.known || self.at.is_some()), 0);
    }

    pub(super) fn compared(&mut self, revision: u64) {
        self.evidence = self.evidence.max(revision);
    }

    pub(super) fn check_emitted(&mut self, emitted: &Changes, store: &Store) -> Result<(), String> {
        let (epoch, revision) = self.at.unwrap_or((emitted.epoch, 0));
        let reset = matches!(emitted.changes.first(), Some(Change::Reset(_)));
        if emitted.epoch < epoch || emitted.epoch > epoch && !reset {
            return Err(format!(
                "epoch {} after {epoch}, reset: {reset}",
                emitted.epoch
            ));
        }
        if emitted.epoch == epoch && emitted.revision < revision {
            return Err(format!("revision {} after {revision}", emitted.revision));
        }
        for change in &emitted.changes {
            self.fold(change, emitted, revision, epoch)?;
        }
        self.at = Some((emitted.epoch, emitted.revision));
        self.current = true;
        let resumed = std::mem::take(&mut self.resumed) && !reset;
        self.check_view(emitted.revision, resumed, store)
    }

    fn fold(
        &mut self,
        change: &Change,
        emitted: &Changes,
        last: u64,
        epoch: u64,
    ) -> Result<(), String> {
        match change {
            Change::Reset(nodes) => {
                self.view = nodes.iter().map(|n| (key(&n.key), value(n))).collect();
            }
            Change::Put(node) => {
                let once = emitted.epoch > epoch || node.modified > last;
                if !once || node.modified > emitted.revision {
                    let (at, to) = (node.modified, emitted.revision);
                    return Err(format!("emitted revision {at} between {last} and {to}"));
                }
                set(&mut self.view, key(&node.key), Some(value(node)));
            }
            Change::Delete(name) => set(&mut self.view, key(name), None),
        }
        Ok(())
    }

    /// Checks that the view equals the store at the revision: no revision is split, none is missing.
    fn check_view(&mut self, revision: u64, resumed: bool, store: &Store) -> Result<(), String> {
        if store.ever_was(&self.view, revision, self.scope) {
            self.swallowed.retain(|at| *at > revision);
            return Ok(());
        }
        // A change may be missing only if the store lost it, and if no list of keys showed it before the
        // first emission.
        let unseen = |at: &u64| *at <= revision && !(resumed && *at <= self.evidence);
        if self.swallowed.iter().any(unseen) {
            return Ok(());
        }
        let truth = store.now().at(revision, self.scope);
        let view = &self.view;
        Err(format!(
            "at {revision} the view is {view:?} and no history of the store was so; now {truth:?}"
        ))
    }
}
