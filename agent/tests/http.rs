//! Requests that are malformed or ambiguous on the wire, sent to a real agent.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use discover_testkit::DEADLINE;
use serde_json::{Value, json};
use support::Agent;

/// Sends bytes over one connection and returns all that the agent sends back until it closes the connection.
fn send(agent: &Agent, bytes: &str) -> String {
    let mut stream = TcpStream::connect(agent.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut response = Vec::new();
    // Fails if the agent closed the connection before it had read everything.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

fn statuses(response: &str) -> Vec<&str> {
    let heads = response.match_indices("HTTP/1.1 ");
    heads
        .filter_map(|(at, head)| response.get(at + head.len()..at + head.len() + 3))
        .collect()
}

#[test]
fn a_request_whose_end_is_unclear_is_refused_and_nothing_after_it_is_read() {
    let agent = Agent::start(&[]);
    let smuggled =
        "DELETE /v1/services/web/instances/127.0.0.1:1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (framing, expected) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", "411"),
        ("transfer-encoding: chunked\r\ncontent-length: 5", "411"),
        ("transfer-encoding: gzip, chunked", "501"),
        (
            "content-length: 5\r\ntransfer-encoding: gzip, chunked",
            "501",
        ),
        ("content-length: 5\r\ntransfer-encoding: gzip", "400"),
        ("content-length: 5\r\ncontent-length: 6", "400"),
    ] {
        let head = format!(
            "PUT /v1/services/web/instances/127.0.0.1:1 HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\n{framing}\r\n\r\n0\r\n\r\n"
        );
        let response = send(&agent, &format!("{head}{smuggled}"));
        assert_eq!(statuses(&response), [expected], "{framing}: {response}");
    }
}

#[test]
fn malformed_and_repeated_hosts_are_refused() {
    let agent = Agent::start(&[]);
    for hosts in [
        "host: [::1]evil",
        "host: localhost\r\nhost: localhost",
        "host: localhost\r\nhost: evil.example",
        "host: localhost:x",
        "host: evil@localhost",
    ] {
        let request = format!("GET /v1/status HTTP/1.1\r\n{hosts}\r\nconnection: close\r\n\r\n");
        assert_eq!(statuses(&send(&agent, &request)), ["400"], "{hosts}");
    }
    let absolute = "GET http://evil.example/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(statuses(&send(&agent, absolute)), ["400"]);
}

#[test]
fn the_token_is_asked_for_by_its_scheme_and_guesses_are_slowed_down() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let agent = Agent::start(&["--token-file", file.to_str().unwrap()]);
    let get = |token: &str| {
        send(
            &agent,
            &format!(
                "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\
                 connection: close\r\n\r\n"
            ),
        )
    };
    let refused = get("Bearer wrong").to_ascii_lowercase();
    assert_eq!(statuses(&refused.to_uppercase()), ["401"]);
    assert!(
        refused.contains("\r\nwww-authenticate: bearer"),
        "{refused}"
    );
    assert_eq!(statuses(&get("bEARER 0123456789abcdef")), ["200"]);
    let guesses: Vec<String> = (0..12).map(|_| get("Bearer wrong")).collect();
    let limited = guesses
        .iter()
        .find(|response| statuses(response) == ["429"]);
    let limited = limited.expect("guesses are limited").to_ascii_lowercase();
    assert!(limited.contains("\r\nretry-after: 1"), "{limited}");
    assert_eq!(
        statuses(&get("Bearer 0123456789abcdef")),
        ["200"],
        "others on loopback"
    );
    assert!(
        agent.log().contains("wrong tokens from one client"),
        "{}",
        agent.log()
    );
}

#[test]
fn a_name_that_is_given_twice_is_refused() {
    let agent = Agent::start(&[]);
    let put = |body: &str| {
        send(
            &agent,
            &format!(
                "PUT /v1/services/web/instances/127.0.0.1:1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    };
    let refused = put(r#"{"attributes": {"zone": "a", "zone": "b"}}"#);
    assert_eq!(statuses(&refused), ["400"]);
    assert!(refused.contains("is given twice"), "{refused}");
    assert_eq!(statuses(&put(r#"{"attributes": {"zone": "a"}}"#)), ["200"]);
}

#[test]
fn checks_of_hosts_that_look_like_options_and_of_metadata_services_are_refused() {
    let agent = Agent::start(&[]);
    for (target, status) in [
        (json!({ "tcp": "-oProxyCommand:22" }), 400),
        (json!({ "http": "http://-x/" }), 400),
        (json!({ "tcp": "[fd00:ec2::23]:80" }), 403),
        (json!({ "http": "http://[64:ff9b::a9fe:a9fe]/latest" }), 403),
        (json!({ "http": "http://168.63.129.16/" }), 403),
    ] {
        let path = "/v1/services/web/instances/127.0.0.1:1";
        let (found, response): (u16, Value) =
            agent.request("PUT", path, &json!({ "check": target }));
        assert_eq!(found, status, "{target}: {response}");
    }
}
