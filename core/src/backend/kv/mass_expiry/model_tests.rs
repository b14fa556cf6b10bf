//! Random lives and deaths against protection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{instance, view};
use super::*;
use crate::prove;

const GRACE: Time = Duration::from_secs(30);
const LATELY: Time = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Operation {
    /// The leases of these end.
    Expire(u8),
    /// These are deleted while their leases live.
    Delete(u8),
    /// One registers again.
    Back(u16),
    /// The store is back after a loss.
    Loss,
    Wait(u64),
}

fn any_op() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => any::<u8>().prop_map(Operation::Expire),
        2 => (0..8u8).prop_map(|port| Operation::Expire(1 << port)),
        2 => any::<u8>().prop_map(Operation::Delete),
        4 => (0..8u16).prop_map(Operation::Back),
        1 => Just(Operation::Loss),
        3 => prop_oneof![0..4000u64, 4000..40_000u64].prop_map(Operation::Wait),
    ]
}

struct Harness {
    protect: MassExpiryGuard,
    now: Time,
    /// Until when the store was away lately.
    lately: Time,
    created: u64,
    /// Who is there, by port, with when it came.
    there: BTreeMap<u16, u64>,
    /// Whose lease has ended, and when.
    expired: BTreeMap<u16, Time>,
    /// The leases that have ended; each instance has one of its own, named by when it came.
    ended: BTreeSet<u64>,
    /// Who must be held until when.
    owed: BTreeMap<u16, Time>,
    /// Who went and when, of those that are back.
    back: BTreeMap<u16, Time>,
}

impl Harness {
    fn new() -> Harness {
        Harness {
            protect: MassExpiryGuard::new(GRACE),
            now: Duration::from_secs(100),
            lately: Duration::ZERO,
            created: 8,
            there: (0..8).map(|port| (port, u64::from(port) + 1)).collect(),
            expired: BTreeMap::new(),
            ended: BTreeSet::new(),
            owed: BTreeMap::new(),
            back: BTreeMap::new(),
        }
    }

    fn apply(&mut self, op: &Operation) -> Result<(), String> {
        match op {
            Operation::Expire(who) => {
                let all = self.there.len();
                let gone = self.take(*who);
                let back = self.back.values();
                let back = back.filter(|at| self.now <= **at + TOGETHER).count();
                for (port, lease) in &gone {
                    self.ended.insert(*lease);
                    self.expired.insert(*port, self.now);
                    if (gone.len() + back) * 2 > all && all >= FEW {
                        self.owed.insert(*port, self.now + GRACE);
                    } else if self.now < self.lately && all >= FEW {
                        self.owed.insert(*port, self.now + DOUBT);
                    }
                }
                self.went(gone)
            }
            Operation::Delete(who) => {
                let gone = self.take(*who);
                for (port, _) in &gone {
                    self.expired.remove(port);
                    self.owed.remove(port);
                }
                self.went(gone)
            }
            Operation::Back(port) => {
                if self.there.contains_key(port) {
                    return Ok(());
                }
                self.created += 1;
                self.there.insert(*port, self.created);
                if let Some(at) = self.expired.remove(port) {
                    self.back.insert(*port, at);
                }
                self.owed.remove(port);
                self.see(vec![MembershipChange::Came(instance(
                    *port + 1,
                    self.created,
                ))])
            }
            Operation::Loss => {
                self.lately = self.now + LATELY;
                Ok(())
            }
            Operation::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                let due = self.protect.wake().is_some_and(|wake| wake <= self.now);
                match due.then(|| self.protect.expire(self.now)).flatten() {
                    Some(view) => self.check(&view),
                    None if due => Err("nothing to do when it is time".into()),
                    None => Ok(()),
                }
            }
        }
    }

    fn take(&mut self, who: u8) -> Vec<(u16, u64)> {
        let there = std::mem::take(&mut self.there);
        let (gone, left): (BTreeMap<_, _>, _) = there
            .into_iter()
            .partition(|(port, _)| who & (1 << port) != 0);
        self.there = left;
        self.back.retain(|port, _| !gone.contains_key(port));
        gone.into_iter().collect()
    }

    fn went(&mut self, gone: Vec<(u16, u64)>) -> Result<(), String> {
        if gone.is_empty() {
            return Ok(());
        }
        let went = |(port, created): (u16, u64)| {
            MembershipChange::Went(instance(port + 1, created), created)
        };
        self.see(gone.into_iter().map(went).collect())
    }

    /// As `tree/views.rs` does it, with a store that knows which leases have ended.
    fn see(&mut self, moves: Vec<MembershipChange>) -> Result<(), String> {
        let mut now = view([]);
        for (port, created) in &self.there {
            let instance = instance(*port + 1, *created);
            now.instances.insert(instance.seniority(), instance);
        }
        let asked = self
            .protect
            .see(&now, moves, self.now < self.lately, self.now);
        if !asked.is_empty() {
            let ended = |owner: &u64| self.ended.contains(owner);
            let gone: Vec<u64> = asked.iter().copied().filter(ended).collect();
            self.protect.judge(&asked, &gone, self.now);
        }
        let shown = self.protect.add_suspects(now);
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
            let (shown, there) = (seen.get(&port), self.there.contains_key(&port));
            let expired = self.expired.get(&port);
            let owed = self.owed.get(&port).is_some_and(|until| self.now < *until);
            match (there, shown) {
                (true, Some(false)) | (false, None) if !owed => {}
                (true, Some(false)) => {}
                (false, Some(true))
                    if expired.is_some_and(|at| self.now < *at + TOGETHER + GRACE) => {}
                other => {
                    return Err(format!(
                        "{port} is there, shown as suspect: {other:?}, owed: {owed}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn holds(ops: Vec<Operation>) -> Result<(), String> {
    let mut world = Harness::new();
    ops.iter().try_for_each(|op| world.apply(op))?;
    world.apply(&Operation::Wait(60_000))
}

/// Whoever is there is shown once and as what it is; who was deleted is not; who expired with most of
/// the others is held, for the grace and no longer.
#[test]
fn protection_holds_whom_the_store_has_lost_and_nobody_else() {
    prove::check_property(
        file!(),
        2_000,
        prop::collection::vec(any_op(), 1..30),
        holds,
    );
}

#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_protection_is_found() {
    let ops = prop::collection::vec(any_op(), 1..30);
    prove::check_mutants("backend", 2_000, Vec::new, &ops, &holds);
}
