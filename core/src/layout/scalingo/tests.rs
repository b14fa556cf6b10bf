use super::*;
use crate::kv::Lifetime;
use crate::layout::tests::{at, decoded, entry, reads, round_trips};
use crate::scalingo::Host;

const UUID: &str = "90836924-c48a-44d4-9071-d925c7977037-node-1";

fn layout() -> Scalingo {
    Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap()
}

fn public() -> Registration {
    let fields = [
        ("hostname", "public-domain.dev"),
        ("ports.http", "80"),
        ("ports.https", "443"),
        ("user", "u<1>&"),
        ("password", "p@s:s/w"),
        ("public", "true"),
        ("critical", "true"),
    ];
    let host = at("spec-svc", "node-1:8080").id(UUID).unwrap();
    host.attributes(fields).unwrap()
}

fn info(registration: &Registration) -> (String, String) {
    let entry = layout().encode(registration).unwrap().remove(0);
    assert_eq!(entry.lifetime, Lifetime::Persistent);
    (
        entry.key.as_str().to_owned(),
        String::from_utf8(entry.value).unwrap(),
    )
}

fn merged(fresh: &Registration, before: &str, claim: OnConflict) -> Option<String> {
    let entry = &layout().encode(fresh).unwrap()[0];
    let merged = layout().merge_existing(entry, before.as_bytes(), claim)?;
    Some(String::from_utf8(merged).unwrap())
}

const HOST: &str = r#"{"name":"public-domain.dev","service_name":"spec-svc","ports":{"http":"80","https":"443"},"user":"u\u003c1\u003e\u0026","password":"p@s:s/w","public":true,"private_hostname":"node-1","private_ports":{"http":"8080"},"critical":true,"uuid":"90836924-c48a-44d4-9071-d925c7977037-node-1"}"#;

/// S2.1, S2.30, S2.31, S2.33: the host, byte for byte as version 7 was seen to write it.
#[test]
fn writes_the_host_that_etcd_discovery_writes() {
    let (key, value) = entry(&layout(), &public());
    assert_eq!(key, format!("/services/spec-svc/{UUID}"));
    assert_eq!(value, HOST);
    round_trips(&layout(), &public());
}

/// S2.32, S2.50: the description of a public and of a private service.
#[test]
fn writes_the_description_that_etcd_discovery_writes() {
    let fields = [
        ("hostname", "public-domain.dev"),
        ("ports.http", "80"),
        ("ports.https", "443"),
        ("user", "new"),
        ("password", "newpw"),
        ("public", "true"),
        ("critical", "true"),
    ];
    let new = public().attributes(fields).unwrap();
    let expected = r#"{"name":"spec-svc","critical":true,"hostname":"public-domain.dev","user":"new","password":"newpw","ports":{"http":"80","https":"443"},"public":true}"#;
    let place = "/services_infos/spec-svc".to_owned();
    assert_eq!(info(&new), (place.clone(), expected.to_owned()));
    let private = at("spec-svc", "n:1")
        .attributes([("critical", "true")])
        .unwrap();
    assert_eq!(
        info(&private),
        (place, r#"{"name":"spec-svc","critical":true}"#.to_owned())
    );
}

/// S2.3: the address of a private host is its hostname with its ports.
#[test]
fn writes_the_defaults_of_a_private_host() {
    let (key, value) = entry(&layout(), &at("web", "node-1:8080"));
    let uuid = key.strip_prefix("/services/web/").unwrap();
    let expected = format!(
        r#"{{"name":"node-1","service_name":"web","ports":{{"http":"8080"}},"private_hostname":"node-1","private_ports":{{"http":"8080"}},"uuid":"{uuid}"}}"#
    );
    assert_eq!(value, expected);
    // S2.30: the form of a version 4 UUID in lower case, and the host.
    let form: String = uuid
        .chars()
        .map(|c| if c.is_ascii_hexdigit() { 'x' } else { c })
        .collect();
    assert_eq!(form, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx-noxx-x");
    assert_eq!((&uuid[14..15], &uuid[19..20]), ("4", "a"));
}

/// S2.14; attributes without a member are stored in `attributes`.
#[test]
fn shards_schemes_and_attributes_ride_along() {
    for fields in [
        vec![("shard", "s1"), ("zone", "eu"), ("weight", "3")],
        vec![
            ("scheme", "https"),
            ("public", "true"),
            ("ports.https", "443"),
        ],
        vec![("private_ports.https", "8443"), ("critical", "true")],
        vec![("hostname", "h"), ("ports.http", "1"), ("scheme", "http")],
        vec![("user", "u")],
    ] {
        let all = at("web", "h:1").attributes(fields).unwrap();
        round_trips(&layout(), &all.tags(["a", "b,c"]).unwrap());
    }
    let both = [("scheme", "https"), ("private_ports.http", "80")];
    let error = crate::layout::check(&layout(), &at("web", "h:1").attributes(both).unwrap());
    assert!(error.unwrap_err().to_string().contains("the address"));
}

#[test]
fn an_invalid_flag_is_refused() {
    let odd = at("web", "h:1").attributes([("public", "yes")]).unwrap();
    let error = layout().encode(&odd).unwrap_err().to_string();
    assert!(error.contains("attribute public is \"yes\""), "{error}");
}

/// S2.31, S2.34, S2.51: all members of a host, and the hosts of versions 2 to 4.
#[test]
fn reads_hosts_of_all_versions() {
    let key = format!("/services/spec-svc/{UUID}");
    let read = reads(&layout(), "spec-svc", &key, HOST.as_bytes());
    assert_eq!((read.id(), read.address()), (UUID, "node-1:8080"));
    assert_eq!(*read.attributes(), public().attributes);
    let old = br#"{"name":"10.0.0.1","ports":{"https":"443"},"user":"u"}"#;
    let read = reads(&layout(), "s", "/services/s/10.0.0.1", old);
    assert_eq!((read.id(), read.address()), ("10.0.0.1", "10.0.0.1:443"));
    let all: Vec<_> = read
        .attributes()
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(all, ["scheme=https", "user=u"]);
}

/// S2.65 and the collisions under /services: a malformed record is reported, another program's record is ignored.
#[test]
fn a_bad_child_hides_no_other() {
    let read = |name: &str, value: &str| {
        decoded(
            &layout(),
            "s",
            &format!("/services/s/{name}"),
            value.as_bytes(),
        )
    };
    for neighbour in [
        "10.0.0.1:80",
        r#"{"ipaddress":"a","port":"1","name":"/x"}"#,
        r#"{"Op":0,"Addr":"h:1"}"#,
        r#"{"service_version":"1.0"}"#,
    ] {
        assert_eq!(read("x", neighbour), Decoded::Ignored, "{neighbour}");
    }
    assert_eq!(read("80/49161/1353", HOST), Decoded::Ignored);
    for bad in [
        "",
        "{",
        r#"{"name":"a"}"#,
        r#"{"name":"a","ports":{"http":"80443"}}"#,
        r#"{"name":7}"#,
    ] {
        assert!(matches!(read("x", bad), Decoded::Malformed(_)), "{bad}");
    }
}

/// S2.4, S2.60, S2.62: the last public host sets the credentials; no host clears them.
#[test]
fn the_last_registration_sets_the_credentials_and_none_clears_them() {
    let before = info(&public()).1;
    let private = at("spec-svc", "n:1");
    assert_eq!(merged(&private, &before, OnConflict::Replace), None);
    assert_eq!(
        merged(&public(), &before, OnConflict::Replace),
        None,
        "it says the same"
    );
    let silent = [("public", "true"), ("hostname", "elsewhere")];
    let silent = private.clone().attributes(silent).unwrap();
    let kept = merged(&silent, &before, OnConflict::Replace).unwrap();
    assert!(
        kept.contains(r#""hostname":"elsewhere","user":"u\u003c1\u003e\u0026""#),
        "{kept}"
    );
    let new = [("public", "true"), ("user", "new"), ("password", "pw")];
    let new = private.clone().attributes(new).unwrap();
    let said = merged(&new, &before, OnConflict::Replace).unwrap();
    assert!(said.contains(r#""user":"new","password":"pw""#));
    assert_eq!(merged(&new, &before, OnConflict::RestoreOnly), None);
    // A damaged description, and one of a private service, is rewritten.
    assert!(merged(&new, "rubbish", OnConflict::RestoreOnly).is_some());
    assert!(merged(&new, &info(&private).1, OnConflict::RestoreOnly).is_some());
    let odd = r#"{"name":"spec-svc","critical":false,"sla":"gold"}"#;
    assert!(
        merged(&new, odd, OnConflict::Replace)
            .unwrap()
            .ends_with(r#","sla":"gold"}"#)
    );
}

/// S2.4, S2.6, S2.62: a public host adopts credentials, and empty ones change nothing.
#[test]
fn public_hosts_follow_the_description() {
    let private = at("spec-svc", "n:1");
    assert_eq!(layout().shared(&private).unwrap(), None);
    let key = layout().shared(&public()).unwrap().unwrap();
    assert_eq!(key.as_str(), "/services_infos/spec-svc");
    let hear = |value: &str| layout().decode_shared(Some(value.as_bytes()));
    let both = [("user", "u<1>&"), ("password", "p@s:s/w")];
    let both = both.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(
        hear(&info(&public()).1),
        SharedAttributes::Present(both.into())
    );
    let silent = private.clone().attributes([("public", "true")]).unwrap();
    assert_eq!(hear(&info(&silent).1), SharedAttributes::Present([].into()));
    assert_eq!(layout().decode_shared(None), SharedAttributes::Absent);
    assert_eq!(hear("rubbish"), SharedAttributes::Absent);
    assert_eq!(hear(&info(&private).1), SharedAttributes::Absent);
}

/// S2.15, S2.16, S2.65: URLs by scheme, with credentials that are escaped.
#[test]
fn hosts_have_urls() {
    let host = Host::from_instance(&public().instance(1));
    assert_eq!(
        (host.hostname.as_str(), host.is_public, host.is_critical),
        ("public-domain.dev", true, true)
    );
    let login = "u%3C1%3E%26:p%40s%3As%2Fw";
    let url = format!("https://{login}@public-domain.dev:443/x");
    assert_eq!(host.url("https", "/x").unwrap(), url);
    assert_eq!(
        host.url("", "").unwrap(),
        format!("http://{login}@public-domain.dev:80")
    );
    assert_eq!(
        host.private_url("", "").unwrap(),
        format!("http://{login}@node-1:8080")
    );
    let error = host.private_url("ftp", "").unwrap_err().to_string();
    assert!(error.contains("it has http"), "{error}");
    let plain = Host::from_instance(&at("web", "[::1]:80").instance(1));
    assert_eq!(plain.url("http", "/").unwrap(), "http://[::1]:80/");
}

/// S2.50: the other directory is an option.
#[test]
fn the_folders_are_options() {
    let other = Scalingo::new("/svc", "/service_infos").unwrap();
    let entries = other.encode(&at("web", "h:1")).unwrap();
    assert_eq!(entries[0].key.as_str(), "/service_infos/web");
    assert!(entries[1].key.as_str().starts_with("/svc/web/"));
    assert!(Scalingo::new("/a", "/a/").is_err());
}

#[test]
fn printed_urls_contain_no_password() {
    let key = format!("/services/spec-svc/{UUID}");
    let instance = reads(&layout(), "spec-svc", &key, HOST.as_bytes());
    let host = Host::from_instance(&instance);
    assert_eq!(host.password, "p@s:s/w");
    let said = layout().decode_shared(Some(info(&public()).1.as_bytes()));
    let texts = [
        (format!("{host:?}"), r#"password: "***""#),
        (format!("{instance:?}"), r#""password": "***""#),
        (format!("{:?}", public()), r#""password": "***""#),
        (format!("{said:?}"), r#""password": "***""#),
    ];
    for (text, masked) in texts {
        assert!(text.contains(masked), "{text}");
        assert!(!text.contains("p@s:s/w"), "{text}");
    }
}
