//! Reports to owners that a registration of theirs ended without their request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use discover_core::Error;
use tokio::sync::broadcast;

use super::Registry;
use crate::registry::entry::TableEntry;
use crate::registry::key::InstanceKey;

/// Number of losses that a subscriber may lag behind. Beyond it, its stream ends, and the owner compares its grants with
/// those of the agent.
const MAX_PENDING_LOSSES: usize = 16;

/// A registration that ended without a request of its owner.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The instance.
    pub key: InstanceKey,
    /// The grant that ended.
    pub grant: u64,
    /// The reason, which is what a heartbeat would return.
    pub error: Error,
}

/// Subscriptions of owners to the losses of their registrations.
#[derive(Debug, Default)]
pub struct Losses {
    owners: Mutex<HashMap<String, broadcast::Sender<Loss>>>,
}

impl Losses {
    /// Subscribes to the losses of an owner.
    pub fn subscribe(&self, owner: &str) -> broadcast::Receiver<Loss> {
        let mut owners = self.owners();
        // Owners whose streams have ended make room.
        owners.retain(|_, sender| sender.receiver_count() > 0);
        let sender = owners.entry(owner.to_owned());
        let sender = sender.or_insert_with(|| broadcast::Sender::new(MAX_PENDING_LOSSES));
        sender.subscribe()
    }

    /// Reports a loss to its owner, if it has subscribed.
    pub fn report(&self, owner: &str, loss: Loss) {
        if let Some(sender) = self.owners().get(owner) {
            // Without a receiver, the stream of the owner has ended.
            let _ = sender.send(loss);
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Loss>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Returns the subscriptions of owners.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Returns the grants of an owner.
    pub fn grants_of(&self, owner: &str) -> Vec<u64> {
        let table = self.table();
        let own = table.iter().filter(|(_, entry)| entry.owner == owner);
        own.map(|(_, entry)| entry.grant).collect()
    }

    /// Removes a registration that ended without a request of its owner, and reports it.
    pub(super) fn remove_lost(&self, key: &InstanceKey, grant: Option<u64>, error: Error) {
        let removed = self.table().remove(key, grant);
        if let Ok(removed) = removed {
            self.report_loss(key, &removed, error);
        }
    }

    /// Reports a registration that ended without a request of its owner.
    pub(super) fn report_loss<P>(&self, key: &InstanceKey, lost: &TableEntry<P>, error: Error) {
        let loss = Loss {
            key: key.clone(),
            grant: lost.grant,
            error,
        };
        self.losses.report(&lost.owner, loss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::{ErrorKind, ServiceName};

    fn loss(grant: u64) -> Loss {
        Loss {
            key: (ServiceName::new("web").unwrap(), "h:1".to_owned()),
            grant,
            error: Error::new(ErrorKind::Replaced, "gone"),
        }
    }

    #[test]
    fn an_owner_receives_its_own_losses_only_and_a_late_one_starts_again() {
        let losses = Losses::default();
        let (mut mine, mut other) = (losses.subscribe("me"), losses.subscribe("you"));
        losses.report("me", loss(1));
        losses.report("unknown", loss(2));
        assert_eq!(mine.try_recv().unwrap().grant, 1);
        assert!(other.try_recv().is_err());
        for grant in 0..=MAX_PENDING_LOSSES as u64 {
            losses.report("me", loss(grant));
        }
        assert!(matches!(
            mine.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(_))
        ));
    }

    #[test]
    fn owners_without_a_stream_are_forgotten() {
        let losses = Losses::default();
        (0..100).for_each(|n| drop(losses.subscribe(&n.to_string())));
        assert_eq!(losses.owners().len(), 1);
    }
}
