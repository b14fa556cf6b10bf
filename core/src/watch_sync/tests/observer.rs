//! Who follows a part, and what must be so of all that it is told.

use super::store_model::{Scope, State, Store, key, set, value};
use crate::kv::{Change, Changes};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Observer {
    pub(super) scope: Scope,
    pub(super) view: State,
    /// The epoch and the revision of what was told last.
    at: Option<(u64, u64)>,
    known: bool,
    /// Whether what was told holds, as far as is known.
    pub(super) current: bool,
    /// The revisions of what the store has swallowed since the view was right.
    pub(super) swallowed: Vec<u64>,
    /// Nothing was told since the watch was resumed.
    resumed: bool,
    /// The newest comparison that the store has answered since.
    evidence: u64,
}

impl Observer {
    pub(super) fn new(scope: Scope, known: Option<(u64, State)>) -> Observer {
        Observer {
            scope,
            // Who follows from what it knows is told of differences alone.
            current: known.is_some(),
            known: known.is_some(),
            at: None,
            view: known.map(|(_, view)| view).unwrap_or_default(),
            swallowed: Vec::new(),
            resumed: false,
            evidence: 0,
        }
    }

    /// A watch was asked for. After a loss nothing may be told of it that is not compared.
    pub(super) fn watched(&mut self) {
        (self.resumed, self.evidence) = (!self.current && (self.known || self.at.is_some()), 0);
    }

    pub(super) fn compared(&mut self, revision: u64) {
        self.evidence = self.evidence.max(revision);
    }

    pub(super) fn tell(&mut self, told: &Changes, store: &Store) -> Result<(), String> {
        let (epoch, revision) = self.at.unwrap_or((told.epoch, 0));
        let reset = matches!(told.changes.first(), Some(Change::Reset(_)));
        if told.epoch < epoch || told.epoch > epoch && !reset {
            return Err(format!(
                "epoch {} after {epoch}, reset: {reset}",
                told.epoch
            ));
        }
        if told.epoch == epoch && told.revision < revision {
            return Err(format!("revision {} after {revision}", told.revision));
        }
        for change in &told.changes {
            self.fold(change, told, revision, epoch)?;
        }
        self.at = Some((told.epoch, told.revision));
        self.current = true;
        let resumed = std::mem::take(&mut self.resumed) && !reset;
        self.check_view(told.revision, resumed, store)
    }

    fn fold(
        &mut self,
        change: &Change,
        told: &Changes,
        last: u64,
        epoch: u64,
    ) -> Result<(), String> {
        match change {
            Change::Reset(nodes) => {
                self.view = nodes.iter().map(|n| (key(&n.key), value(n))).collect();
            }
            Change::Put(node) => {
                let once = told.epoch > epoch || node.modified > last;
                if !once || node.modified > told.revision {
                    let (at, to) = (node.modified, told.revision);
                    return Err(format!("told of revision {at} between {last} and {to}"));
                }
                set(&mut self.view, key(&node.key), Some(value(node)));
            }
            Change::Delete(name) => set(&mut self.view, key(name), None),
        }
        Ok(())
    }

    /// The view is what the store was at the revision, whole: no revision is split, none is missing.
    fn check_view(&mut self, revision: u64, resumed: bool, store: &Store) -> Result<(), String> {
        if store.ever_was(&self.view, revision, self.scope) {
            self.swallowed.retain(|at| *at > revision);
            return Ok(());
        }
        // Only what the store itself has not told can be missing; and nothing of that which a
        // comparison has shown before anything was told.
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
