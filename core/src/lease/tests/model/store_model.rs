//! One key and the leases of a store, as far as a registration can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{Call, Time};
use crate::model::Grant;

/// What the store grants.
pub(super) const TTL: Duration = Duration::from_secs(6);

/// The lease of somebody else. Ours have lower numbers; 0 is none at all.
pub(super) const OTHER: u64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    /// The lease that holds the key, and the value.
    pub(super) held: Option<(u64, u32)>,
    leases: BTreeMap<u64, Time>,
    made: u64,
    /// Counts the changes of the key.
    pub(super) changes: u64,
    /// Leases serve others too, who keep them alive.
    pub(super) shared: bool,
    /// It stands still, so nobody renews anything.
    pub(super) frozen: bool,
}

/// How far a call has come in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Asked,
    /// The key was free when it had changed so often; a lease was made.
    Free(u64, u64),
}

impl Store {
    /// With the first registration in it.
    pub(super) fn new(value: u32, shared: bool) -> (Store, Grant) {
        let mut store = Store {
            held: None,
            leases: BTreeMap::new(),
            made: 0,
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

    /// Whether the key is under a lease that was made for us.
    pub(super) fn is_ours(&self) -> bool {
        self.owner()
            .is_some_and(|owner| owner != 0 && owner < OTHER)
    }

    fn lease(&mut self, now: Time) -> u64 {
        if let (true, Some(id)) = (self.shared, self.leases.keys().last()) {
            return *id;
        }
        self.made += 1;
        self.leases.insert(self.made, now + TTL);
        self.made
    }

    /// The clock of the store: leases end, and what they hold goes.
    pub(super) fn pass(&mut self, now: Time) {
        if self.shared && !self.frozen {
            // Those who share the lease renew it in time.
            self.leases
                .values_mut()
                .for_each(|until| *until = now + TTL);
        }
        self.leases.retain(|_, until| now < *until);
        self.drop_orphans();
    }

    fn drop_orphans(&mut self) {
        let gone = |owner: u64| owner != 0 && owner < OTHER && !self.leases.contains_key(&owner);
        if self.owner().is_some_and(gone) {
            self.set(None);
        }
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.leases.values().min().copied()
    }

    /// A new leader gives each lease its whole time again.
    pub(super) fn elect(&mut self, now: Time) {
        self.leases
            .values_mut()
            .for_each(|until| *until = now + TTL);
    }

    /// Gives a lease its whole time again, if it is there.
    pub(super) fn renew(&mut self, lease: u64, now: Time) -> bool {
        let until = self.leases.get_mut(&lease);
        until.map(|until| *until = now + TTL).is_some()
    }

    /// All leases of ours end at once.
    pub(super) fn revoke(&mut self) {
        self.leases.clear();
        self.drop_orphans();
    }

    pub(super) fn wipe(&mut self) {
        self.leases.clear();
        self.set(None);
    }

    /// Deletes the key if that lease holds it: what is done behind a put whose answer was lost.
    pub(super) fn delete_held(&mut self, lease: u64) {
        if self.owner() == Some(lease) {
            self.set(None);
        }
    }

    /// One more step of a call; none while it is not done.
    pub(super) fn serve(
        &mut self,
        call: &Call<u32>,
        stage: &mut Stage,
        now: Time,
    ) -> Option<Result<Option<Grant>>> {
        let answer = match call {
            Call::RestoreOnly(value) => return self.put_back(*value, stage, now),
            Call::Renew(grant) => match self.renew(grant.id, now) {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::LeaseLost, "the lease is gone")),
            },
            Call::Update(value, grant) | Call::Settle(value, grant) => match self.owner() {
                Some(owner) if owner == grant.id => {
                    self.set(Some((owner, *value)));
                    Ok(())
                }
                Some(owner) if owner != 0 => Err(replaced()),
                _ => Err(Error::new(ErrorKind::LeaseLost, "deleted or overwritten")),
            },
            Call::Unregister(grant) => {
                self.delete_held(grant.id);
                Ok(())
            }
        };
        Some(answer.map(|()| None))
    }

    fn put_back(
        &mut self,
        value: u32,
        stage: &mut Stage,
        now: Time,
    ) -> Option<Result<Option<Grant>>> {
        match *stage {
            Stage::Asked if self.owner().is_some_and(|owner| owner >= OTHER) => {
                Some(Err(replaced()))
            }
            Stage::Asked => {
                *stage = Stage::Free(self.lease(now), self.changes);
                None
            }
            Stage::Free(id, _) if !self.leases.contains_key(&id) => {
                Some(Err(Error::new(ErrorKind::LeaseLost, "the lease is gone")))
            }
            Stage::Free(_, seen) if seen != self.changes => {
                Some(Err(Error::new(ErrorKind::Unavailable, "the key changed")))
            }
            Stage::Free(id, _) => {
                self.set(Some((id, value)));
                Some(Ok(Some(Grant { id, ttl: TTL })))
            }
        }
    }
}

fn replaced() -> Error {
    Error::new(ErrorKind::Replaced, "another owner")
}
