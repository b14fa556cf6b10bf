//! Model test of mass-expiry protection: random expiries, deletions and rejoins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{instance, view};
use super::*;
use crate::model::Registration;
use crate::prove;

const GRACE: Time = Duration::from_secs(30);
const FAULT_PERIOD: Time = Duration::from_secs(15);

#[derive(Clone, Debug)]
enum Operation {
    /// The leases of these end.
    Expire(u8),
    /// These are deleted while their leases live.
    Delete(u8),
    /// These instances register again, with their first ids or other ones.
    Rejoin(u8, bool),
    /// This instance registers with another id before the lease of its first registration expires.
    Restart(u16),
    /// The store is at fault: it is reachable again, or has a new leader.
    Fault,
    Wait(u64),
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => any::<u8>().prop_map(Operation::Expire),
        2 => (0..8u8).prop_map(|port| Operation::Expire(1 << port)),
        2 => any::<u8>().prop_map(Operation::Delete),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(ports, same)| Operation::Rejoin(ports, same)),
        1 => (0..8u16).prop_map(Operation::Restart),
        2 => Just(Operation::Fault),
        3 => prop_oneof![0..4000u64, 4000..40_000u64].prop_map(Operation::Wait),
    ]
}

struct Harness {
    guard: MassExpiryGuard,
    now: Time,
    /// The end of the time for which the store counts as faulty.
    faulty_until: Time,
    created: u64,
    /// The registered instances by port, with the time they registered.
    present: BTreeMap<u16, u64>,
    /// The ports that registered under another id last.
    renamed: BTreeSet<u16>,
    /// The instances, by port, that were reported offline and have not registered since.
    offline: BTreeSet<u16>,
    /// The instances whose lease expired, by port, with the time of the expiry and the lease.
    expired: BTreeMap<u16, (Time, u64)>,
    /// The expired leases. Each instance has its own, numbered by its registration time.
    ended: BTreeSet<u64>,
    /// The expired leases about which the guard has asked.
    confirmed: BTreeSet<u64>,
    /// The instances that left while the store was faulty, or in an expiry that emptied the service.
    may_be_shown: BTreeSet<u16>,
    /// The instances that must be shown, with the end of that period.
    must_be_shown: BTreeMap<u16, Time>,
    /// The instances that rejoined, with the time they left.
    rejoined: BTreeMap<u16, Time>,
}

impl Harness {
    fn new() -> Harness {
        Harness {
            guard: MassExpiryGuard::new(GRACE, false),
            now: Duration::from_secs(100),
            faulty_until: Duration::ZERO,
            created: 8,
            present: (0..8).map(|port| (port, u64::from(port) + 1)).collect(),
            renamed: BTreeSet::new(),
            offline: BTreeSet::new(),
            expired: BTreeMap::new(),
            ended: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            may_be_shown: BTreeSet::new(),
            must_be_shown: BTreeMap::new(),
            rejoined: BTreeMap::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Expire(ports) => {
                let size = self.present.len() + self.held();
                let leaving = self.take(*ports);
                let faulty = self.now < self.faulty_until;
                let empties = self.present.is_empty();
                for (port, lease) in &leaving {
                    self.ended.insert(*lease);
                    self.expired.insert(*port, (self.now, *lease));
                    if faulty || empties {
                        self.may_be_shown.insert(*port);
                    }
                    if size < MIN_MASS_SIZE || !(faulty || empties) {
                        continue;
                    }
                    let back = self.rejoined.values();
                    let back = back.filter(|at| self.now <= **at + MASS_WINDOW).count();
                    let period = match (leaving.len() + back) * 2 > size {
                        true => GRACE,
                        false if faulty => DOUBT_PERIOD,
                        false => continue,
                    };
                    self.must_be_shown.insert(*port, self.now + period);
                }
                self.depart(leaving)
            }
            Operation::Delete(ports) => {
                let leaving = self.take(*ports);
                for (port, _) in &leaving {
                    self.expired.remove(port);
                    self.must_be_shown.remove(port);
                }
                self.depart(leaving)
            }
            Operation::Rejoin(ports, first_id) => {
                let back: Vec<u16> = (0..8).filter(|port| ports & (1 << port) != 0).collect();
                let absent = |port: &u16| !self.present.contains_key(port);
                let back: Vec<u16> = back.into_iter().filter(absent).collect();
                let joined = |port| self.rejoin(port, *first_id);
                let joined = back.into_iter().map(joined).collect();
                self.observe(joined)
            }
            Operation::Restart(port) => {
                let Some(lease) = self.present.remove(port) else {
                    return Ok(());
                };
                let before = self.instance(*port, lease);
                self.ended.insert(lease);
                let first_id = self.renamed.contains(port);
                let joined = self.rejoin(*port, first_id);
                self.observe(vec![joined, MembershipChange::Left(before, lease)])
            }
            Operation::Fault => {
                self.faulty_until = self.now + FAULT_PERIOD;
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

    fn rejoin(&mut self, port: u16, first_id: bool) -> MembershipChange {
        let same_id = self.renamed.contains(&port) != first_id;
        self.created += 1;
        self.present.insert(port, self.created);
        match first_id {
            true => self.renamed.remove(&port),
            false => self.renamed.insert(port),
        };
        // An instance counts if it has the id of one that is known to have expired.
        if let Some((at, lease)) = self.expired.remove(&port)
            && same_id
            && self.confirmed.contains(&lease)
        {
            self.rejoined.insert(port, at);
        }
        self.must_be_shown.remove(&port);
        self.may_be_shown.remove(&port);
        self.offline.remove(&port);
        MembershipChange::Joined(self.instance(port, self.created))
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

    /// Returns the number of instances that must be shown although they left.
    fn held(&self) -> usize {
        let held = self.must_be_shown.values();
        held.filter(|until| self.now < **until).count()
    }

    fn instance(&self, port: u16, created: u64) -> Arc<Instance> {
        match self.renamed.contains(&port) {
            false => instance(port + 1, created),
            true => {
                let made = Registration::new("web", port + 1).unwrap();
                let made = made
                    .host("h")
                    .unwrap()
                    .id(&format!("other-{port}"))
                    .unwrap();
                Arc::new(made.instance(created))
            }
        }
    }

    fn depart(&mut self, leaving: Vec<(u16, u64)>) -> Result<(), String> {
        if leaving.is_empty() {
            return Ok(());
        }
        let left = |(port, created): (u16, u64)| {
            MembershipChange::Left(self.instance(port, created), created)
        };
        let changes = leaving.into_iter().map(left).collect();
        self.observe(changes)
    }

    /// Does what `view_stream.rs` does, with a store that knows which leases have expired.
    fn observe(&mut self, changes: Vec<MembershipChange>) -> Result<(), String> {
        let mut now = view([]);
        for (port, created) in &self.present {
            let instance = self.instance(*port, *created);
            now.instances.insert(instance.order(), instance);
        }
        let faulty = self.now < self.faulty_until;
        let asked = self.guard.observe(&now, changes, faulty, self.now);
        if !asked.is_empty() {
            let ended = |owner: &u64| self.ended.contains(owner);
            let ended: Vec<u64> = asked.iter().copied().filter(ended).collect();
            self.guard.apply_evidence(&asked, &ended, self.now);
            self.confirmed.extend(ended);
        }
        let shown = self.guard.add_suspects(now);
        self.check(&shown)
    }

    fn check(&mut self, shown: &View) -> Result<(), String> {
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
                (true, Some(false)) => {}
                (false, None) if !must_be_shown => {
                    self.offline.insert(port);
                }
                (false, Some(true)) if !self.may_be_shown.contains(&port) => {
                    return Err(format!("{port} is held although the store was healthy"));
                }
                (false, Some(true)) if self.offline.contains(&port) => {
                    return Err(format!(
                        "{port} is shown again after it was reported offline"
                    ));
                }
                (false, Some(true))
                    if expired.is_some_and(|(at, _)| self.now < *at + MASS_WINDOW + GRACE) => {}
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

/// A registered instance is shown once and not as suspect, a deleted one is not shown, one that a faulty store expired
/// in a mass is shown as suspect for the grace period and no longer, and one that was reported offline stays so.
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
