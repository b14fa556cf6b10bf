use super::*;
use crate::net::HostPort;

fn message<T>(result: Result<T>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

/// S1.63.
#[test]
fn an_invalid_service_name_is_rejected_with_the_reason() {
    assert!(ServiceName::new("web-2.api_x").is_ok());
    assert!(message(ServiceName::new("")).contains("1 to 128"));
    assert!(message(ServiceName::new(&"x".repeat(129))).contains("129 bytes"));
    assert!(message(ServiceName::new("a/b")).contains("at byte 1"));
    assert!(message(ServiceName::new("..")).contains("reserved"));
}

/// S1.45.
#[test]
fn addresses_split_and_join() {
    for (text, host, port) in [
        ("h:1", "h", 1),
        ("[::1]:80", "::1", 80),
        (":9", "", 9),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
    ] {
        assert_eq!(HostPort::split(text).unwrap(), (host, port));
        assert_eq!(HostPort::join(host, port as u16), text);
    }
    for text in ["h", "::1:80", "[::1:80", "h:x", ""] {
        assert!(
            message(HostPort::split(text)).contains("write host:port"),
            "{text}"
        );
    }
}

#[test]
fn a_port_out_of_range_is_refused() {
    for port in [0, -1, 65_536, i64::MAX] {
        assert!(message(Registration::new("web", port)).contains("1 to 65535"));
    }
}

#[test]
fn attributes_have_limits() {
    let many = (0..65).map(|i| (i.to_string(), String::new()));
    let web = || Registration::new("web", 80).unwrap();
    assert!(message(web().attributes(many)).contains("limit is 64"));
    assert!(message(web().attributes([("k", "v".repeat(70_000))])).contains("65536"));
    assert!(message(web().attributes([("weight", "heavy")])).contains("weight"));
    assert!(message(web().tags(["a\nb"])).contains("control"));
    assert!(message(web().ttl(Duration::from_millis(5))).contains("1s to 24h"));
    assert!(message(web().host("a b")).contains("host"));
}

#[test]
fn an_instance_knows_its_weight_and_zone() {
    let registration = Registration::at("web", "[::1]:80").unwrap();
    let heavy = registration
        .attributes([("weight", "7"), ("zone", "eu")])
        .unwrap()
        .instance(3);
    assert_eq!(
        (heavy.weight(), heavy.zone(), heavy.address()),
        (7, Some("eu"), "[::1]:80")
    );
}
