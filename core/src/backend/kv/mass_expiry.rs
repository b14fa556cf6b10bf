//! Mass-expiry protection: keeps instances whose leases a faulty store has ended as suspect for a grace period.
//!
//! A store that was unavailable for longer than a TTL expires all leases when it recovers, before the owners
//! can renew them. Only evidence counts: the view stream reports whether the store was at fault within the last
//! TTL (it was unreachable, elected a leader, or was rolled back), and asks the store which leases have expired. An
//! instance whose key was deleted while its lease is alive was deleted on purpose and goes offline at once. While
//! the store is healthy, an expired instance goes offline at once too, unless the service would become empty.
//!
//! An instance that was reported offline is never shown again. As a recovering store may expire leases in several
//! batches, each expired instance of the first batches is shown as suspect for a short period (it is doubted). The
//! guard does no I/O; `view_stream.rs` asks the store for evidence.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::kv::membership::MembershipChange;
use crate::model::{Instance, View};
use crate::mutants::mutant;

/// The smallest set that is protected.
const MIN_MASS_SIZE: usize = 5;
/// Departures within this time count as one mass.
const MASS_WINDOW: Duration = Duration::from_secs(5);
/// The period for which a single expiry of a faulty store is doubted, because more expiries may follow.
const DOUBT_PERIOD: Duration = Duration::from_secs(1);
/// The largest number of departures that are remembered. Beyond it some are forgotten, and count as deleted.
const MAX_DEPARTURES: usize = 200_000;

type Time = Duration;

/// The protection of one set. Times are durations since a fixed start.
pub(super) struct MassExpiryGuard {
    grace: Duration,
    /// True if expiries of a healthy store are treated like those of a faulty one.
    always: bool,
    /// The instances that left within the mass window, by id.
    departed: BTreeMap<Box<str>, LeftInstance>,
    /// The expired instances that rejoined within the mass window, with the time they left. The first instances of
    /// a mass expiry may rejoin before the last ones leave.
    rejoined: BTreeMap<Box<str>, Time>,
    /// The instances that left in the last view and have not been reported offline yet.
    undecided: BTreeMap<Box<str>, (Arc<Instance>, u64)>,
    /// The instances that left and are still shown, by id.
    suspects: BTreeMap<Box<str>, Suspect>,
    /// True if the store was at fault when the last view arrived.
    store_at_fault: bool,
    /// The last view of the store.
    view: View,
}

struct LeftInstance {
    at: Time,
    grant: u64,
    /// True if the store has confirmed that the lease expired.
    expired: bool,
}

struct Suspect {
    until: Time,
    instance: Arc<Instance>,
    /// True until it is known whether the instance is one of a mass.
    doubted: bool,
}

impl MassExpiryGuard {
    pub(super) fn new(grace: Duration, always: bool) -> MassExpiryGuard {
        let (departed, rejoined, undecided, suspects, view) = Default::default();
        MassExpiryGuard {
            grace,
            always,
            departed,
            rejoined,
            undecided,
            suspects,
            store_at_fault: false,
            view,
        }
    }

    /// Returns the time at which `expire` must be called.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.suspects.values().map(|suspect| suspect.until).min()
    }

    /// Records a view and the membership changes that led to it. Returns the grants for which the store must be
    /// asked whether they expired, and then `apply_evidence` called. If it returns none, the instances that left are
    /// offline.
    pub(super) fn observe(
        &mut self,
        view: &View,
        changes: Vec<MembershipChange>,
        store_at_fault: bool,
        now: Time,
    ) -> Vec<u64> {
        let recent = |at: Time| now.saturating_sub(at) <= MASS_WINDOW;
        self.departed.retain(|_, departure| recent(departure.at));
        self.rejoined.retain(|_, at| recent(*at));
        self.store_at_fault = store_at_fault || self.always;
        self.view = view.clone();
        for change in changes {
            match change {
                MembershipChange::Joined(instance) => self.record_join(&instance, now),
                MembershipChange::Left(instance, grant) => {
                    self.record_departure(instance, grant, now)
                }
            }
        }
        let mut grants = self.grants_in_doubt();
        grants.sort_unstable();
        grants.dedup();
        if grants.is_empty() {
            self.undecided.clear();
        }
        grants
    }

    /// Returns the grants of the instances that would be held if they have expired.
    fn grants_in_doubt(&self) -> Vec<u64> {
        let size = self.view.instances.len() + self.suspects.len();
        if self.undecided.is_empty() || size + self.departed.len() < MIN_MASS_SIZE {
            return Vec::new();
        }
        if self.view.instances.is_empty() {
            let departures = self
                .departed
                .values()
                .filter(|departure| !departure.expired);
            return departures.map(|departure| departure.grant).collect();
        }
        match mutant!(expiries_of_a_healthy_store_are_doubted: true, self.store_at_fault) {
            true => self.undecided.values().map(|(_, grant)| *grant).collect(),
            false => Vec::new(),
        }
    }

    fn record_departure(&mut self, instance: Arc<Instance>, grant: u64, now: Time) {
        let id: Box<str> = instance.id().into();
        self.rejoined.remove(&id);
        // Without a lease it can only have been deleted.
        if grant == 0 {
            return;
        }
        let departure = LeftInstance {
            at: now,
            grant,
            expired: false,
        };
        self.departed.insert(id.clone(), departure);
        if self.departed.len() > MAX_DEPARTURES {
            self.departed.pop_first();
        }
        self.undecided.insert(id, (instance, grant));
    }

    /// Records an instance that joined. It replaces the suspects with its id or its address: a restarted instance may
    /// have another id.
    fn record_join(&mut self, joined: &Instance, now: Time) {
        let id = joined.id();
        self.undecided.remove(id);
        let departed = self.departed.remove(id);
        let mut rejoined_at = departed
            .filter(|departure| departure.expired)
            .map(|departure| departure.at);
        if mutant!(a_rejoined_instance_stays_suspect: false, true) {
            let before = self.suspects.len();
            let address = joined.address();
            self.suspects
                .retain(|held, suspect| **held != *id && suspect.instance.address() != address);
            if self.suspects.len() < before {
                rejoined_at = rejoined_at.or(Some(now));
            }
        }
        if let Some(at) = rejoined_at
            && mutant!(rejoined_instances_do_not_count: false, true)
        {
            self.rejoined.insert(id.into(), at);
        }
    }

    /// Applies the answer of the store: of the `asked` grants, those in `expired_grants` do not exist any more.
    /// The instances that left in the last view and expired are held for the grace period if they are a mass, and
    /// are doubted otherwise. The others are offline.
    pub(super) fn apply_evidence(&mut self, asked: &[u64], expired_grants: &[u64], now: Time) {
        let (asked, expired_grants): (HashSet<u64>, HashSet<u64>) = (
            asked.iter().copied().collect(),
            expired_grants.iter().copied().collect(),
        );
        for departure in self.departed.values_mut() {
            departure.expired |= asked.contains(&departure.grant)
                && (expired_grants.contains(&departure.grant)
                    || mutant!(deleted_instances_become_suspect: true, false));
        }
        self.move_replaced_to_rejoined();
        let is_mass = self.is_mass();
        let until = match is_mass {
            true => now + self.grace,
            false => now + mutant!(single_expiries_are_not_doubted: Duration::ZERO, DOUBT_PERIOD),
        };
        let is_held = (is_mass || self.store_at_fault)
            && mutant!(expired_instances_are_not_suspect: false, true);
        for (id, (instance, _)) in std::mem::take(&mut self.undecided) {
            let departure = self.departed.get(&id);
            if is_held && departure.is_some_and(|departure| departure.expired) {
                let suspect = Suspect {
                    until,
                    instance: Arc::new(instance.to_suspect()),
                    doubted: !is_mass,
                };
                self.suspects.insert(id, suspect);
            }
        }
        if is_mass {
            for suspect in self.suspects.values_mut().filter(|suspect| suspect.doubted) {
                (suspect.until, suspect.doubted) = (until, false);
            }
        }
    }

    /// Counts the expired instances whose address is back under another id as rejoined: their processes were
    /// restarted before their leases expired.
    fn move_replaced_to_rejoined(&mut self) {
        if self.undecided.is_empty() || mutant!(an_address_that_is_back_stays_suspect: true, false)
        {
            return;
        }
        let present = self.view.instances.values();
        let present: HashSet<&str> = present.map(|instance| instance.address()).collect();
        for (id, (instance, _)) in &self.undecided {
            if present.contains(instance.address())
                && let Some(departure) = self.departed.remove(id)
                && departure.expired
            {
                self.rejoined.insert(id.clone(), departure.at);
            }
        }
    }

    /// Returns true if more than half of the instances expired within the mass window, including those that rejoined.
    fn is_mass(&self) -> bool {
        let expired = self
            .departed
            .iter()
            .filter(|(_, departure)| departure.expired);
        let unheld = expired
            .filter(|(id, _)| !self.suspects.contains_key(*id))
            .count();
        let away = unheld + self.suspects.len();
        let all = self.view.instances.len() + away;
        all >= MIN_MASS_SIZE && (away + self.rejoined.len()) * 2 > all
    }

    /// Removes instances whose period is over. Returns the view without them, if there are any.
    pub(super) fn expire(&mut self, now: Time) -> Option<View> {
        let before = self.suspects.len();
        self.suspects.retain(|_, suspect| {
            now < suspect.until
                || match suspect.doubted {
                    true => mutant!(doubt_never_ends: true, false),
                    false => mutant!(grace_never_ends: true, false),
                }
        });
        (self.suspects.len() < before).then(|| self.add_suspects(self.view.clone()))
    }

    /// Returns the view of the store with the instances that it may have lost.
    pub(super) fn add_suspects(&self, mut view: View) -> View {
        for suspect in self.suspects.values() {
            let instance = &suspect.instance;
            view.instances.insert(instance.order(), instance.clone());
        }
        view
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
