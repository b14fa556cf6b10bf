//! Mass-expiry protection: keeps instances whose leases expired together as suspect for a grace period.
//!
//! A store that was unavailable for longer than a TTL expires all leases when it recovers, before the owners
//! can renew them. A set becomes empty only when the store confirms that its instances were deleted or their
//! leases expired: an instance whose key was deleted while its lease is alive was deleted on purpose and goes
//! offline at once, even if it is the last departure. After a reconnect the leases may expire in several batches, so
//! each instance of the first batches is doubted for a short period. The guard does no I/O;
//! `view_stream.rs` asks the store for evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::kv::membership::{MIN_MASS_SIZE, MembershipChange};
use crate::model::{Instance, View};
use crate::mutants::mutant;

/// Departures within this time count as one mass.
const MASS_WINDOW: Duration = Duration::from_secs(5);
/// The period for which a single expiry after a reconnect is doubted, because more expiries may follow.
const DOUBT_PERIOD: Duration = Duration::from_secs(1);

type Time = Duration;

/// The protection of one set. Times are durations since a fixed start.
pub(super) struct MassExpiryGuard {
    grace: Duration,
    /// Instances that left within the mass window, by id.
    departed: BTreeMap<Box<str>, ExpiredInstance>,
    /// Instances that left within the mass window and rejoined, by id, with the time they left. The first
    /// instances of a mass expiry may rejoin before the last ones leave.
    rejoined: BTreeMap<Box<str>, Time>,
    /// Instances shown as suspect, by id.
    suspects: BTreeMap<Box<str>, Suspect>,
    /// True if enough instances left to be a mass.
    is_mass: bool,
    /// The last view of the store.
    view: View,
}

struct ExpiredInstance {
    at: Time,
    instance: Arc<Instance>,
    owner: u64,
    /// The end of the period for which the instance is still shown as suspect.
    doubted_until: Option<Time>,
}

struct Suspect {
    at: Time,
    until: Time,
    instance: Arc<Instance>,
}

impl MassExpiryGuard {
    pub(super) fn new(grace: Duration) -> MassExpiryGuard {
        let (departed, rejoined, suspects, is_mass, view) = Default::default();
        MassExpiryGuard {
            grace,
            departed,
            rejoined,
            suspects,
            is_mass,
            view,
        }
    }

    /// Returns the time at which `expire` must be called.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        let held = self.suspects.values().map(|suspect| suspect.until);
        let doubted_until = self.departed.values().filter_map(|gone| gone.doubted_until);
        held.chain(doubted_until).min()
    }

    /// Records a view and the membership changes that led to it. Returns the grants for which the store must be
    /// asked whether they expired: those of a mass, or of any departure soon after a reconnect.
    pub(super) fn observe(
        &mut self,
        view: &View,
        changes: Vec<MembershipChange>,
        recently_disconnected: bool,
        now: Time,
    ) -> Vec<u64> {
        for step in changes {
            match step {
                MembershipChange::Joined(instance) => self.record_join(instance.id()),
                MembershipChange::Left(instance, owner) => {
                    self.record_departure(instance, owner, now)
                }
            }
        }
        self.view = view.clone();
        let together = |at: Time| now.saturating_sub(at) <= MASS_WINDOW;
        self.departed.retain(|_, gone| together(gone.at));
        self.rejoined.retain(|_, at| together(*at));
        let away = self.departed.len() + self.suspects.len();
        let all = view.instances.len() + away;
        self.is_mass = all >= MIN_MASS_SIZE && (away + self.rejoined.len()) * 2 > all;
        let asked = |gone: &&ExpiredInstance| {
            self.is_mass || recently_disconnected && all >= MIN_MASS_SIZE && gone.at == now
        };
        let owners = self.departed.values().filter(asked).map(|gone| gone.owner);
        let mut owners: Vec<u64> = owners.filter(|owner| *owner != 0).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    fn record_departure(&mut self, instance: Arc<Instance>, owner: u64, now: Time) {
        let id = instance.id().into();
        let gone = ExpiredInstance {
            at: now,
            instance,
            owner,
            doubted_until: None,
        };
        self.rejoined.remove(&id);
        self.departed.insert(id, gone);
    }

    fn record_join(&mut self, id: &str) {
        let went = self.departed.remove(id).map(|gone| gone.at);
        let held = if mutant!(a_rejoined_instance_stays_suspect: false, true) {
            self.suspects.remove(id).map(|suspect| suspect.at)
        } else {
            None
        };
        if let Some(at) = went.or(held)
            && mutant!(rejoined_instances_do_not_count: false, true)
        {
            self.rejoined.insert(id.into(), at);
        }
    }

    /// Applies the answer of the store: of the `asked` grants, those in `expired_grants` do not exist any more.
    /// Their instances become suspect if they are a mass, and are doubted otherwise.
    pub(super) fn apply_evidence(&mut self, asked: &[u64], expired_grants: &[u64], now: Time) {
        let until = now + self.grace;
        for (id, mut departure) in std::mem::take(&mut self.departed) {
            let asked = asked.contains(&departure.owner);
            let expired = expired_grants.contains(&departure.owner)
                || mutant!(deleted_instances_become_suspect: true, false);
            let expired = expired && mutant!(expired_instances_are_not_suspect: false, true);
            if asked && expired {
                departure.instance = Arc::new(departure.instance.to_suspect());
            }
            match (asked && expired, self.is_mass) {
                (true, true) => {
                    let (at, instance) = (departure.at, departure.instance);
                    self.suspects.insert(
                        id,
                        Suspect {
                            at,
                            until,
                            instance,
                        },
                    );
                }
                (true, false) => {
                    departure.doubted_until =
                        mutant!(single_expiries_are_not_doubted: None, Some(now + DOUBT_PERIOD));
                    self.departed.insert(id, departure);
                }
                // Deleted on purpose.
                (false, mass) if mass || asked => {}
                (false, _) => {
                    self.departed.insert(id, departure);
                }
            }
        }
    }

    /// Removes instances whose period is over. Returns the view without them, if there are any.
    pub(super) fn expire(&mut self, now: Time) -> Option<View> {
        let shown = |guard: &MassExpiryGuard| guard.shown().count();
        let before = shown(self);
        self.suspects
            .retain(|_, suspect| now < suspect.until || mutant!(grace_never_ends: true, false));
        for gone in self.departed.values_mut() {
            gone.doubted_until = gone
                .doubted_until
                .filter(|until| now < *until || mutant!(doubt_never_ends: true, false));
        }
        (shown(self) < before).then(|| self.add_suspects(self.view.clone()))
    }

    /// Returns the view of the store with the instances that it may have lost.
    pub(super) fn add_suspects(&self, mut view: View) -> View {
        for instance in self.shown() {
            view.instances.insert(instance.order(), instance.clone());
        }
        view
    }

    /// Returns the instances that left and are still shown.
    fn shown(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let held = self.suspects.values().map(|suspect| &suspect.instance);
        let doubted_until = self
            .departed
            .values()
            .filter(|gone| gone.doubted_until.is_some());
        held.chain(doubted_until.map(|gone| &gone.instance))
    }
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Registration;

    pub(super) fn instance(port: u16, created: u64) -> Arc<Instance> {
        let made = Registration::new("web", port).unwrap().host("h").unwrap();
        Arc::new(made.instance(created))
    }

    pub(super) fn view(of: impl IntoIterator<Item = u16>) -> View {
        let all = of.into_iter().map(|port| instance(port, port.into()));
        View {
            instances: all.map(|i| (i.order(), i)).collect(),
            ..View::default()
        }
    }

    fn went(ports: impl IntoIterator<Item = u16>) -> Vec<MembershipChange> {
        let gone = |port: u16| MembershipChange::Left(instance(port, port.into()), port.into());
        ports.into_iter().map(gone).collect()
    }

    fn names(view: &View) -> Vec<(u16, bool)> {
        let name = |i: &Arc<Instance>| (i.port(), i.is_suspect());
        view.instances.values().map(name).collect()
    }

    const T: Time = Duration::from_secs(100);
    const GRACE: Duration = Duration::from_secs(30);

    #[test]
    fn departures_of_at_most_half_the_instances_are_no_mass() {
        let mut guard = MassExpiryGuard::new(GRACE);
        assert_eq!(guard.observe(&view(1..=6), Vec::new(), false, T), [0; 0]);
        assert_eq!(guard.observe(&view(2..=6), went([1]), false, T), [0; 0]);
        assert_eq!(guard.observe(&view(4..=6), went([2, 3]), false, T), [0; 0]);
        assert_eq!(
            guard.observe(&view(5..=6), went([4]), false, T),
            [1, 2, 3, 4]
        );
    }

    /// A paused store expires leases one by one, and the first instances rejoin before the last lease expires.
    #[test]
    fn a_rejoined_instance_counts_for_the_mass() {
        let mut guard = MassExpiryGuard::new(GRACE);
        assert_eq!(guard.observe(&view(5..=8), went(1..=4), false, T), [0; 0]);
        let back = (1..=4).map(|port| MembershipChange::Joined(instance(port, 900)));
        assert_eq!(
            guard.observe(&view(1..=8), back.collect(), false, T),
            [0; 0]
        );
        assert_eq!(guard.observe(&view(1..=7), went([8]), false, T), [8]);
        let late = T + MASS_WINDOW * 2;
        assert_eq!(guard.observe(&view(1..=6), went([7]), false, late), [0; 0]);
    }

    #[test]
    fn small_sets_and_slow_departures_are_no_mass() {
        let mut guard = MassExpiryGuard::new(GRACE);
        assert_eq!(guard.observe(&view([]), went(1..=4), false, T), [0; 0]);
        let mut guard = MassExpiryGuard::new(GRACE);
        for port in 1..=9u16 {
            let now = T + MASS_WINDOW * u32::from(port) * 2;
            assert_eq!(
                guard.observe(&view(port + 1..=9), went([port]), false, now),
                [0; 0]
            );
        }
    }

    #[test]
    fn deleted_instances_go_and_expired_ones_stay_suspect_until_they_rejoin_or_the_grace_ends() {
        let mut guard = MassExpiryGuard::new(GRACE);
        let asked = guard.observe(&view([]), went(1..=6), false, T);
        guard.apply_evidence(&asked, &[1, 2, 3], T);
        let held = [(1, true), (2, true), (3, true)];
        assert_eq!(names(&guard.add_suspects(view([]))), held);
        let back = vec![MembershipChange::Joined(instance(2, 900))];
        let now = T + Duration::from_secs(1);
        assert_eq!(guard.observe(&view([]), back, false, now), [0; 0]);
        assert_eq!(names(&guard.add_suspects(view([]))), [(1, true), (3, true)]);
        assert!(guard.expire(now).is_none());
        assert_eq!(guard.next_expiry(), Some(T + GRACE));
        assert_eq!(names(&guard.expire(T + GRACE).unwrap()), []);
        assert_eq!(guard.next_expiry(), None);
    }

    #[test]
    fn after_a_reconnect_an_expiry_is_doubted_until_the_others_are_known() {
        let after = |ms: u64| T + Duration::from_millis(ms);
        let suspects = |guard: &MassExpiryGuard, there: View| {
            let all = names(&guard.add_suspects(there)).into_iter();
            let held = all.filter(|(_, suspect)| *suspect).map(|(port, _)| port);
            held.collect::<Vec<_>>()
        };
        let mut guard = MassExpiryGuard::new(GRACE);
        assert_eq!(guard.observe(&view(3..=8), went([1, 2]), true, T), [1, 2]);
        guard.apply_evidence(&[1, 2], &[1], T);
        assert_eq!(suspects(&guard, view(3..=8)), [1], "2 was deleted");
        assert_eq!(guard.next_expiry(), Some(T + DOUBT_PERIOD));

        let asked = guard.observe(&view(4..=8), went([3]), true, after(600));
        assert_eq!(asked, [3], "the answer for 1 is known");
        guard.apply_evidence(&asked, &[3], after(600));
        assert!(guard.expire(after(999)).is_none());
        let told = guard.expire(after(1000)).unwrap();
        assert_eq!(names(&told)[0], (3, true), "the doubt about 1 has ended");

        let asked = guard.observe(&view(7..=8), went([4, 5, 6]), true, after(1500));
        assert_eq!(
            asked,
            [1, 3, 4, 5, 6],
            "together with the earlier departures it is a mass"
        );
        guard.apply_evidence(&asked, &asked, after(1500));
        assert_eq!(suspects(&guard, view(7..=8)), [1, 3, 4, 5, 6]);
        assert_eq!(guard.next_expiry(), Some(after(1500) + GRACE));
    }
}
