//! Limits on event streams: a stream whose client does not read is closed.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use support::{Agent, eventually};

/// Opens the event stream of a service without reading from it.
fn open(agent: &Agent, service: &str) -> UnixStream {
    let mut stream = UnixStream::connect(agent.directory().join("socket")).unwrap();
    write!(
        stream,
        "GET /v1/services/{service}/events HTTP/1.1\r\nhost: localhost\r\n\r\n"
    )
    .unwrap();
    stream
}

fn open_streams(agent: &Agent) -> u64 {
    let (_, status) = agent.request("GET", "/v1/status", &Value::Null);
    status["streams"].as_u64().unwrap()
}

#[test]
fn a_stream_is_closed_if_its_client_does_not_read() {
    let agent = Agent::start(&[]);
    agent.register("web", "127.0.0.1:1", &json!({ "ttl_ms": 600_000 }));
    let mut read = open(&agent, "web");
    let reader = std::thread::spawn(move || {
        let (mut text, mut part) = (String::new(), [0; 65_536]);
        while !text.contains("\"n\":\"last\"") {
            let length = read.read(&mut part).unwrap();
            assert!(length > 0, "the stream was closed");
            // Only the end matters.
            text = text.split_off(text.len().saturating_sub(64));
            text += &String::from_utf8_lossy(&part[..length]);
        }
        read
    });
    let mut unread = open(&agent, "web");
    eventually("both streams are open", || {
        (open_streams(&agent) == 2).then_some(())
    });
    let path = "/v1/services/web/instances/127.0.0.1:1";
    let mut number = 0;
    let change = |n: Value| {
        // Enough to fill the socket buffers of a stream soon.
        let filling = "x".repeat(30_000);
        let body = json!({ "attributes": { "filling": filling, "n": n } });
        assert_eq!(agent.request("PATCH", path, &body).0, 204);
    };
    eventually("the unread stream is closed", || {
        number += 1;
        change(json!(number.to_string()));
        (open_streams(&agent) == 1).then_some(())
    });
    // The buffered data comes first, then the end of the stream.
    unread.read_to_end(&mut Vec::new()).unwrap();
    change(json!("last"));
    let _open = reader.join().unwrap();
    assert_eq!(open_streams(&agent), 1);
}
