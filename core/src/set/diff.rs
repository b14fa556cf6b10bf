//! Difference of two snapshots as events.

use crate::set::event::{Event, membership_changes};
use crate::set::snapshot::Snapshot;

/// Returns the events that lead from `old` to `new`: `down` first, then `up` and `update`, then all others.
/// The cost is proportional to the number of differences.
pub(crate) fn diff(old: &Snapshot, new: &Snapshot) -> Vec<Event> {
    let mut events = match &new.changes_since_previous {
        // For consecutive versions the writer has computed the changes already.
        Some(changes_since_previous) if old.version + 1 == new.version => {
            changes_since_previous.to_vec()
        }
        _ => membership_changes(&old.view, &new.view),
    };
    let leader = new.leader();
    if old.leader().map(|i| i.order()) != leader.map(|i| i.order()) {
        events.push(Event::Leader(leader.cloned()));
    }
    if !old.ready && new.ready {
        events.push(Event::Current);
    }
    match (&old.fault, &new.fault) {
        (None, Some(fault)) => events.push(Event::Stale(fault.error.clone())),
        (Some(_), None) => events.push(Event::Fresh),
        _ => {}
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::error::{Error, ErrorKind};
    use crate::model::{Registration, View};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    /// Builds a view from (port, created, attribute).
    fn view(instances: &[(u16, u64, u8)]) -> View {
        let instance = |&(port, created, attribute): &(u16, u64, u8)| {
            let made = Registration::new("web", port).unwrap().host("h").unwrap();
            let made = made
                .attributes([("a", attribute.to_string())])
                .unwrap()
                .instance(created);
            (made.order(), Arc::new(made))
        };
        View {
            instances: instances.iter().map(instance).collect(),
            ..View::default()
        }
    }

    fn at(instances: &[(u16, u64, u8)]) -> Snapshot {
        Snapshot::empty().with_view(view(instances), SystemTime::UNIX_EPOCH)
    }

    fn emitted(old: &Snapshot, new: &Snapshot) -> Vec<String> {
        let text = |e: &Event| match e.instance() {
            Some(instance) => format!("{} {}", e.kind(), instance.port()),
            None => e.kind().to_owned(),
        };
        diff(old, new).iter().map(text).collect()
    }

    #[test]
    fn the_full_state_is_emitted_first_and_then_current() {
        let start = Snapshot::empty();
        assert_eq!(emitted(&start, &at(&[])), ["current"]);
        assert_eq!(
            emitted(&start, &at(&[(1, 5, 0), (2, 4, 0)])),
            ["up 2", "up 1", "leader 2", "current"]
        );
    }

    /// S2.42.
    #[test]
    fn downs_come_before_ups_and_a_comeback_is_both() {
        let old = at(&[(1, 1, 0), (2, 2, 0), (3, 3, 0)]);
        let new = at(&[(1, 9, 0), (2, 2, 7), (3, 3, 0)]);
        assert_eq!(
            emitted(&old, &new),
            ["down 1", "update 2", "up 1", "leader 2"]
        );
        assert_eq!(emitted(&old, &old), [""; 0]);
        assert_eq!(emitted(&at(&[(1, 1, 0)]), &at(&[])), ["down 1", "leader"]);
    }

    #[test]
    fn losing_the_store_keeps_the_set_and_is_emitted_once() {
        let now = SystemTime::UNIX_EPOCH;
        let up = at(&[(1, 1, 0)]);
        let lost = up.with_fault(Error::new(ErrorKind::Unavailable, "down"), now);
        let still = lost.with_fault(Error::new(ErrorKind::Timeout, "slow"), now);
        assert_eq!(emitted(&up, &lost), ["stale"]);
        assert_eq!(emitted(&lost, &still), [""; 0]);
        assert_eq!(lost.online().len(), 1);
        let back = still.with_view(view(&[]), now);
        assert_eq!(emitted(&still, &back), ["down 1", "leader", "fresh"]);
        assert_eq!(back.offline()[0].reason.name(), "missing");
    }

    /// S1.44.
    #[test]
    fn the_departed_are_remembered_until_they_are_back() {
        let now = SystemTime::UNIX_EPOCH;
        let gone = at(&[(1, 1, 0), (2, 2, 0)]).with_view(view(&[(2, 2, 0)]), now);
        assert_eq!(gone.offline().len(), 1);
        assert_eq!(gone.offline()[0].reason.name(), "removed");
        assert_eq!(
            gone.with_view(view(&[(1, 5, 0), (2, 2, 0)]), now)
                .offline()
                .len(),
            0
        );
    }

    type Instances = Vec<(u16, u64, u8)>;

    fn instances() -> impl Strategy<Value = Instances> {
        let one = (1u16..9, (1u64..5, 0u8..3));
        proptest::collection::btree_map(one.0, one.1, 0..8).prop_map(|map| {
            map.into_iter()
                .map(|(port, (created, a))| (port, created, a))
                .collect()
        })
    }

    proptest! {
        /// G7: folding the events gives the snapshot.
        #[test]
        fn folding_the_events_gives_the_snapshot(steps in proptest::collection::vec(instances(), 1..6)) {
            let mut seen = Snapshot::empty();
            let mut folded = BTreeMap::new();
            let mut leader = None;
            for changes_since_previous in steps {
                let next = seen.with_view(view(&changes_since_previous), SystemTime::UNIX_EPOCH);
                // The stored changes equal a full comparison.
                let found = next.changes_since_previous.as_deref().map(|changes_since_previous| format!("{changes_since_previous:?}"));
                let looked = format!("{:?}", membership_changes(&seen.view, &next.view));
                prop_assert!(found.is_none_or(|found| found == looked));
                for event in diff(&seen, &next) {
                    match event {
                        Event::Up(i) => prop_assert!(folded.insert(i.id().to_owned(), i).is_none()),
                        Event::Update(i) => prop_assert!(folded.insert(i.id().to_owned(), i).is_some()),
                        Event::Down(i) => prop_assert!(folded.remove(i.id()).is_some()),
                        // An update of the leader is emitted as an update.
                        Event::Leader(l) => leader = l.map(|l| l.id().to_owned()),
                        _ => {}
                    }
                }
                let mut online: Vec<_> = next.online().to_vec();
                online.sort_by(|a, b| a.id().cmp(b.id()));
                prop_assert_eq!(folded.values().cloned().collect::<Vec<_>>(), online);
                prop_assert_eq!(leader.as_deref(), next.leader().map(|l| l.id()));
                seen = next;
            }
        }
    }
}
