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

fn left(ports: impl IntoIterator<Item = u16>) -> Vec<MembershipChange> {
    let left = |port: u16| MembershipChange::Left(instance(port, port.into()), port.into());
    ports.into_iter().map(left).collect()
}

fn joined(instance: Arc<Instance>) -> Vec<MembershipChange> {
    vec![MembershipChange::Joined(instance)]
}

fn names(view: &View) -> Vec<(u16, bool)> {
    let name = |i: &Arc<Instance>| (i.port(), i.is_suspect());
    view.instances.values().map(name).collect()
}

fn suspects(guard: &MassExpiryGuard, present: View) -> Vec<u16> {
    let all = names(&guard.add_suspects(present)).into_iter();
    let held = all.filter(|(_, suspect)| *suspect).map(|(port, _)| port);
    held.collect()
}

const T: Time = Duration::from_secs(100);
const GRACE: Time = Duration::from_secs(30);
const NONE: [u64; 0] = [];
const NO_PORTS: [u16; 0] = [];

fn after(ms: u64) -> Time {
    T + Duration::from_millis(ms)
}

fn guard() -> MassExpiryGuard {
    MassExpiryGuard::new(GRACE, false)
}

#[test]
fn nothing_is_asked_or_held_while_the_store_is_healthy() {
    let mut guard = guard();
    assert_eq!(guard.observe(&view(1..=9), Vec::new(), false, T), NONE);
    for port in 1..9u16 {
        let rest = view(port + 1..=9);
        assert_eq!(guard.observe(&rest, left([port]), false, T), NONE);
        assert_eq!(suspects(&guard, rest), NO_PORTS);
    }
}

#[test]
fn an_expiry_that_empties_a_healthy_service_is_held_and_nothing_comes_back() {
    let mut guard = guard();
    assert_eq!(guard.observe(&view(5..=6), left(1..=4), false, T), NONE);
    let asked = guard.observe(&view([]), left([5, 6]), false, after(10));
    assert_eq!(asked, [1, 2, 3, 4, 5, 6]);
    guard.apply_evidence(&asked, &asked, after(10));
    assert_eq!(
        suspects(&guard, view([])),
        [5, 6],
        "1 to 4 were reported offline"
    );
}

#[test]
fn deletions_do_not_count_as_a_mass_expiry() {
    let mut guard = guard();
    let asked = guard.observe(&view([]), left(1..=6), false, T);
    guard.apply_evidence(&asked, &[6], T);
    assert_eq!(
        suspects(&guard, view([])),
        NO_PORTS,
        "five of six were deleted"
    );

    let mut guard = self::guard();
    let persistent = |port: u16| MembershipChange::Left(instance(port, port.into()), 0);
    let changes = (1..=6).map(persistent).collect();
    assert_eq!(guard.observe(&view([]), changes, true, T), NONE);
}

#[test]
fn small_sets_are_not_protected() {
    let mut guard = guard();
    assert_eq!(guard.observe(&view([]), left(1..=4), true, T), NONE);
}

/// A paused store expires leases one by one, and the first instances rejoin before the last lease expires.
#[test]
fn a_rejoined_instance_counts_for_the_mass() {
    let mut guard = guard();
    let asked = guard.observe(&view(5..=8), left(1..=4), true, T);
    guard.apply_evidence(&asked, &asked, T);
    let back = (1..=4).map(|port| MembershipChange::Joined(instance(port, 900)));
    assert_eq!(guard.observe(&view(1..=8), back.collect(), true, T), NONE);
    let asked = guard.observe(&view(1..=7), left([8]), true, T);
    guard.apply_evidence(&asked, &asked, T);
    assert!(
        guard.expire(T + DOUBT_PERIOD).is_none(),
        "it is held for the grace period"
    );
    let late = T + MASS_WINDOW * 2;
    let asked = guard.observe(&view(1..=6), left([7]), true, late);
    guard.apply_evidence(&asked, &asked, late);
    assert_eq!(
        names(&guard.expire(late + DOUBT_PERIOD).unwrap()).last(),
        Some(&(8, true))
    );
}

#[test]
fn deleted_instances_go_and_expired_ones_stay_suspect_until_they_rejoin_or_the_grace_ends() {
    let mut guard = guard();
    let asked = guard.observe(&view([]), left(1..=8), true, T);
    guard.apply_evidence(&asked, &[1, 2, 3, 4, 5], T);
    assert_eq!(suspects(&guard, view([])), [1, 2, 3, 4, 5]);
    let now = after(1000);
    let back = joined(instance(2, 900));
    assert_eq!(guard.observe(&view([]), back, false, now), NONE);
    assert_eq!(suspects(&guard, view([])), [1, 3, 4, 5]);
    assert!(guard.expire(now).is_none());
    assert_eq!(guard.next_expiry(), Some(T + GRACE));
    assert_eq!(names(&guard.expire(T + GRACE).unwrap()), []);
    assert_eq!(guard.next_expiry(), None);
}

#[test]
fn a_suspect_goes_when_its_address_is_back_under_another_id() {
    let other = |port: u16| {
        let registration = Registration::new("web", port).unwrap().host("h").unwrap();
        Arc::new(registration.id("other").unwrap().instance(900))
    };
    let mut guard = guard();
    let asked = guard.observe(&view([]), left(1..=6), true, T);
    guard.apply_evidence(&asked, &asked, T);
    guard.observe(&view([]), joined(other(3)), true, after(10));
    assert_eq!(suspects(&guard, view([])), [1, 2, 4, 5, 6]);

    // The other order: the restarted process is there before the lease of its predecessor expires.
    let mut guard = self::guard();
    let mut there = view(2..=6);
    let replacement = other(1);
    there
        .instances
        .insert(replacement.order(), replacement.clone());
    let asked = guard.observe(&there, left([1]), true, T);
    guard.apply_evidence(&asked, &asked, T);
    assert_eq!(suspects(&guard, there), NO_PORTS);
}

#[test]
fn after_a_fault_an_expiry_is_doubted_until_the_others_are_known() {
    let mut guard = guard();
    assert_eq!(guard.observe(&view(3..=8), left([1, 2]), true, T), [1, 2]);
    guard.apply_evidence(&[1, 2], &[1], T);
    assert_eq!(suspects(&guard, view(3..=8)), [1], "2 was deleted");
    assert_eq!(guard.next_expiry(), Some(T + DOUBT_PERIOD));

    let asked = guard.observe(&view(4..=8), left([3]), true, after(600));
    assert_eq!(asked, [3], "the answer for 1 is known");
    guard.apply_evidence(&asked, &[3], after(600));
    assert!(guard.expire(after(999)).is_none());
    let shown = guard.expire(after(1000)).unwrap();
    assert_eq!(names(&shown)[0], (3, true), "the doubt about 1 has ended");

    let asked = guard.observe(&view(7..=8), left([4, 5, 6]), true, after(1500));
    guard.apply_evidence(&asked, &asked, after(1500));
    assert_eq!(
        suspects(&guard, view(7..=8)),
        [3, 4, 5, 6],
        "a mass with the earlier departures; 1 was reported offline"
    );
    assert_eq!(guard.next_expiry(), Some(after(1500) + GRACE));
}

#[test]
fn with_protection_of_all_expiries_those_of_a_healthy_store_are_held_too() {
    let mut guard = MassExpiryGuard::new(GRACE, true);
    let asked = guard.observe(&view(5..=7), left(1..=4), false, T);
    guard.apply_evidence(&asked, &asked, T);
    assert_eq!(suspects(&guard, view(5..=7)), [1, 2, 3, 4]);
    assert_eq!(guard.next_expiry(), Some(T + GRACE));
}
