//! A model of a store: one key and its leases.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{StoreCall, Time};
use crate::model::Grant;

/// The TTL of every grant.
pub(super) const TTL: Duration = Duration::from_secs(6);

/// The lease of another owner. Leases of this owner have lower numbers; 0 is no lease.
pub(super) const OTHER_LEASE: u64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    /// The lease and value of the key.
    pub(super) held: Option<(u64, u32)>,
    leases: BTreeMap<u64, Time>,
    lease_count: u64,
    /// Counts the changes of the key.
    pub(super) changes: u64,
    /// True if other registrations share the leases and keep them alive.
    pub(super) shared: bool,
    /// True while the store is paused, so that nothing is renewed.
    pub(super) frozen: bool,
}

/// The progress of a call in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallStage {
    Sent,
    /// The key was free at this change count; this lease was created.
    KeyFree(u64, u64),
}

impl Store {
    /// Creates the store with the first registration.
    pub(super) fn new(value: u32, shared: bool) -> (Store, Grant) {
        let mut store = Store {
            held: None,
            leases: BTreeMap::new(),
            lease_count: 0,
            changes: 0,
            shared,
            frozen: false,
        };
        let id = store.lease(Duration::ZERO);
        store.set(Some((id, value)));
        (store, Grant { id, ttl: TTL })
    }

    pub(super) fn set(&mut self, held: Option<(u64, u32)>) {
        self.held = held;
        self.changes += 1;
    }

    pub(super) fn owner(&self) -> Option<u64> {
        self.held.map(|(owner, _)| owner)
    }

    /// Returns true if a lease of this owner holds the key.
    pub(super) fn held_by_this_owner(&self) -> bool {
        self.owner()
            .is_some_and(|owner| owner != 0 && owner < OTHER_LEASE)
    }

    fn lease(&mut self, now: Time) -> u64 {
        if let (true, Some(id)) = (self.shared, self.leases.keys().last()) {
            return *id;
        }
        self.lease_count += 1;
        self.leases.insert(self.lease_count, now + TTL);
        self.lease_count
    }

    /// Advances the clock of the store: leases expire with their keys.
    pub(super) fn advance(&mut self, now: Time) {
        if self.shared && !self.frozen {
            // The other registrations renew the shared lease in time.
            self.leases
                .values_mut()
                .for_each(|until| *until = now + TTL);
        }
        self.leases.retain(|_, until| now < *until);
        self.delete_orphans();
    }

    fn delete_orphans(&mut self) {
        let gone =
            |owner: u64| owner != 0 && owner < OTHER_LEASE && !self.leases.contains_key(&owner);
        if self.owner().is_some_and(gone) {
            self.set(None);
        }
    }

    /// Returns the time at which the next lease expires.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.leases.values().min().copied()
    }

    /// A new etcd leader extends each lease by a full TTL.
    pub(super) fn elect(&mut self, now: Time) {
        self.leases
            .values_mut()
            .for_each(|until| *until = now + TTL);
    }

    /// Renews a lease; false if it does not exist.
    pub(super) fn renew(&mut self, lease: u64, now: Time) -> bool {
        let until = self.leases.get_mut(&lease);
        until.map(|until| *until = now + TTL).is_some()
    }

    /// Revokes all leases of this owner.
    pub(super) fn revoke(&mut self) {
        self.leases.clear();
        self.delete_orphans();
    }

    pub(super) fn wipe(&mut self) {
        self.leases.clear();
        self.set(None);
    }

    /// Deletes the key if that lease holds it, as the clean-up after a lost answer does.
    pub(super) fn delete_held(&mut self, lease: u64) {
        if self.owner() == Some(lease) {
            self.set(None);
        }
    }

    /// Executes one more step of a call; `None` until it is complete.
    pub(super) fn serve(
        &mut self,
        call: &StoreCall<u32>,
        stage: &mut CallStage,
        now: Time,
    ) -> Option<Result<Option<Grant>>> {
        let answer = match call {
            StoreCall::Restore(value) => return self.restore(*value, stage, now),
            StoreCall::Renew(grant) => match self.renew(grant.id, now) {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::LeaseLost, "the lease is gone")),
            },
            StoreCall::Update { value, grant, .. } | StoreCall::Rewrite(value, grant) => {
                match self.owner() {
                    Some(owner) if owner == grant.id => {
                        self.set(Some((owner, *value)));
                        Ok(())
                    }
                    Some(owner) if owner != 0 => Err(replaced()),
                    _ => Err(Error::new(ErrorKind::LeaseLost, "deleted or overwritten")),
                }
            }
            StoreCall::Unregister(grant) => {
                self.delete_held(grant.id);
                Ok(())
            }
        };
        Some(answer.map(|()| None))
    }

    fn restore(
        &mut self,
        value: u32,
        stage: &mut CallStage,
        now: Time,
    ) -> Option<Result<Option<Grant>>> {
        match *stage {
            CallStage::Sent if self.owner().is_some_and(|owner| owner >= OTHER_LEASE) => {
                Some(Err(replaced()))
            }
            CallStage::Sent => {
                *stage = CallStage::KeyFree(self.lease(now), self.changes);
                None
            }
            CallStage::KeyFree(id, _) if !self.leases.contains_key(&id) => {
                Some(Err(Error::new(ErrorKind::LeaseLost, "the lease is gone")))
            }
            CallStage::KeyFree(_, seen) if seen != self.changes => {
                Some(Err(Error::new(ErrorKind::Unavailable, "the key changed")))
            }
            CallStage::KeyFree(id, _) => {
                self.set(Some((id, value)));
                Some(Ok(Some(Grant { id, ttl: TTL })))
            }
        }
    }
}

fn replaced() -> Error {
    Error::new(ErrorKind::Replaced, "another owner")
}
