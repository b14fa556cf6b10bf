use super::*;
use crate::layout::{ContainerPilot, Kratos, Native};

fn node(name: &str, value: &str, created: u64) -> Node {
    let key = Key::new(&format!("/discover/services/web/{name}")).unwrap();
    Node {
        key,
        value: value.as_bytes().into(),
        created,
        modified: created,
        owner: 0,
    }
}

fn mirror_after(last: View) -> ViewBuilder {
    ViewBuilder::new(
        [Arc::new(Native) as Arc<dyn Layout>].into(),
        ServiceName::new("web").unwrap(),
        last,
        Arc::default(),
    )
}

fn mirror() -> ViewBuilder {
    mirror_after(View::default())
}

fn fold(mirror: &mut ViewBuilder, changes: impl Into<Vec<Change>>) -> Option<Vec<String>> {
    let item = Changes {
        revision: 1,
        changes: changes.into(),
        ..Changes::default()
    };
    mirror.fold(0, item);
    let view = mirror.view()?;
    Some(view.instances.values().map(|i| i.id().to_owned()).collect())
}

#[test]
fn the_first_view_is_told_even_when_empty_and_then_only_changes_are() {
    let mut mirror = mirror();
    assert_eq!(fold(&mut mirror, [Change::Reset(vec![])]), Some(vec![]));
    assert_eq!(fold(&mut mirror, [Change::Reset(vec![])]), None);
    assert!(fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]).is_some());
    assert_eq!(
        fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]),
        None
    );
    assert_eq!(
        fold(&mut mirror, [Change::Reset(vec![node("h:1", "null", 1)])]),
        None
    );
}

/// S1.32, S2.65, S3.56.
#[test]
fn a_bad_record_hides_no_other_and_is_counted_while_it_is_there() {
    let mut mirror = mirror();
    let both = vec![node("h:1", "{", 1), node("h:2", "null", 2)];
    assert_eq!(fold(&mut mirror, [Change::Reset(both)]).unwrap(), ["h:2"]);
    assert_eq!(mirror.view.invalid, 1);
    fold(&mut mirror, [Change::Put(node("h:1", "null", 1))]);
    assert_eq!((mirror.view.invalid, mirror.view.instances.len()), (0, 2));
}

#[test]
fn an_instance_that_is_listed_again_is_the_very_same_and_keeps_its_calls() {
    let mut mirror = mirror();
    let list = || {
        vec![Change::Reset(vec![
            node("h:1", "null", 1),
            node("h:2", "null", 2),
        ])]
    };
    fold(&mut mirror, list());
    let before = mirror.view.instances.clone();
    before.values().for_each(|instance| instance.load().begin());
    assert_eq!(fold(&mut mirror, list()), None);
    assert!(mirror.view.instances.ptr_eq(&before));
    fold(&mut mirror, [Change::Put(node("h:1", r#"{"v":"2"}"#, 1))]);
    let busy = |mirror: &ViewBuilder| mirror.view.instances.values().all(|i| i.load().get() == 1);
    assert!(busy(&mirror));
    // And after a reconnect, which begins with another mirror.
    let mut next = mirror_after(mirror.view.clone());
    fold(&mut next, list());
    assert!(busy(&next));
}

/// S1.34, S1.47.
#[test]
fn views_are_ordered_by_age_and_a_delete_takes_all_beneath() {
    let mut mirror = mirror();
    let nodes = vec![
        node("h:2", "null", 5),
        node("h:1", "null", 9),
        node("h:3", "null", 1),
    ];
    assert_eq!(
        fold(&mut mirror, [Change::Reset(nodes)]).unwrap(),
        ["h:3", "h:2", "h:1"]
    );
    let folder = Key::new("/discover/services/web").unwrap();
    assert_eq!(
        fold(&mut mirror, [Change::Delete(folder)]).unwrap(),
        Vec::<String>::new()
    );
}

fn kratos(id: &str, address: &str, meta: &str, created: u64) -> Node {
    let value =
        format!(r#"{{"id":"x","name":"web","metadata":{meta},"endpoints":["http://{address}"]}}"#);
    Node {
        key: Key::new(&format!("/microservices/web/{id}")).unwrap(),
        value: value.into_bytes().into(),
        created,
        modified: created,
        owner: 0,
    }
}

fn tell(mirror: &mut ViewBuilder, layout: usize, change: Change) -> Option<Vec<String>> {
    let changes = vec![change];
    let item = Changes {
        changes,
        ..Changes::default()
    };
    mirror.fold(layout, item);
    let one = |i: &Arc<Instance>| {
        let all = i.attributes().iter().map(|(k, v)| format!(" {k}={v}"));
        let layouts = i.layouts().join("+");
        format!(
            "{} {} {layouts}{}",
            i.created(),
            i.id(),
            all.collect::<String>()
        )
    };
    Some(mirror.view()?.instances.values().map(one).collect())
}

#[test]
fn records_in_two_layouts_are_one_instance_and_one_going_brings_the_other_to_light() {
    let kratos_layout = Kratos::new(Kratos::PREFIX).unwrap();
    let layouts: [Arc<dyn Layout>; 2] = [Arc::new(Native), Arc::new(kratos_layout)];
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut mirror = ViewBuilder::new(layouts.into(), name, last, Arc::default());
    let new = kratos("x", "h:1", r#"{"a":"kratos","b":"2"}"#, 5);
    let expected = ["5 x kratos a=kratos b=2"];
    assert_eq!(
        tell(&mut mirror, 1, Change::Put(new.clone())).unwrap(),
        expected
    );
    let old = node("h:1", r#"{"a":"native"}"#, 3);
    let both = ["3 h:1 native+kratos a=native b=2"];
    assert_eq!(
        tell(&mut mirror, 0, Change::Put(old.clone())).unwrap(),
        both
    );
    let list = |nodes: &[Node]| Change::Reset(nodes.to_vec());
    assert_eq!(tell(&mut mirror, 1, list(&[new])), None);
    assert_eq!(
        tell(&mut mirror, 1, list(&[])).unwrap(),
        ["3 h:1 native a=native"]
    );
    assert_eq!(
        tell(&mut mirror, 0, Change::Delete(old.key)).unwrap(),
        [""; 0]
    );
    assert!(mirror.members.is_empty() && mirror.records.is_empty());
}

#[test]
fn an_instance_is_as_old_as_it_was_shown_while_it_has_any_record() {
    let kratos_layout = Kratos::new(Kratos::PREFIX).unwrap();
    let layouts: [Arc<dyn Layout>; 2] = [Arc::new(Native), Arc::new(kratos_layout)];
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut mirror = ViewBuilder::new(layouts.into(), name, last, Arc::default());
    let mut fold = |layout, change| {
        let changes = Changes {
            changes: vec![change],
            ..Changes::default()
        };
        mirror.fold(layout, changes);
        let moves = mirror.moves();
        let went = moves
            .iter()
            .filter(|step| matches!(step, MembershipChange::Went(..)));
        let ages = mirror.view.instances.keys().map(|of| of.created);
        (ages.collect::<Vec<_>>(), went.count())
    };
    let record = |created| kratos("h:1", "h:1", "{}", created);
    let (old, new) = (node("h:1", "null", 3), node("h:1", r#"{"v":"2"}"#, 9));
    assert_eq!(fold(0, Change::Put(old.clone())), (vec![3], 0));
    assert_eq!(fold(1, Change::Put(record(5))), (vec![3], 0));
    assert_eq!(fold(0, Change::Delete(old.key.clone())), (vec![3], 0));
    let changed = kratos("h:1", "h:1", r#"{"v":"3"}"#, 5);
    assert_eq!(fold(1, Change::Put(changed)), (vec![3], 0));
    assert_eq!(fold(0, Change::Put(new.clone())), (vec![3], 0));
    assert_eq!(fold(1, Change::Delete(record(5).key)), (vec![3], 0));
    // It is another one once all of its records went.
    let again = vec![node("h:1", "null", 12)];
    assert_eq!(fold(0, Change::Reset(again)), (vec![12], 0));
    assert_eq!(fold(0, Change::Delete(new.key)), (vec![], 1));
}

#[test]
fn keys_that_say_the_same_id_are_one_instance() {
    let layout: Arc<dyn Layout> = Arc::new(ContainerPilot::new("/c").unwrap());
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut mirror = ViewBuilder::new([layout].into(), name, last, Arc::default());
    let file = |file: &str, zone: &str| Node {
        key: Key::new(&format!("/c/web/a/{file}")).unwrap(),
        value: format!(r#"{{"address":"h","port":1,"attributes":{{"zone":"{zone}"}}}}"#)
            .into_bytes()
            .into(),
        created: 4,
        modified: 4,
        owner: 0,
    };
    let both = vec![file("one", "eu"), file("two", "us")];
    let expected = ["4 a containerpilot zone=eu"];
    assert_eq!(tell(&mut mirror, 0, Change::Reset(both)).unwrap(), expected);
    let one = Change::Delete(file("one", "").key);
    assert_eq!(
        tell(&mut mirror, 0, one).unwrap(),
        ["4 a containerpilot zone=us"]
    );
    let folder = Change::Delete(Key::new("/c/web/a").unwrap());
    assert_eq!(tell(&mut mirror, 0, folder).unwrap(), [""; 0]);
}

#[test]
fn of_what_is_written_again_only_the_last_is_read_and_nobody_goes_unnoticed() {
    let mut mirror = mirror();
    fold(&mut mirror, [Change::Reset(vec![node("h:1", "null", 1)])]);
    mirror.moves();
    let written = ["{", r#"{"v":"1"}"#, r#"{"v":"2"}"#];
    let puts = written.map(|value| Change::Put(node("h:1", value, 1)));
    assert_eq!(fold(&mut mirror, puts).unwrap(), ["h:1"]);
    assert_eq!(mirror.invalid.load(Ordering::Relaxed), 0);
    let first = |mirror: &ViewBuilder| mirror.view.instances.values().next().cloned();
    assert_eq!(first(&mirror).unwrap().attributes()["v"], "2");
    assert!(matches!(mirror.moves()[..], [MembershipChange::Came(_)]));
    // Gone and back at once: it went, and another one came.
    let key = node("h:1", "", 0).key;
    let back = [Change::Delete(key), Change::Put(node("h:1", "null", 9))];
    assert_eq!(fold(&mut mirror, back).unwrap(), ["h:1"]);
    assert_eq!(first(&mirror).unwrap().created(), 9);
    let moves = mirror.moves();
    assert!(matches!(
        moves[..],
        [MembershipChange::Went(..), MembershipChange::Came(_)]
    ));
}
