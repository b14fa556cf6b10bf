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

fn builder_after(last: View) -> ViewBuilder {
    ViewBuilder::new(
        [Arc::new(Native) as Arc<dyn Layout>].into(),
        ServiceName::new("web").unwrap(),
        last,
        Arc::default(),
    )
}

fn builder() -> ViewBuilder {
    builder_after(View::default())
}

fn apply_changes(
    builder: &mut ViewBuilder,
    changes: impl Into<Vec<Change>>,
) -> Option<Vec<String>> {
    let item = Changes {
        revision: 1,
        changes: changes.into(),
        ..Changes::default()
    };
    builder.apply(0, item);
    let view = builder.view()?;
    Some(view.instances.values().map(|i| i.id().to_owned()).collect())
}

#[test]
fn the_first_view_is_emitted_even_if_empty_and_then_only_changes() {
    let mut builder = builder();
    assert_eq!(
        apply_changes(&mut builder, [Change::Reset(vec![])]),
        Some(vec![])
    );
    assert_eq!(apply_changes(&mut builder, [Change::Reset(vec![])]), None);
    assert!(apply_changes(&mut builder, [Change::Put(node("h:1", "null", 1))]).is_some());
    assert_eq!(
        apply_changes(&mut builder, [Change::Put(node("h:1", "null", 1))]),
        None
    );
    assert_eq!(
        apply_changes(&mut builder, [Change::Reset(vec![node("h:1", "null", 1)])]),
        None
    );
}

/// S1.32, S2.65, S3.56.
#[test]
fn a_malformed_record_hides_no_other_and_is_counted_while_it_exists() {
    let mut builder = builder();
    let both = vec![node("h:1", "{", 1), node("h:2", "null", 2)];
    assert_eq!(
        apply_changes(&mut builder, [Change::Reset(both)]).unwrap(),
        ["h:2"]
    );
    assert_eq!(builder.view.invalid, 1);
    apply_changes(&mut builder, [Change::Put(node("h:1", "null", 1))]);
    assert_eq!((builder.view.invalid, builder.view.instances.len()), (0, 2));
}

/// C would end the text there, and read another value than the other languages.
#[test]
fn a_record_with_a_nul_character_is_malformed() {
    let mut builder = builder();
    let nul = r#"{"v":"a\u0000b"}"#;
    let all = vec![
        node("h:1", nul, 1),
        node("h:2", "null", 2),
        node("h\0:3", "null", 3),
    ];
    assert_eq!(
        apply_changes(&mut builder, [Change::Reset(all)]).unwrap(),
        ["h:2"]
    );
    assert!(builder.view.invalid >= 1);
}

#[test]
fn a_relisted_instance_is_reused_and_keeps_its_calls_in_flight() {
    let mut builder = builder();
    let list = || {
        vec![Change::Reset(vec![
            node("h:1", "null", 1),
            node("h:2", "null", 2),
        ])]
    };
    apply_changes(&mut builder, list());
    let before = builder.view.instances.clone();
    before.values().for_each(|instance| instance.load().begin());
    assert_eq!(apply_changes(&mut builder, list()), None);
    assert!(builder.view.instances.ptr_eq(&before));
    apply_changes(&mut builder, [Change::Put(node("h:1", r#"{"v":"2"}"#, 1))]);
    let busy = |builder: &ViewBuilder| builder.view.instances.values().all(|i| i.load().get() == 1);
    assert!(busy(&builder));
    // And after a reconnect, which starts with a new builder.
    let mut next = builder_after(builder.view.clone());
    apply_changes(&mut next, list());
    assert!(busy(&next));
}

/// S1.34, S1.47.
#[test]
fn views_are_ordered_by_age_and_a_delete_removes_all_keys_below() {
    let mut builder = builder();
    let nodes = vec![
        node("h:2", "null", 5),
        node("h:1", "null", 9),
        node("h:3", "null", 1),
    ];
    assert_eq!(
        apply_changes(&mut builder, [Change::Reset(nodes)]).unwrap(),
        ["h:3", "h:2", "h:1"]
    );
    let folder = Key::new("/discover/services/web").unwrap();
    assert_eq!(
        apply_changes(&mut builder, [Change::Delete(folder)]).unwrap(),
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

fn apply_one(builder: &mut ViewBuilder, layout: usize, change: Change) -> Option<Vec<String>> {
    let changes = vec![change];
    let item = Changes {
        changes,
        ..Changes::default()
    };
    builder.apply(layout, item);
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
    Some(builder.view()?.instances.values().map(one).collect())
}

#[test]
fn records_in_two_layouts_are_one_instance_and_removing_one_reveals_the_other() {
    let kratos_layout = Kratos::new(Kratos::PREFIX).unwrap();
    let layouts: [Arc<dyn Layout>; 2] = [Arc::new(Native), Arc::new(kratos_layout)];
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut builder = ViewBuilder::new(layouts.into(), name, last, Arc::default());
    let new = kratos("x", "h:1", r#"{"a":"kratos","b":"2"}"#, 5);
    let expected = ["5 x kratos a=kratos b=2"];
    assert_eq!(
        apply_one(&mut builder, 1, Change::Put(new.clone())).unwrap(),
        expected
    );
    let old = node("h:1", r#"{"a":"native"}"#, 3);
    let both = ["3 h:1 native+kratos a=native b=2"];
    assert_eq!(
        apply_one(&mut builder, 0, Change::Put(old.clone())).unwrap(),
        both
    );
    let list = |nodes: &[Node]| Change::Reset(nodes.to_vec());
    assert_eq!(apply_one(&mut builder, 1, list(&[new])), None);
    assert_eq!(
        apply_one(&mut builder, 1, list(&[])).unwrap(),
        ["3 h:1 native a=native"]
    );
    assert_eq!(
        apply_one(&mut builder, 0, Change::Delete(old.key)).unwrap(),
        [""; 0]
    );
    assert!(builder.members.is_empty() && builder.records.is_empty());
}

#[test]
fn an_instance_keeps_its_age_while_it_has_any_record() {
    let kratos_layout = Kratos::new(Kratos::PREFIX).unwrap();
    let layouts: [Arc<dyn Layout>; 2] = [Arc::new(Native), Arc::new(kratos_layout)];
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut builder = ViewBuilder::new(layouts.into(), name, last, Arc::default());
    let mut fold = |layout, change| {
        let changes = Changes {
            changes: vec![change],
            ..Changes::default()
        };
        builder.apply(layout, changes);
        let membership_changes = builder.take_membership_changes();
        let went = membership_changes
            .iter()
            .filter(|step| matches!(step, MembershipChange::Left(..)));
        let ages = builder.view.instances.keys().map(|of| of.created);
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
    // It is a new instance once all of its records are removed.
    let again = vec![node("h:1", "null", 12)];
    assert_eq!(fold(0, Change::Reset(again)), (vec![12], 0));
    assert_eq!(fold(0, Change::Delete(new.key)), (vec![], 1));
}

#[test]
fn keys_with_the_same_id_are_one_instance() {
    let layout: Arc<dyn Layout> = Arc::new(ContainerPilot::new("/c").unwrap());
    let (name, last) = (ServiceName::new("web").unwrap(), View::default());
    let mut builder = ViewBuilder::new([layout].into(), name, last, Arc::default());
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
    assert_eq!(
        apply_one(&mut builder, 0, Change::Reset(both)).unwrap(),
        expected
    );
    let one = Change::Delete(file("one", "").key);
    assert_eq!(
        apply_one(&mut builder, 0, one).unwrap(),
        ["4 a containerpilot zone=us"]
    );
    let folder = Change::Delete(Key::new("/c/web/a").unwrap());
    assert_eq!(apply_one(&mut builder, 0, folder).unwrap(), [""; 0]);
}

#[test]
fn only_the_last_write_of_a_key_is_decoded_and_every_departure_is_recorded() {
    let mut builder = builder();
    apply_changes(&mut builder, [Change::Reset(vec![node("h:1", "null", 1)])]);
    builder.take_membership_changes();
    let written = ["{", r#"{"v":"1"}"#, r#"{"v":"2"}"#];
    let puts = written.map(|value| Change::Put(node("h:1", value, 1)));
    assert_eq!(apply_changes(&mut builder, puts).unwrap(), ["h:1"]);
    assert_eq!(builder.invalid.load(Ordering::Relaxed), 0);
    let first = |builder: &ViewBuilder| builder.view.instances.values().next().cloned();
    assert_eq!(first(&builder).unwrap().attributes()["v"], "2");
    assert!(matches!(
        builder.take_membership_changes()[..],
        [MembershipChange::Joined(_)]
    ));
    // Deleted and registered again at once: one instance left, and a new one joined.
    let key = node("h:1", "", 0).key;
    let back = [Change::Delete(key), Change::Put(node("h:1", "null", 9))];
    assert_eq!(apply_changes(&mut builder, back).unwrap(), ["h:1"]);
    assert_eq!(first(&builder).unwrap().created(), 9);
    let membership_changes = builder.take_membership_changes();
    assert!(matches!(
        membership_changes[..],
        [MembershipChange::Left(..), MembershipChange::Joined(_)]
    ));
}
