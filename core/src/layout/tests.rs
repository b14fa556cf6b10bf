//! Helpers for the tests of the layouts, and properties of all layouts.

mod fuzz;

use proptest::prelude::*;

use super::*;
use crate::kv::Key;

/// `host:port` of a service.
pub(super) fn at(service: &str, address: &str) -> Registration {
    Registration::at(service, address).unwrap()
}

/// Key and value of the entry that says where the instance is.
pub(super) fn entry(layout: &dyn Layout, registration: &Registration) -> (String, String) {
    let prefix = layout.prefix(&registration.service).unwrap();
    let mut entries = layout.encode(registration).unwrap().into_iter();
    let entry = entries.find(|entry| entry.key.strip_prefix(&prefix).is_some());
    let entry = entry.unwrap();
    let value = String::from_utf8(entry.value).unwrap();
    (entry.key.as_str().to_owned(), value)
}

pub(super) fn decoded(layout: &dyn Layout, service: &str, key: &str, value: &[u8]) -> Decoded {
    let node = Node {
        key: Key::new(key).unwrap(),
        value: value.into(),
        created: 7,
        modified: 7,
        owner: 0,
    };
    layout.decode(&ServiceName::new(service).unwrap(), &node)
}

pub(super) fn reads(layout: &dyn Layout, service: &str, key: &str, value: &[u8]) -> Instance {
    match decoded(layout, service, key, value) {
        Decoded::Instance(instance) => instance,
        other => panic!("{key}: {other:?}"),
    }
}

/// Checks that a written registration is read back unchanged.
pub(super) fn round_trips(layout: &dyn Layout, registration: &Registration) {
    let (key, value) = entry(layout, registration);
    let read = reads(
        layout,
        registration.service.as_str(),
        &key,
        value.as_bytes(),
    );
    assert_eq!(read, registration.instance(7));
    check(layout, registration).unwrap();
}

/// Returns all layouts with their default prefixes.
pub(super) fn all() -> Vec<Box<dyn Layout>> {
    vec![
        Box::new(Native),
        Box::new(ContainerPilot::new(ContainerPilot::PREFIX).unwrap()),
        Box::new(Embassy::new(Embassy::PREFIX, Embassy::ENVIRONMENT).unwrap()),
        Box::new(GoMicro::new(GoMicro::PREFIX).unwrap()),
        Box::new(Grpc::new(Grpc::PREFIX).unwrap()),
        Box::new(Kratos::new(Kratos::PREFIX).unwrap()),
        Box::new(Registrator::new(Registrator::PREFIX).unwrap()),
        Box::new(Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap()),
    ]
}

fn registrations() -> impl Strategy<Value = Registration> {
    // These include the names that have a meaning in some layout.
    let name = "[a-z]{1,6}|version|endpoints|user|password|public|critical|hostname|scheme|shard|host\
                |image|proto|port|ports\\.http|private_ports\\.https|.{1,8}";
    let attributes = proptest::collection::btree_map(name, "true|80|[a-z.]{0,6}|.{0,9}", 0..5);
    let tags = proptest::collection::vec("[a-z,]{1,5}", 0..3);
    let id = proptest::option::of("[a-z/:.-]{1,12}|.{1,9}");
    let host = "[a-z]{1,8}|::1|10\\.0\\.0\\.[0-9]";
    (host, 1u16.., id, attributes, tags).prop_filter_map(
        "a registration is refused already",
        |(host, port, id, attributes, tags)| {
            let made = Registration::new("web", port).ok()?.host(&host).ok()?;
            let made = made.attributes(attributes).ok()?.tags(tags).ok()?;
            match id {
                Some(id) => made.id(&id).ok(),
                None => Some(made),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A registration that a layout accepts is read back unchanged, and its encoding is deterministic.
    #[test]
    fn an_accepted_registration_is_read_back_unchanged(registration in registrations()) {
        for layout in all() {
            let name = layout.name();
            if check(&*layout, &registration).is_err() {
                continue;
            }
            let entries = layout.encode(&registration).unwrap();
            prop_assert_eq!(&entries, &layout.encode(&registration).unwrap(), "{}", name);
            let prefix = layout.prefix(&registration.service).unwrap();
            let ours = entries.iter().filter(|entry| entry.key.strip_prefix(&prefix).is_some());
            prop_assert_eq!(ours.count(), 1, "{}", name);
            let (key, value) = entry(&*layout, &registration);
            let read = reads(&*layout, "web", &key, value.as_bytes());
            prop_assert_eq!(read, registration.instance(7), "{}", name);
        }
    }

    /// Every layout accepts an instance without attributes and tags.
    #[test]
    fn a_plain_instance_is_accepted_by_every_layout(port in 1u16.., host in "[a-z]{1,8}|::1") {
        let plain = Registration::new("web", port).unwrap().host(&host).unwrap();
        for layout in all() {
            prop_assert!(check(&*layout, &plain).is_ok(), "{}", layout.name());
        }
    }

    #[test]
    fn decoding_never_panics(name in "[^/]{1,20}(/[^/]{1,9}){0,3}", value: Vec<u8>) {
        never_panics(&name, &value)?;
    }

    #[test]
    fn decoding_json_never_panics(name in "[^/]{1,20}/service|[^/]{1,20}", value in documents()) {
        never_panics(&name, value.as_bytes())?;
    }
}

fn never_panics(name: &str, value: &[u8]) -> std::result::Result<(), TestCaseError> {
    let web = ServiceName::new("web").unwrap();
    for layout in all() {
        let prefix = layout.prefix(&web).unwrap();
        let Ok(key) = prefix.join(name) else { continue };
        decoded(&*layout, "web", key.as_str(), value);
        let _ = layout.decode_shared(Some(value));
        let entries = layout.encode(&at("web", "h:1")).unwrap();
        let _ = layout.merge_existing(&entries[0], value, OnConflict::Replace);
    }
    Ok(())
}

/// Objects with the names that the layouts know and values of every kind.
fn documents() -> impl Strategy<Value = String> {
    let name = "id|name|address|port|ports|tags|Addr|Op|Metadata|endpoints|nodes|ipaddress|host_port\
                |env|private_hostname|private_ports|public|user|attributes|metadata|uuid";
    let value = "null|true|0|80|99999|\"\"|\"80\"|\"h:1\"|\"http://h:1\"|\\[\\]|\\[\"h:1\"\\]|\\{\\}\
                 |\\{\"http\":\"80\"\\}|\\[\\{\"address\":\"h:1\"\\}\\]|[\"{}\\[\\]:,]{0,5}";
    proptest::collection::vec((name, value), 0..6).prop_map(|members| {
        let members = members.iter().map(|(k, v)| format!("\"{k}\":{v}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}
