//! A stream of events costs what its listener takes, and no more.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use support::{Agent, eventually};

/// Opens the stream of a service, and reads nothing of it.
fn open(agent: &Agent, service: &str) -> UnixStream {
    let mut stream = UnixStream::connect(agent.directory().join("socket")).unwrap();
    write!(
        stream,
        "GET /v1/services/{service}/events HTTP/1.1\r\nhost: localhost\r\n\r\n"
    )
    .unwrap();
    stream
}

fn streams(agent: &Agent) -> u64 {
    let (_, status) = agent.ask("GET", "/v1/status", &Value::Null);
    status["streams"].as_u64().unwrap()
}

#[test]
fn a_stream_that_nobody_reads_is_ended_and_one_that_is_read_is_not() {
    let agent = Agent::start(&[]);
    agent.register("web", "127.0.0.1:1", &json!({ "ttl_ms": 600_000 }));
    let mut read = open(&agent, "web");
    let reader = std::thread::spawn(move || {
        let (mut text, mut part) = (String::new(), [0; 65_536]);
        while !text.contains("\"n\":\"last\"") {
            let length = read.read(&mut part).unwrap();
            assert!(length > 0, "it was ended");
            // Only the end is of interest.
            text = text.split_off(text.len().saturating_sub(64));
            text += &String::from_utf8_lossy(&part[..length]);
        }
        read
    });
    let mut unread = open(&agent, "web");
    eventually("both are open", || (streams(&agent) == 2).then_some(()));
    let path = "/v1/services/web/instances/127.0.0.1:1";
    let mut number = 0;
    let change = |n: Value| {
        // Enough to fill what the kernel holds of a stream soon.
        let filling = "x".repeat(30_000);
        let body = json!({ "attributes": { "filling": filling, "n": n } });
        assert_eq!(agent.ask("PATCH", path, &body).0, 204);
    };
    eventually("the one that is not read is ended", || {
        number += 1;
        change(json!(number.to_string()));
        (streams(&agent) == 1).then_some(())
    });
    // It ends for whoever looks at last, after what was under way.
    unread.read_to_end(&mut Vec::new()).unwrap();
    change(json!("last"));
    let _open = reader.join().unwrap();
    assert_eq!(streams(&agent), 1);
}
