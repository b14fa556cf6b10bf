//! Mass expiry: a store that was away for longer than a TTL forgets everybody at once when it is back,
//! before one of them could say that it is alive. Those are held as suspect for a while.
//!
//! Decided by evidence: a key that was deleted while its grant lives was deleted on purpose, and its
//! instance goes at once, be it the last. A store that was away until lately forgets them in several
//! strokes; there, even the first few are in doubt for a moment. Pure: who asks the store for evidence
//! is `tree/views.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::kv::view_builder::MembershipChange;
use crate::model::{Instance, View};
use crate::mutants::mutant;

/// Those that vanish within this time vanish together.
const TOGETHER: Duration = Duration::from_secs(5);
/// After a loss of the store, a single one is in doubt for this long: others may turn out to be forgotten
/// with it.
const DOUBT: Duration = Duration::from_secs(1);
/// Fewer instances than this have no mass.
pub(super) const FEW: usize = 5;

type Time = Duration;

/// See the module.
pub(super) struct MassExpiryGuard {
    grace: Duration,
    /// Who went a moment ago, by id, with their grants.
    went: BTreeMap<Box<str>, Gone>,
    /// Who went a moment ago and is back, by id, with when it went: a store that has lost everybody does
    /// not wait with the last until the first is back.
    back: BTreeMap<Box<str>, Time>,
    /// Who is held, by id.
    suspects: BTreeMap<Box<str>, Suspect>,
    /// Whether so many went that they are held.
    mass: bool,
    /// What the store has.
    view: View,
}

struct Gone {
    at: Time,
    instance: Arc<Instance>,
    owner: u64,
    /// Until when it is shown as suspect all the same.
    doubted: Option<Time>,
}

struct Suspect {
    at: Time,
    until: Time,
    instance: Arc<Instance>,
}

impl MassExpiryGuard {
    pub(super) fn new(grace: Duration) -> MassExpiryGuard {
        let (went, back, suspects, mass, view) = Default::default();
        MassExpiryGuard {
            grace,
            went,
            back,
            suspects,
            mass,
            view,
        }
    }

    /// When `expire` has something to do.
    pub(super) fn wake(&self) -> Option<Time> {
        let held = self.suspects.values().map(|suspect| suspect.until);
        let doubted = self.went.values().filter_map(|gone| gone.doubted);
        held.chain(doubted).min()
    }

    /// Takes note of what happened. Gives the grants to ask about, when so many vanished that the
    /// store may have lost them, or when it was `lately` away.
    pub(super) fn see(
        &mut self,
        view: &View,
        moves: Vec<MembershipChange>,
        lately: bool,
        now: Time,
    ) -> Vec<u64> {
        for step in moves {
            match step {
                MembershipChange::Came(instance) => self.came(instance.id()),
                MembershipChange::Went(instance, owner) => self.went(instance, owner, now),
            }
        }
        self.view = view.clone();
        let together = |at: Time| now.saturating_sub(at) <= TOGETHER;
        self.went.retain(|_, gone| together(gone.at));
        self.back.retain(|_, at| together(*at));
        let away = self.went.len() + self.suspects.len();
        let all = view.instances.len() + away;
        self.mass = all >= FEW && (away + self.back.len()) * 2 > all;
        let asked = |gone: &&Gone| self.mass || lately && all >= FEW && gone.at == now;
        let owners = self.went.values().filter(asked).map(|gone| gone.owner);
        let mut owners: Vec<u64> = owners.filter(|owner| *owner != 0).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    fn went(&mut self, instance: Arc<Instance>, owner: u64, now: Time) {
        let id = instance.id().into();
        let gone = Gone {
            at: now,
            instance,
            owner,
            doubted: None,
        };
        self.back.remove(&id);
        self.went.insert(id, gone);
    }

    fn came(&mut self, id: &str) {
        let went = self.went.remove(id).map(|gone| gone.at);
        let held = if mutant!(a_suspect_stays_beside_itself: false, true) {
            self.suspects.remove(id).map(|suspect| suspect.at)
        } else {
            None
        };
        if let Some(at) = went.or(held)
            && mutant!(who_is_back_never_went: false, true)
        {
            self.back.insert(id.into(), at);
        }
    }

    /// Of the grants that were asked about these are gone: who had them is held, or in doubt.
    pub(super) fn judge(&mut self, asked: &[u64], gone: &[u64], now: Time) {
        let until = now + self.grace;
        for (id, mut one) in std::mem::take(&mut self.went) {
            let asked = asked.contains(&one.owner);
            let expired = gone.contains(&one.owner) || mutant!(all_are_suspect: true, false);
            let expired = expired && mutant!(nobody_is_suspect: false, true);
            if asked && expired {
                one.instance = Arc::new(one.instance.into_suspect());
            }
            match (asked && expired, self.mass) {
                (true, true) => {
                    let (at, instance) = (one.at, one.instance);
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
                    one.doubted = mutant!(nobody_is_in_doubt: None, Some(now + DOUBT));
                    self.went.insert(id, one);
                }
                // Deleted on purpose.
                (false, mass) if mass || asked => {}
                (false, _) => {
                    self.went.insert(id, one);
                }
            }
        }
    }

    /// Lets those go whose time is over; the view without them, if there are any.
    pub(super) fn expire(&mut self, now: Time) -> Option<View> {
        let shown = |protect: &MassExpiryGuard| protect.shown().count();
        let before = shown(self);
        self.suspects
            .retain(|_, suspect| now < suspect.until || mutant!(grace_never_ends: true, false));
        for gone in self.went.values_mut() {
            gone.doubted = gone
                .doubted
                .filter(|until| now < *until || mutant!(doubt_never_ends: true, false));
        }
        (shown(self) < before).then(|| self.add_suspects(self.view.clone()))
    }

    /// What the store has and what it may have lost.
    pub(super) fn add_suspects(&self, mut view: View) -> View {
        for instance in self.shown() {
            view.instances.insert(instance.order(), instance.clone());
        }
        view
    }

    /// Who is gone and shown all the same.
    fn shown(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let held = self.suspects.values().map(|suspect| &suspect.instance);
        let doubted = self.went.values().filter(|gone| gone.doubted.is_some());
        held.chain(doubted.map(|gone| &gone.instance))
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
        let gone = |port: u16| MembershipChange::Went(instance(port, port.into()), port.into());
        ports.into_iter().map(gone).collect()
    }

    fn names(view: &View) -> Vec<(u16, bool)> {
        let name = |i: &Arc<Instance>| (i.port(), i.is_suspect());
        view.instances.values().map(name).collect()
    }

    const T: Time = Duration::from_secs(100);
    const GRACE: Duration = Duration::from_secs(30);

    #[test]
    fn a_death_is_a_death_and_so_are_half_of_them() {
        let mut protect = MassExpiryGuard::new(GRACE);
        assert_eq!(protect.see(&view(1..=6), Vec::new(), false, T), [0; 0]);
        assert_eq!(protect.see(&view(2..=6), went([1]), false, T), [0; 0]);
        assert_eq!(protect.see(&view(4..=6), went([2, 3]), false, T), [0; 0]);
        assert_eq!(protect.see(&view(5..=6), went([4]), false, T), [1, 2, 3, 4]);
    }

    /// A store that has slept loses them one after the other, and the quick ones are back before the
    /// last of them is lost.
    #[test]
    fn who_is_back_has_vanished_with_the_others_all_the_same() {
        let mut protect = MassExpiryGuard::new(GRACE);
        assert_eq!(protect.see(&view(5..=8), went(1..=4), false, T), [0; 0]);
        let back = (1..=4).map(|port| MembershipChange::Came(instance(port, 900)));
        assert_eq!(protect.see(&view(1..=8), back.collect(), false, T), [0; 0]);
        assert_eq!(protect.see(&view(1..=7), went([8]), false, T), [8]);
        let late = T + TOGETHER * 2;
        assert_eq!(protect.see(&view(1..=6), went([7]), false, late), [0; 0]);
    }

    #[test]
    fn few_have_no_mass_and_those_that_go_slowly_neither() {
        let mut protect = MassExpiryGuard::new(GRACE);
        assert_eq!(protect.see(&view([]), went(1..=4), false, T), [0; 0]);
        let mut protect = MassExpiryGuard::new(GRACE);
        for port in 1..=9u16 {
            let now = T + TOGETHER * u32::from(port) * 2;
            assert_eq!(
                protect.see(&view(port + 1..=9), went([port]), false, now),
                [0; 0]
            );
        }
    }

    #[test]
    fn what_was_deleted_goes_and_what_expired_is_held_until_it_is_back_or_its_time_is_over() {
        let mut protect = MassExpiryGuard::new(GRACE);
        let asked = protect.see(&view([]), went(1..=6), false, T);
        protect.judge(&asked, &[1, 2, 3], T);
        let held = [(1, true), (2, true), (3, true)];
        assert_eq!(names(&protect.add_suspects(view([]))), held);
        let back = vec![MembershipChange::Came(instance(2, 900))];
        let now = T + Duration::from_secs(1);
        assert_eq!(protect.see(&view([]), back, false, now), [0; 0]);
        assert_eq!(
            names(&protect.add_suspects(view([]))),
            [(1, true), (3, true)]
        );
        assert!(protect.expire(now).is_none());
        assert_eq!(protect.wake(), Some(T + GRACE));
        assert_eq!(names(&protect.expire(T + GRACE).unwrap()), []);
        assert_eq!(protect.wake(), None);
    }

    #[test]
    fn after_a_loss_whose_grant_is_gone_is_in_doubt_until_the_others_are_known() {
        let after = |ms: u64| T + Duration::from_millis(ms);
        let suspects = |protect: &MassExpiryGuard, there: View| {
            let all = names(&protect.add_suspects(there)).into_iter();
            let held = all.filter(|(_, suspect)| *suspect).map(|(port, _)| port);
            held.collect::<Vec<_>>()
        };
        let mut protect = MassExpiryGuard::new(GRACE);
        assert_eq!(protect.see(&view(3..=8), went([1, 2]), true, T), [1, 2]);
        protect.judge(&[1, 2], &[1], T);
        assert_eq!(suspects(&protect, view(3..=8)), [1], "2 was deleted");
        assert_eq!(protect.wake(), Some(T + DOUBT));

        let asked = protect.see(&view(4..=8), went([3]), true, after(600));
        assert_eq!(asked, [3], "1 was asked about already");
        protect.judge(&asked, &[3], after(600));
        assert!(protect.expire(after(999)).is_none());
        let told = protect.expire(after(1000)).unwrap();
        assert_eq!(names(&told)[0], (3, true), "1 is dead");

        let asked = protect.see(&view(7..=8), went([4, 5, 6]), true, after(1500));
        assert_eq!(asked, [1, 3, 4, 5, 6], "with those before, it is a mass");
        protect.judge(&asked, &asked, after(1500));
        assert_eq!(suspects(&protect, view(7..=8)), [1, 3, 4, 5, 6]);
        assert_eq!(protect.wake(), Some(after(1500) + GRACE));
    }
}
