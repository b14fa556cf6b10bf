//! Limits on what clients can make the agent hold. At a limit, the client that exceeds it is refused with the name of
//! the limit, and no other client notices.

mod support;

use std::io::Write;
use std::net::TcpStream;

use discover_testkit::process::resident_bytes;
use serde_json::{Value, json};
use support::{Agent, eventually};

/// Registers an instance over TCP and returns the status and the response.
fn put(agent: &Agent, id: &str, body: &Value) -> (u16, Value) {
    let path = format!("/v1/services/web/instances/{id}");
    agent.request("PUT", &path, body)
}

#[track_caller]
fn assert_refused((status, response): (u16, Value), setting: &str) {
    assert_eq!((status, &response["kind"]), (503, &json!("resource")));
    let detail = response["detail"].as_str().unwrap();
    assert!(detail.contains(setting), "{detail}");
}

#[test]
fn registrations_are_limited_by_count_and_other_clients_do_not_notice() {
    let agent = Agent::start(&["--registrations", "6"]);
    for port in 1..=3 {
        agent.register("web", &format!("127.0.0.1:{port}"), &json!({}));
    }
    assert_refused(put(&agent, "127.0.0.1:4", &json!({})), "registrations");
    agent.register("web", "127.0.0.1:3", &json!({ "tags": ["again"] }));
    let path = "/v1/services/web/instances/127.0.0.1:5";
    let (status, response) = agent.socket_request("PUT", path, &json!({}));
    assert_eq!(status, 200, "another client: {response}");
    let path = "/v1/services/web/instances/127.0.0.1:1";
    assert_eq!(agent.request("DELETE", path, &Value::Null).0, 204);
    agent.register("web", "127.0.0.1:4", &json!({}));
}

#[test]
fn registrations_are_limited_by_bytes_however_they_grow() {
    let agent = Agent::start(&["--registration-bytes", "100000"]);
    let filled = |n| json!({ "attributes": { "filling": "x".repeat(n) } });
    agent.register("web", "127.0.0.1:1", &filled(40_000));
    let setting = "registration_bytes";
    assert_refused(put(&agent, "127.0.0.1:2", &filled(20_000)), setting);
    agent.register("web", "127.0.0.1:2", &filled(1000));
    let path = "/v1/services/web/instances/127.0.0.1:2";
    assert_refused(agent.request("PATCH", path, &filled(20_000)), setting);
    assert_eq!(agent.request("PATCH", path, &filled(2000)).0, 204);
    let (status, response) = put(&agent, "127.0.0.1:2", &json!({ "owner": "x".repeat(129) }));
    assert_eq!(status, 400);
    let detail = response["detail"].as_str().unwrap();
    assert!(
        detail.contains("owner has 129 bytes; the limit is 128"),
        "{detail}"
    );
    let check = json!({ "check": { "http": format!("/{}", "x".repeat(20_000)) } });
    let (status, response) = put(&agent, "127.0.0.1:2", &check);
    assert_eq!(status, 400, "{response}");
}

#[test]
fn one_client_may_define_half_of_the_checks() {
    let agent = Agent::start(&["--checks", "4"]);
    let check = json!({ "check": { "tcp": ":1" } });
    agent.register("web", "127.0.0.1:1", &check);
    agent.register("web", "127.0.0.1:2", &check);
    assert_refused(put(&agent, "127.0.0.1:3", &check), "setting checks");
    agent.register("web", "127.0.0.1:2", &check);
    let reports = json!({ "check": { "ttl": "10s" } });
    agent.register("web", "127.0.0.1:3", &reports);
    agent.register_by_socket("web", "127.0.0.1:4", &check);
}

#[test]
fn a_hand_over_keeps_what_each_client_holds() {
    let agent = Agent::start(&["--registrations", "4"]);
    agent.register("web", "127.0.0.1:1", &json!({}));
    agent.register("web", "127.0.0.1:2", &json!({}));
    let boot = || agent.request("GET", "/v1/status", &Value::Null).1["boot"].clone();
    let before = boot();
    agent.signal("USR2");
    eventually("the next process responds", || {
        (boot() != before).then_some(())
    });
    assert_refused(put(&agent, "127.0.0.1:3", &json!({})), "registrations");
}

#[test]
fn unknown_services_that_are_not_in_use_make_room_for_others() {
    let agent = Agent::start(&["--services", "8"]);
    agent.register("web", "127.0.0.1:1", &json!({}));
    assert_eq!(agent.published("web"), ["127.0.0.1:1"]);
    for number in 0..40 {
        assert_eq!(agent.published(&format!("unknown-{number}")), [""; 0]);
    }
    let (_, status) = agent.request("GET", "/v1/status", &Value::Null);
    assert!(status["watched"].as_u64().unwrap() <= 8, "{status}");
    // Those in use are not closed: the client that uses half of the limit is refused, another one is not.
    let waiting: Vec<TcpStream> = (0..4)
        .map(|number| {
            let path = format!("/v1/services/waiting-{number}/events");
            send(&agent, &path)
        })
        .collect();
    eventually("all streams are open", || {
        let (_, status) = agent.request("GET", "/v1/status", &Value::Null);
        (status["streams"] == 4).then_some(())
    });
    let refused = agent.request("GET", "/v1/services/one-more", &Value::Null);
    assert_refused(refused, "services");
    let (status, _) = agent.socket_request("GET", "/v1/services/one-more", &Value::Null);
    assert_eq!(status, 200, "another client");
    drop(waiting);
}

#[test]
fn one_client_may_open_half_of_the_streams() {
    let agent = Agent::start(&["--streams", "4"]);
    let _open = [(); 2].map(|()| send(&agent, "/v1/services/web/events"));
    eventually("both streams are open", || {
        let (_, status) = agent.request("GET", "/v1/status", &Value::Null);
        (status["streams"] == 2).then_some(())
    });
    let refused = agent.request("GET", "/v1/services/web/events", &Value::Null);
    assert_refused(refused, "streams");
}

#[test]
fn maintenance_modes_are_limited_and_can_always_be_switched_off() {
    let agent = Agent::start(&[]);
    let set = |id: String, mode: &str| {
        let body = json!({ "mode": mode, "service": "web", "id": id });
        agent.request("PUT", "/v1/maintenance", &body)
    };
    for number in 0..512 {
        assert_eq!(set(number.to_string(), "draining").0, 200, "{number}");
    }
    assert_refused(
        set("more".to_owned(), "draining"),
        "512 maintenance modes of one client",
    );
    assert_eq!(set("0".to_owned(), "maintenance").0, 200, "it replaces one");
    assert_eq!(set("x".repeat(261), "draining").0, 400, "a long id");
    let body = json!({ "mode": "draining", "service": "db" });
    assert_eq!(agent.socket_request("PUT", "/v1/maintenance", &body).0, 200);
    assert_eq!(set("0".to_owned(), "off").0, 200);
    assert_eq!(
        set("more".to_owned(), "draining").0,
        200,
        "there is room again"
    );
}

#[test]
fn clients_that_do_not_read_share_the_text_of_a_response() {
    const CLIENTS: usize = 200;
    const RESPONSE_BYTES: usize = 30 * 60_000;
    let agent = Agent::start(&[]);
    for port in 1..=30 {
        let body = json!({ "attributes": { "filling": "x".repeat(60_000) } });
        agent.register("web", &format!("127.0.0.1:{port}"), &body);
    }
    assert_eq!(agent.published("web").len(), 30);
    let before = resident_bytes(agent.pid());
    let unread: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| send(&agent, "/v1/services/web"))
        .collect();
    for stream in &unread {
        // The response has begun.
        stream.peek(&mut [0]).unwrap();
    }
    let grown = resident_bytes(agent.pid()).saturating_sub(before);
    let copies = CLIENTS * RESPONSE_BYTES;
    assert!(grown < copies / 5, "{grown} bytes for {CLIENTS} clients");
}

#[test]
fn responses_that_one_client_does_not_read_are_limited() {
    let agent = Agent::start(&["--unread-bytes", "12000000"]);
    let path = "/v1/services/web/instances/127.0.0.1:1";
    for port in 1..=80 {
        let body = json!({ "attributes": { "filling": "x".repeat(60_000) } });
        agent.register("web", &format!("127.0.0.1:{port}"), &body);
    }
    // Each response is another text, of which the socket buffers take a part only.
    let mut unread = Vec::new();
    let refused = eventually("the limit of one client is reached", || {
        let number = unread.len().to_string();
        let body = json!({ "attributes": { "number": number } });
        assert_eq!(agent.request("PATCH", path, &body).0, 204);
        let stream = send(&agent, "/v1/services/web");
        stream.peek(&mut [0]).unwrap();
        unread.push(stream);
        let response = agent.request(
            "GET",
            "/v1/services/web?tag=none&attribute=x=y",
            &Value::Null,
        );
        assert_eq!(response.0, 200, "short responses are not limited");
        let response = agent.request("GET", "/v1/registrations", &Value::Null);
        (response.0 != 200).then_some(response)
    });
    assert_refused(refused, "unread_bytes");
    let (status, _) = agent.socket_request("GET", "/v1/services/web", &Value::Null);
    assert_eq!(status, 200, "another client");
}

#[test]
fn an_agent_whose_state_file_cannot_be_used_starts_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::write(&state, "not a state file\n").unwrap();
    let agent = Agent::start(&["--state", state.to_str().unwrap()]);
    let log = agent.log();
    assert!(log.contains("cannot use the state file"), "{log}");
    assert!(directory.path().join("state.unusable").is_file());
    agent.register("web", "127.0.0.1:1", &json!({}));
}

#[test]
fn request_bodies_that_are_being_received_are_limited() {
    const BODY_BYTES: usize = 500_000;
    let agent = Agent::start(&[]);
    let begin = || {
        let mut stream = TcpStream::connect(agent.address()).unwrap();
        let path = "/v1/services/web/instances/127.0.0.1:1";
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {BODY_BYTES}\r\n\r\n{{"
        )
        .unwrap();
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..66).map(|_| begin()).collect();
    let refused = eventually("the limit of one client is reached", || {
        // One more each time: the agent may have refused the last one because of the complete request below.
        waiting.push(begin());
        let path = "/v1/services/web/instances/127.0.0.1:2";
        let body = json!({ "attributes": { "filling": "x".repeat(60_000) } });
        let response = agent.request("PUT", path, &body);
        (response.0 != 200).then_some(response)
    });
    assert_refused(refused, "bytes of request bodies of one client");
    let path = "/v1/services/web/instances/127.0.0.1:3";
    assert_eq!(agent.socket_request("PUT", path, &json!({})).0, 200);
}

/// Sends a request whose response is not read.
fn send(agent: &Agent, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(agent.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream
}
