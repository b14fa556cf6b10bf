//! What the registry makes of health, and of what operators say: who is in the store, and who is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use discover_core::{ErrorKind, Instance, Result, Standing};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::Registry;
use crate::registry::key::InstanceKey;
use crate::registry::state::{Health, Mode, State, Whom};
use crate::registry::table::{self, Keep};

/// How long to wait before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many are shown or hidden at a time.
const AT_ONCE: usize = 32;

/// One registration, as the agent knows it.
pub struct Known {
    /// What it is. Its age is the store's affair.
    pub instance: Instance,
    /// How it is, and whether others see it.
    pub state: State,
    /// What was said about its health last.
    pub note: String,
    /// For how long its health has been as it is.
    pub since: Duration,
    /// What says that it lives.
    pub keep: Keep,
    /// Why others do not see what they should.
    pub error: Option<String>,
}

impl Registry {
    /// A check says how the instance is. Fails once it is not this grant's any more.
    pub async fn report(
        &self,
        key: &InstanceKey,
        grant: u64,
        health: Health,
        note: String,
    ) -> Result<()> {
        let now = self.start.elapsed();
        if self.table().report(key, Some(grant), health, note, now)? {
            self.changed.notify_one();
        }
        self.settle(key, Some(grant)).await
    }

    /// How the instance is, if this grant holds it.
    pub fn health(&self, key: &InstanceKey, grant: u64) -> Option<Health> {
        self.table().get(key, Some(grant)).ok().map(|h| h.health)
    }

    /// Holds instances back, those too that register later, or lets go of them. Says how many it concerns
    /// now.
    pub async fn hold(&self, whom: Whom, mode: Option<Mode>) -> usize {
        self.withheld().set(whom.clone(), mode);
        let count = {
            let table = self.table();
            table.iter().filter(|(key, _)| whom.means(key)).count()
        };
        if self.settle_all().await {
            self.unsettled.notify_one();
        }
        count
    }

    /// Whom operators hold back.
    pub fn held_back(&self) -> Vec<(Whom, Mode)> {
        let withheld = self.withheld();
        withheld
            .all()
            .map(|(whom, mode)| (whom.clone(), mode))
            .collect()
    }

    /// All registrations, by their services and ids.
    pub fn list(&self) -> Vec<Known> {
        let now = self.start.elapsed();
        let withheld = self.withheld();
        let table = self.table();
        let mut all: Vec<(&InstanceKey, Known)> = table
            .iter()
            .map(|(key, held)| {
                let known = Known {
                    instance: held.lease.instance(),
                    state: State::of(held.health, withheld.of(key)),
                    note: held.note.clone(),
                    since: now.saturating_sub(held.since),
                    keep: held.keep,
                    error: held.lease.error(),
                };
                (key, known)
            })
            .collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, known)| known).collect()
    }

    /// How many are in each state that any is in.
    pub fn states(&self) -> BTreeMap<&'static str, u64> {
        let withheld = self.withheld();
        let table = self.table();
        let mut states = BTreeMap::new();
        for (key, held) in table.iter() {
            let state = State::of(held.health, withheld.of(key));
            *states.entry(state.name()).or_default() += 1;
        }
        states
    }

    /// Brings into the store who should be there, and away who should not, for ever.
    pub async fn tend(self: Arc<Registry>) {
        loop {
            self.unsettled.notified().await;
            while self.settle_all().await {
                sleep(AGAIN).await;
            }
        }
    }

    /// Whether something is left to be tried again.
    async fn settle_all(&self) -> bool {
        let todo: Vec<(InstanceKey, u64)> = {
            let withheld = self.withheld();
            let table = self.table();
            let unsettled = table.iter().filter(|(key, held)| {
                let state = State::of(held.health, withheld.of(key));
                !held.lease.is_settled(state)
            });
            unsettled
                .map(|(key, held)| (key.clone(), held.grant))
                .collect()
        };
        let mut left = false;
        for some in todo.chunks(AT_ONCE) {
            let settled = some
                .iter()
                .map(|(key, grant)| self.settle(key, Some(*grant)));
            let failed = |done: &Result<()>| done.as_ref().is_err_and(|e| e.is_retriable());
            left |= join_all(settled).await.iter().any(failed);
        }
        left
    }

    /// Makes what others see of one instance what they should see.
    pub(super) async fn settle(&self, key: &InstanceKey, grant: Option<u64>) -> Result<()> {
        let gate = self.gate(key).await;
        if self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mode = self.withheld().of(key);
        let (member, health) = {
            let table = self.table();
            let held = table.get(key, grant)?;
            (held.lease.clone(), held.health)
        };
        let state = State::of(health, mode);
        let replaced = matches!(member.standing(), Standing::Replaced(_));
        if member.is_settled(state) && !replaced {
            return Ok(());
        }
        let done = if replaced {
            Err(table::replaced(key))
        } else if state.is_visible() {
            let seen = member.seen(state.warns())?;
            // Whoever was away may find its place taken.
            let free = match member.was_away() {
                true => self.check_free(key, &seen).await,
                false => Ok(()),
            };
            match free {
                Ok(()) => member.show(state.warns()).await,
                taken => taken,
            }
        } else {
            member.hide().await
        };
        let (service, id) = (&key.0, &key.1);
        match done {
            Ok(()) => {
                member.fault(None);
                tracing::info!(%service, instance = %id, state = state.name(), "instance published or withheld");
                let seen = state.is_visible().then(|| member.seen(state.warns()));
                self.see(key, seen.transpose()?.as_ref()).await;
                drop(gate);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Replaced => {
                tracing::warn!(%service, instance = %id, "registration removed: replaced by another owner");
                drop(self.table().remove(key, grant));
                Err(table::replaced(key))
            }
            Err(error) => {
                // Told once, and not with each check.
                if member.fault(Some(error.report())) {
                    tracing::warn!(
                        %service,
                        instance = %id,
                        state = state.name(),
                        error = %error.report(),
                        "cannot publish or withhold an instance, retrying"
                    );
                }
                Err(error)
            }
        }
    }
}
