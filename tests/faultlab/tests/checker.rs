//! The checker accepts watchers without mistakes, and finds every kind of mistake.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use discover_faults::check::{
    Expectations, Observations, Registrant, ViolationKind, check, check_protected,
    check_registrations,
};
use discover_faults::history::{History, Instance};
use discover_faults::watcher_output::{Snapshot, State};
use discover_testkit::clock::{Micros, SECOND};
use proptest::prelude::*;
use support::{LAG, SERVICE, STEP, Step, history, perfect, restore, rules};

fn kinds(history: &History, seen: &Observations, rules: &Expectations) -> BTreeSet<ViolationKind> {
    let report = check(history, SERVICE, seen, rules);
    report
        .violations
        .iter()
        .map(|violations| violations.kind)
        .collect()
}

/// Ten revisions in which three instances are created, changed, deleted and created again.
fn example() -> History {
    let put = |instance| (instance, true);
    let delete = |instance| (instance, false);
    history(&[
        vec![put(1)],
        vec![put(2)],
        vec![put(1), put(3)],
        vec![delete(2)],
        vec![put(2)],
        vec![delete(1), put(2)],
        vec![put(1)],
        vec![put(3)],
        vec![delete(3)],
        vec![put(2)],
    ])
}

/// A perfect watcher of the example, without events, with a mistake in one snapshot.
fn with_mistake(
    at: usize,
    mistake: impl Fn(&mut Snapshot),
) -> (History, Observations, Expectations) {
    let history = example();
    let mut seen = perfect(&history, |_| true);
    seen.events.clear();
    mistake(&mut seen.snapshots[at]);
    let rules = rules(&history);
    (history, seen, rules)
}

/// Returns the violations of one mistake in one snapshot.
fn verdict(at: usize, mistake: impl Fn(&mut Snapshot)) -> BTreeSet<ViolationKind> {
    let (history, seen, rules) = with_mistake(at, mistake);
    kinds(&history, &seen, &rules)
}

fn id(instance: u8) -> String {
    format!("10.0.0.{instance}:80")
}

#[test]
fn the_example_has_no_violation() {
    assert_eq!(verdict(0, |_| ()), BTreeSet::new());
}

#[test]
fn a_lost_put_is_found() {
    assert_eq!(
        verdict(3, |s| drop(s.set.remove(&id(3)))),
        [ViolationKind::Lost].into()
    );
}

#[test]
fn a_lost_delete_is_a_ghost() {
    let (history, mut seen, rules) = with_mistake(3, |_| ());
    // The second instance, deleted at the fourth revision, stays as it was in the third.
    let ghost = seen.snapshots[2].set[&id(2)].clone();
    seen.snapshots[3].set.insert(id(2), ghost);
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::Ghost].into()
    );
}

#[test]
fn a_torn_revision_is_found() {
    // The third revision has two changes.
    assert_eq!(
        verdict(2, |s| drop(s.set.remove(&id(3)))),
        [ViolationKind::Torn].into()
    );
}

#[test]
fn a_part_of_the_next_revision_is_torn_too() {
    let (history, mut seen, rules) = with_mistake(0, |_| ());
    let next = seen.snapshots[2].set[&id(3)].clone();
    seen.snapshots[1].set.insert(id(3), next);
    assert_eq!(kinds(&history, &seen, &rules), [ViolationKind::Torn].into());
}

#[test]
fn going_back_is_found() {
    let (history, mut seen, rules) = with_mistake(0, |_| ());
    let mut back = seen.snapshots[4].clone();
    back.at = seen.snapshots[6].at + 1;
    seen.snapshots.insert(7, back);
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::Backwards].into()
    );
}

#[test]
fn a_wrong_value_is_found() {
    let wrong = |s: &mut Snapshot| {
        let created = s.set[&id(1)].created;
        let attributes = BTreeMap::from([("n".to_owned(), "nonsense".to_owned())]);
        s.set.insert(
            id(1),
            Arc::new(Instance {
                created,
                attributes,
            }),
        );
    };
    assert_eq!(verdict(2, wrong), [ViolationKind::WrongValue].into());
}

#[test]
fn a_phantom_is_found() {
    let phantom = |s: &mut Snapshot| {
        let instance = s.set[&id(1)].clone();
        s.set.insert(id(77), instance);
    };
    assert_eq!(verdict(2, phantom), [ViolationKind::Phantom].into());
}

#[test]
fn a_wrong_incarnation_is_found() {
    let wrong = |s: &mut Snapshot| {
        let attributes = s.set[&id(2)].attributes.clone();
        s.set.insert(
            id(2),
            Arc::new(Instance {
                created: 3,
                attributes,
            }),
        );
    };
    // The second instance came back at the fifth revision, which has another created.
    assert_eq!(verdict(4, wrong), [ViolationKind::WrongCreated].into());
}

#[test]
fn a_set_ahead_of_its_revision_is_found() {
    let (history, mut seen, rules) = with_mistake(0, |_| ());
    seen.snapshots[4].set = seen.snapshots[7].set.clone();
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::Ahead].into()
    );
}

#[test]
fn a_revision_that_never_was_is_found() {
    let found = verdict(9, |s| s.revision += 100);
    assert!(found.contains(&ViolationKind::UnknownRevision), "{found:?}");
}

#[test]
fn a_watcher_that_stays_stale_is_found() {
    let (history, mut seen, mut rules) = with_mistake(0, |_| ());
    seen.snapshots[5..]
        .iter_mut()
        .for_each(|s| s.state = State::Stale);
    let healed = seen.snapshots[6].at;
    rules.faults = vec![(seen.snapshots[4].at, healed)];
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::Late, ViolationKind::NotCurrent].into()
    );
}

/// A fault from the fourth revision to the ninth; the watcher receives the changes `late` after it.
fn notified_late(late: Micros) -> (History, Observations, Expectations) {
    let (history, mut seen, mut rules) = with_mistake(0, |_| ());
    let (began, healed) = (seen.snapshots[3].at, seen.snapshots[8].at);
    rules.faults = vec![(began, healed)];
    for (at, snapshot) in (healed + late..).zip(&mut seen.snapshots[4..]) {
        snapshot.at = at;
    }
    (history, seen, rules)
}

#[test]
fn a_watcher_that_recovers_late_is_found() {
    let (history, seen, rules) = notified_late(rules(&example()).bound + SECOND);
    assert_eq!(kinds(&history, &seen, &rules), [ViolationKind::Late].into());
    let (history, seen, rules) = notified_late(SECOND);
    assert_eq!(kinds(&history, &seen, &rules), BTreeSet::new());
}

#[test]
fn a_watcher_behind_a_reachable_store_is_found() {
    let (history, seen, mut rules) = notified_late(SECOND);
    rules.behind = Some(SECOND / 2);
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::Behind].into()
    );
}

#[test]
fn a_missing_or_extra_instance_at_the_end_is_found() {
    let missing = verdict(9, |s| drop(s.set.remove(&id(1))));
    assert!(
        missing.contains(&ViolationKind::MissingAtEnd),
        "{missing:?}"
    );
    let (history, mut seen, rules) = with_mistake(0, |_| ());
    let ghost = seen.snapshots[7].set[&id(3)].clone();
    seen.snapshots[9].set.insert(id(3), ghost);
    let ghost = kinds(&history, &seen, &rules);
    assert!(ghost.contains(&ViolationKind::GhostAtEnd), "{ghost:?}");
}

#[test]
fn a_watcher_that_misses_the_last_change_is_found() {
    let (history, mut seen, rules) = with_mistake(0, |_| ());
    seen.snapshots.pop();
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::WrongAtEnd].into()
    );
}

#[test]
fn a_watcher_without_snapshots_is_found() {
    let (history, _, rules) = with_mistake(0, |_| ());
    assert_eq!(
        kinds(&history, &Observations::default(), &rules),
        [ViolationKind::Blind].into()
    );
}

#[test]
fn events_that_do_not_yield_the_set_are_found() {
    let history = example();
    let whole = perfect(&history, |_| true);
    for lost in 0..whole.events.len() {
        let mut seen = whole.clone();
        let event = seen.events.remove(lost);
        // A change that another follows cannot be missed by what comes after it.
        if event.kind != "update" {
            assert_eq!(
                kinds(&history, &seen, &rules(&history)),
                [ViolationKind::Events].into(),
                "{event:?}"
            );
        }
    }
}

#[test]
fn a_watcher_that_ignores_a_restored_store_is_found() {
    let mut history = example();
    restore(&mut history, 4, &[vec![(1, true)], vec![(4, true)]]);
    let right = perfect(&history, |_| true);
    assert_eq!(kinds(&history, &right, &rules(&history)), BTreeSet::new());
    // The watcher keeps its old state, and receives nothing below its last revision.
    let mut blind = right.clone();
    blind.events.clear();
    blind.snapshots.truncate(10);
    let found = kinds(&history, &blind, &rules(&history));
    assert!(
        found.contains(&ViolationKind::MissingAtEnd) && found.contains(&ViolationKind::WrongAtEnd),
        "{found:?}"
    );
}

#[test]
fn the_previous_epoch_does_not_return() {
    let mut history = example();
    restore(&mut history, 4, &[vec![(1, true)], vec![(4, true)]]);
    let mut seen = perfect(&history, |_| true);
    seen.events.clear();
    let mut again = seen.snapshots[9].clone();
    let last = seen.snapshots.len() - 1;
    again.at = seen.snapshots[last - 1].at + 1;
    seen.snapshots.insert(last, again);
    assert!(!kinds(&history, &seen, &rules(&history)).is_empty());
}

#[test]
fn a_mass_expiry_may_be_retained_for_a_limited_time() {
    let history = history(&[
        (1..6).map(|i| (i, true)).collect(),
        (1..6).map(|i| (i, false)).collect(),
        vec![(9, true)],
    ]);
    let mut seen = perfect(&history, |_| true);
    seen.events.clear();
    let retained = seen.snapshots[0].set.clone();
    seen.snapshots[1].set = retained.clone();
    seen.snapshots[2].set = retained.union(seen.snapshots[2].set.clone());
    let mut rules = rules(&history);
    rules.faults = vec![(SECOND, SECOND + STEP)];
    assert!(!kinds(&history, &seen, &rules).is_empty());
    rules.retained = Some(30 * SECOND);
    assert_eq!(kinds(&history, &seen, &rules), BTreeSet::new());
    rules.retained = Some(SECOND);
    assert_eq!(
        kinds(&history, &seen, &rules),
        [ViolationKind::GhostAtEnd].into()
    );
}

#[test]
fn a_registration_missing_for_too_long_is_found() {
    // Deleted at the second step, back at the fifth.
    let steps: Vec<Step> = vec![
        vec![(1, true)],
        vec![(1, false)],
        vec![],
        vec![],
        vec![(1, true)],
    ];
    let history = history(&steps);
    let (lost, back) = (SECOND + STEP, SECOND + 4 * STEP);
    let registrant = Registrant {
        id: id(1),
        from: SECOND,
        until: 20 * SECOND,
    };
    let found = |rules: &Expectations| {
        check_registrations(&history, SERVICE, std::slice::from_ref(&registrant), rules).len()
    };
    let excused = |from, healed, registered| Expectations {
        faults: vec![(from, healed)],
        registered,
        ..Expectations::default()
    };
    assert_eq!(found(&Expectations::default()), 1, "no fault excuses it");
    assert_eq!(found(&excused(lost, back - STEP, STEP)), 0);
    assert_eq!(found(&excused(lost, back - STEP, STEP - 1)), 1);
    assert_eq!(
        found(&excused(lost + 1, back, STEP)),
        1,
        "it was lost before the fault"
    );
    let for_ever = Registrant {
        until: 60 * SECOND,
        id: id(2),
        ..registrant.clone()
    };
    assert_eq!(
        check_registrations(&history, SERVICE, &[for_ever], &excused(lost, back, STEP)).len(),
        1
    );
}

#[test]
fn removing_living_instances_in_a_mass_expiry_is_found() {
    let (history, seen, mut rules) = with_mistake(0, |_| ());
    // The second instance is missing in the fourth snapshot, and back in the fifth.
    let registrant = Registrant {
        id: id(2),
        from: SECOND,
        until: rules.end,
    };
    let living = std::slice::from_ref(&registrant);
    assert!(
        history.epochs.len() == 1 && check_protected(&seen.snapshots, living, &rules).is_empty()
    );
    rules.faults = vec![(seen.snapshots[2].at, seen.snapshots[4].at)];
    let found = check_protected(&seen.snapshots, living, &rules);
    assert_eq!(
        found.iter().map(|b| b.kind).collect::<Vec<_>>(),
        [ViolationKind::TakenAway]
    );
    rules.faults = vec![(seen.snapshots[4].at, seen.snapshots[5].at)];
    assert!(check_protected(&seen.snapshots, living, &rules).is_empty());
}

/// Returns steps of one change, or of a few changes to different instances.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = || prop::bool::weighted(0.7);
    let step = prop_oneof![
        9 => prop::collection::btree_map(0u8..6, put(), 1..2),
        1 => prop::collection::btree_map(0u8..6, put(), 2..6),
    ];
    prop::collection::vec(step.prop_map(|step| step.into_iter().collect()), 1..40)
}

proptest! {
    /// A watcher that shows the store as it was, always or now and then, has no violations, whatever the store does.
    #[test]
    fn the_innocent_are_acquitted(first in steps(), lost in 0usize..20, second in steps(), every in 1usize..7) {
        let mut history = history(&first);
        restore(&mut history, lost, &second);
        let seen = perfect(&history, |number| number % every == 0);
        let rules = Expectations { behind: Some(LAG + STEP * 8 + 3 * SECOND), ..rules(&history) };
        let report = check(&history, SERVICE, &seen, &rules);
        prop_assert!(report.violations.is_empty(), "{:?}", report.violations);
        prop_assert_eq!(report.compared, seen.snapshots.len());
    }

    /// A watcher that misses a change of the store, and shows the rest, is found.
    #[test]
    fn whoever_misses_one_change_is_found(steps in steps(), which: prop::sample::Index) {
        let whole = history(&steps);
        let mut without = whole.clone();
        let revisions = &mut without.epochs[0].revisions;
        let touching: Vec<u64> = revisions.iter().filter(|(_, r)| !r.changes.is_empty()).map(|(n, _)| *n).collect();
        prop_assume!(!touching.is_empty());
        let missed = touching[which.index(touching.len())];
        revisions.get_mut(&missed).unwrap().changes.pop();
        let mut seen = perfect(&without, |_| true);
        seen.events.clear();
        prop_assert!(!kinds(&whole, &seen, &rules(&whole)).is_empty());
    }
}
