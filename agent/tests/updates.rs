//! Updates of attributes over the API: merged by default, replaced on request and for older libraries.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::Agent;

const WEB: &str = "/v1/services/web/instances/10.0.0.1:80";

fn attributes(agent: &Agent) -> Value {
    let (_, web) = agent.request("GET", "/v1/services/web", &Value::Null);
    web["instances"][0]["attributes"].clone()
}

#[test]
fn an_update_merges_attributes_and_null_removes_one() {
    let agent = Agent::start(&[]);
    agent.register(
        "web",
        "10.0.0.1:80",
        &json!({ "attributes": { "zone": "eu", "v": "1", "old": "x" } }),
    );
    let patch = |body: Value| {
        agent
            .request("PATCH", WEB, &json!({ "attributes": body }))
            .0
    };
    assert_eq!(
        patch(json!({ "v": "2", "new": "y", "old": null, "absent": null })),
        204
    );
    assert_eq!(
        attributes(&agent),
        json!({ "zone": "eu", "v": "2", "new": "y" })
    );
    assert_eq!(patch(json!({})), 204, "changes nothing");
    assert_eq!(patch(json!({ "weight": "heavy" })), 400, "an invalid value");
    let many: serde_json::Map<String, Value> =
        (0..62).map(|n| (format!("n{n}"), json!("x"))).collect();
    assert_eq!(patch(Value::Object(many)), 400, "65 attributes in total");
    assert_eq!(
        attributes(&agent),
        json!({ "zone": "eu", "v": "2", "new": "y" })
    );
}

#[test]
fn an_update_replaces_all_attributes_on_request_and_of_libraries_of_version_0_1() {
    let agent = Agent::start(&[]);
    let before = json!({ "attributes": { "zone": "eu", "v": "1" } });
    agent.register("web", "10.0.0.1:80", &before);
    let body = json!({ "attributes": { "v": "2" } });
    let path = format!("{WEB}?attributes=replace");
    assert_eq!(agent.request("PATCH", &path, &body).0, 204);
    assert_eq!(attributes(&agent), json!({ "v": "2" }));
    let path = format!("{WEB}?attributes=add");
    assert_eq!(agent.request("PATCH", &path, &body).0, 400);

    agent.register("web", "10.0.0.1:80", &before);
    let body = body.to_string();
    let request = format!(
        "PATCH {WEB} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(agent.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 204"), "{response}");
    assert_eq!(attributes(&agent), json!({ "v": "2" }));
}
