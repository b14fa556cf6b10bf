//! Model test of mass-expiry protection: random expiries, deletions and rejoins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{instance, view};
use super::*;
use crate::prove;

const GRACE: Time = Duration::from_secs(30);
const RECENT_RECONNECT: Time = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Operation {
    /// The leases of these end.
    Expire(u8),
    /// These are deleted while their leases live.
    Delete(u8),
    /// This instance registers again.
    Rejoin(u16),
    /// The store is reachable again.
    Reconnect,
    Wait(u64),
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => any::<u8>().prop_map(Operation::Expire),
        2 => (0..8u8).prop_map(|port| Operation::Expire(1 << port)),
        2 => any::<u8>().prop_map(Operation::Delete),
        4 => (0..8u16).prop_map(Operation::Rejoin),
        1 => Just(Operation::Reconnect),
        3 => prop_oneof![0..4000u64, 4000..40_000u64].prop_map(Operation::Wait),
    ]
}

struct Harness {
    guard: MassExpiryGuard,
    now: Time,
    /// The end of the time that counts as soon after a reconnect.
    recently_disconnected: Time,
    created: u64,
    /// The registered instances by port, with the time they registered.
    present: BTreeMap<u16, u64>,
    /// The instances whose lease expired, by port, with the time of the expiry.
    expired: BTreeMap<u16, Time>,
    /// The expired leases. Each instance has its own, numbered by its registration time.
    ended: BTreeSet<u64>,
    /// The instances that must be shown, with the end of that period.
    must_be_shown: BTreeMap<u16, Time>,
    /// The instances that rejoined, with the time they left.
    rejoined: BTreeMap<u16, Time>,
}

impl Harness {
    fn new() -> Harness {
        Harness {
            guard: MassExpiryGuard::new(GRACE),
            now: Duration::from_secs(100),
            recently_disconnected: Duration::ZERO,
            created: 8,
            present: (0..8).map(|port| (port, u64::from(port) + 1)).collect(),
            expired: BTreeMap::new(),
            ended: BTreeSet::new(),
            must_be_shown: BTreeMap::new(),
            rejoined: BTreeMap::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Expire(ports) => {
                let all = self.present.len();
                let gone = self.take(*ports);
                let back = self.rejoined.values();
                let back = back.filter(|at| self.now <= **at + MASS_WINDOW).count();
                for (port, lease) in &gone {
                    self.ended.insert(*lease);
                    self.expired.insert(*port, self.now);
                    if (gone.len() + back) * 2 > all && all >= MIN_MASS_SIZE {
                        self.must_be_shown.insert(*port, self.now + GRACE);
                    } else if self.now < self.recently_disconnected && all >= MIN_MASS_SIZE {
                        self.must_be_shown.insert(*port, self.now + DOUBT_PERIOD);
                    }
                }
                self.depart(gone)
            }
            Operation::Delete(ports) => {
                let gone = self.take(*ports);
                for (port, _) in &gone {
                    self.expired.remove(port);
                    self.must_be_shown.remove(port);
                }
                self.depart(gone)
            }
            Operation::Rejoin(port) => {
                if self.present.contains_key(port) {
                    return Ok(());
                }
                self.created += 1;
                self.present.insert(*port, self.created);
                if let Some(at) = self.expired.remove(port) {
                    self.rejoined.insert(*port, at);
                }
                self.must_be_shown.remove(port);
                self.observe(vec![MembershipChange::Joined(instance(
                    *port + 1,
                    self.created,
                ))])
            }
            Operation::Reconnect => {
                self.recently_disconnected = self.now + RECENT_RECONNECT;
                Ok(())
            }
            Operation::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                let due = self
                    .guard
                    .next_expiry()
                    .is_some_and(|wake| wake <= self.now);
                match due.then(|| self.guard.expire(self.now)).flatten() {
                    Some(view) => self.check(&view),
                    None if due => Err("`expire` changed nothing at its time".into()),
                    None => Ok(()),
                }
            }
        }
    }

    fn take(&mut self, ports: u8) -> Vec<(u16, u64)> {
        let present = std::mem::take(&mut self.present);
        let (gone, left): (BTreeMap<_, _>, _) = present
            .into_iter()
            .partition(|(port, _)| ports & (1 << port) != 0);
        self.present = left;
        self.rejoined.retain(|port, _| !gone.contains_key(port));
        gone.into_iter().collect()
    }

    fn depart(&mut self, gone: Vec<(u16, u64)>) -> Result<(), String> {
        if gone.is_empty() {
            return Ok(());
        }
        let went = |(port, created): (u16, u64)| {
            MembershipChange::Left(instance(port + 1, created), created)
        };
        self.observe(gone.into_iter().map(went).collect())
    }

    /// Does what `view_stream.rs` does, with a store that knows which leases have expired.
    fn observe(&mut self, changes: Vec<MembershipChange>) -> Result<(), String> {
        let mut now = view([]);
        for (port, created) in &self.present {
            let instance = instance(*port + 1, *created);
            now.instances.insert(instance.order(), instance);
        }
        let asked = self.guard.observe(
            &now,
            changes,
            self.now < self.recently_disconnected,
            self.now,
        );
        if !asked.is_empty() {
            let ended = |owner: &u64| self.ended.contains(owner);
            let gone: Vec<u64> = asked.iter().copied().filter(ended).collect();
            self.guard.apply_evidence(&asked, &gone, self.now);
        }
        let shown = self.guard.add_suspects(now);
        self.check(&shown)
    }

    fn check(&self, shown: &View) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for instance in shown.instances.values() {
            if seen
                .insert(instance.port() - 1, instance.is_suspect())
                .is_some()
            {
                return Err(format!("{} is shown twice", instance.port()));
            }
        }
        for port in 0..8 {
            let (shown, present) = (seen.get(&port), self.present.contains_key(&port));
            let expired = self.expired.get(&port);
            let must_be_shown = self
                .must_be_shown
                .get(&port)
                .is_some_and(|until| self.now < *until);
            match (present, shown) {
                (true, Some(false)) | (false, None) if !must_be_shown => {}
                (true, Some(false)) => {}
                (false, Some(true))
                    if expired.is_some_and(|at| self.now < *at + MASS_WINDOW + GRACE) => {}
                other => {
                    return Err(format!(
                        "{port} present, shown as suspect: {other:?}, must_be_shown: {must_be_shown}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn holds(operations: Vec<Operation>) -> Result<(), String> {
    let mut harness = Harness::new();
    operations
        .iter()
        .try_for_each(|operation| harness.apply(operation))?;
    harness.apply(&Operation::Wait(60_000))
}

/// A registered instance is shown once and not as suspect, a deleted one is not shown, and one that expired in
/// a mass is shown as suspect for the grace period and no longer.
#[test]
fn protection_keeps_expired_instances_and_no_others() {
    prove::check_property(
        file!(),
        2_000,
        prop::collection::vec(any_operation(), 1..30),
        holds,
    );
}

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_mass_expiry_protection_is_found() {
    let operations = prop::collection::vec(any_operation(), 1..30);
    prove::check_mutants("backend", 2_000, Vec::new, &operations, &holds);
}
