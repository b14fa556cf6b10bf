//! Only who is well is seen by others, and the agent says why the rest is not.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use support::{Agent, eventually};

/// Often, so that tests need not wait for long; each look has all the time that a slow machine takes.
fn quick(mut check: Value) -> Value {
    check["interval"] = json!("100ms");
    check["timeout"] = json!("20s");
    json!({ "check": check })
}

/// Answers each request with the status that is set.
fn web_server() -> (u16, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let status = Arc::new(AtomicU16::new(200));
    let told = status.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let status = told.load(Ordering::SeqCst);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, status)
}

#[test]
fn nobody_sees_an_instance_before_its_first_check_passed_nor_while_it_fails() {
    let agent = Agent::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let id = place.to_string();
    let check = quick(json!({ "tcp": format!(":{}", place.port()), "down": 2 }));
    let answer = agent.register("web", &id, &check);
    assert_eq!(answer["state"], "critical");
    let note = eventually("it was looked at", || {
        let (state, note) = agent.state(&id);
        assert_eq!(state, "critical");
        (!note.is_empty()).then_some(note)
    });
    assert!(note.contains("refused"), "{note}");
    assert_eq!(agent.seen("web"), [""; 0]);
    let listener = TcpListener::bind(place).unwrap();
    agent.until_seen("web", &[&id]);
    agent.until(&id, "passing");
    drop(listener);
    agent.until_seen("web", &[]);
    agent.until(&id, "critical");
}

#[test]
fn a_status_says_how_an_instance_is_and_one_that_warns_is_seen_with_that() {
    let agent = Agent::start(&[]);
    let (port, status) = web_server();
    let id = format!("127.0.0.1:{port}");
    agent.register("web", &id, &quick(json!({ "http": "/up", "down": 1 })));
    agent.until_seen("web", &[&id]);
    status.store(429, Ordering::SeqCst);
    agent.until_seen("web", &[&format!("{id}!")]);
    assert_eq!(agent.state(&id).0, "warning");
    status.store(200, Ordering::SeqCst);
    agent.until_seen("web", &[&id]);
    status.store(503, Ordering::SeqCst);
    assert!(agent.until(&id, "critical").contains("503"));
    agent.until_seen("web", &[]);
}

#[test]
fn an_application_that_must_say_how_it_is_is_critical_when_it_does_not() {
    let agent = Agent::start(&[]);
    let id = "10.0.0.1:80";
    // A TTL that a slow machine meets when it must, and that is soon over.
    let answer = agent.register("web", id, &json!({ "check": { "ttl": "3s" } }));
    assert_eq!(agent.seen("web"), [""; 0], "it has not spoken yet");
    let beat = |health: Option<&str>| {
        let mut body = json!({ "grant": answer["grant"] });
        if let Some(health) = health {
            body["health"] = json!(health);
        }
        let path = format!("/v1/services/web/instances/{id}/heartbeat");
        agent.ask("POST", &path, &body).0
    };
    assert_eq!(beat(None), 204);
    assert_eq!(agent.seen("web"), [id]);
    assert_eq!(beat(Some("warning")), 204);
    assert_eq!(agent.seen("web"), [format!("{id}!")]);
    assert_eq!(beat(Some("critical")), 204);
    assert_eq!(agent.seen("web"), [""; 0]);
    assert_eq!(beat(Some("passing")), 204);
    assert_eq!(agent.seen("web"), [id]);
    assert!(agent.until(id, "critical").contains("no heartbeat"));
    assert_eq!(agent.seen("web"), [""; 0]);
    // Whoever changes what it is does not say that it is well.
    let path = format!("/v1/services/web/instances/{id}");
    let changed = json!({ "attributes": { "v": "2" } });
    assert_eq!(agent.ask("PATCH", &path, &changed).0, 204);
    assert_eq!(
        (agent.state(id).0.as_str(), agent.seen("web").len()),
        ("critical", 0)
    );
    assert_eq!(beat(None), 204, "it is back, and nothing was lost");
    assert_eq!(agent.seen("web"), [id]);
    agent.register("plain", id, &json!({}));
    let path = format!("/v1/services/plain/instances/{id}/heartbeat");
    let (status, problem) = agent.ask("POST", &path, &json!({ "health": "passing" }));
    assert_eq!(
        (status, &problem["kind"]),
        (400, &json!("invalid_argument"))
    );
}

#[test]
fn commands_of_strangers_are_run_only_where_that_is_allowed() {
    let path = "/v1/services/web/instances/10.0.0.1:80";
    let body = quick(json!({ "exec": ["sh", "-c", "echo fine; exit 0"], "initial": "passing" }));
    let closed = Agent::start(&[]);
    let (status, problem) = closed.ask("PUT", path, &body);
    assert_eq!(
        (status, &problem["kind"]),
        (403, &json!("permission_denied"))
    );
    let reads = quick(json!({ "http": "https://10.0.0.1/", "ca": "/dev/zero" }));
    assert_eq!(closed.ask("PUT", path, &reads).0, 403, "nor are files read");
    assert_eq!(closed.seen("web"), [""; 0]);
    let open = Agent::start(&["--allow-exec"]);
    assert_eq!(open.ask("PUT", path, &body).0, 200);
    assert_eq!(
        open.seen("web"),
        ["10.0.0.1:80"],
        "as it is said to be initially"
    );
    eventually("its output is kept", || {
        (open.state("10.0.0.1:80").1 == "fine").then_some(())
    });
}

#[test]
fn a_command_that_hangs_is_killed_and_counts_as_failed() {
    let agent = Agent::start(&["--allow-exec"]);
    let check = json!({ "exec": ["sleep", "1000"], "initial": "passing", "down": 1,
                        "interval": "100ms", "timeout": "300ms" });
    agent.register("web", "10.0.0.1:80", &json!({ "check": check }));
    assert!(agent.until("10.0.0.1:80", "critical").contains("killed"));
    let warns = json!({ "exec": ["sh", "-c", "echo hm; exit 3"], "warning": 3 });
    agent.register("web", "10.0.0.2:80", &quick(warns));
    assert_eq!(agent.until("10.0.0.2:80", "warning"), "hm");
    agent.until_seen("web", &["10.0.0.2:80!"]);
}

#[test]
fn an_operator_holds_back_one_service_or_all_and_lets_go() {
    let agent = Agent::start(&[]);
    agent.register("web", "10.0.0.1:80", &json!({}));
    agent.register("db", "10.0.0.2:80", &json!({}));
    assert_eq!(
        agent.command(&["maintenance", "on", "web"]),
        "maintenance: 1 instances\n"
    );
    assert_eq!(agent.seen("web"), [""; 0]);
    assert_eq!(agent.seen("db"), ["10.0.0.2:80"]);
    assert_eq!(agent.state("10.0.0.1:80").0, "maintenance");
    // Its owner need not know.
    let beat = "/v1/services/web/instances/10.0.0.1:80/heartbeat";
    assert_eq!(agent.ask("POST", beat, &json!({})).0, 204);
    agent.command(&["maintenance", "drain"]);
    assert_eq!(agent.seen("db"), [""; 0]);
    assert_eq!(agent.state("10.0.0.2:80").0, "draining");
    let late = agent.register("db", "10.0.0.3:80", &json!({}));
    assert_eq!(
        late["state"], "draining",
        "who comes later is held back, too"
    );
    agent.command(&["maintenance", "off"]);
    assert_eq!(agent.seen("web"), ["10.0.0.1:80"]);
    assert_eq!(agent.seen("db").len(), 2);
    let (_, held) = agent.ask("GET", "/v1/maintenance", &Value::Null);
    assert_eq!(held, json!({ "held": [] }));
    let (status, _) = agent.ask(
        "PUT",
        "/v1/maintenance",
        &json!({ "mode": "off", "id": "x" }),
    );
    assert_eq!(status, 400, "an id without a service");
}

#[test]
fn who_registers_anew_ends_the_check_of_who_was_there_before() {
    let agent = Agent::start(&[]);
    let id = "127.0.0.1:9";
    agent.register(
        "web",
        id,
        &quick(json!({ "tcp": "127.0.0.1:1", "initial": "passing" })),
    );
    agent.until(id, "critical");
    agent.register("web", id, &json!({}));
    assert_eq!(agent.seen("web"), [id]);
    assert_eq!(agent.state(id), ("passing".to_owned(), String::new()));
    let path = format!("/v1/services/web/instances/{id}");
    agent.register("web", id, &quick(json!({ "tcp": "127.0.0.1:1" })));
    assert_eq!(agent.seen("web"), [""; 0]);
    assert_eq!(
        agent.ask("DELETE", &path, &Value::Null).0,
        204,
        "though nobody sees it"
    );
    assert_eq!(agent.state(id).0, "gone");
}

/// A server that answers over TLS, and the file of the authority by which it is trusted.
fn tls_server(folder: &std::path::Path) -> (Child, u16, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let openssl = |words: String| {
        let made = Command::new("openssl")
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(made.status.success(), "{words}: {made:?}");
    };
    let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
    openssl(format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca \
         -keyout {ca_key} -out {ca}"
    ));
    let (cert, key, request) = (file("cert.pem"), file("cert.key"), file("cert.csr"));
    openssl(format!(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x \
         -keyout {key} -out {request}"
    ));
    let names = file("names");
    std::fs::write(&names, "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(format!(
        "x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -days 2 \
         -extfile {names} -out {cert}"
    ));
    let port = free_port();
    let server = format!("-www -quiet -accept 127.0.0.1:{port} -cert {cert} -key {key}");
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "openssl", "s_server"])
        .args(server.split(' '))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    (child, port, ca)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn over_tls_only_a_server_that_is_trusted_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, port, ca) = tls_server(folder.path());
    let agent = Agent::start(&["--allow-exec"]);
    let url = format!("https://127.0.0.1:{port}/");
    agent.register(
        "web",
        "10.0.0.1:80",
        &quick(json!({ "http": url, "ca": ca })),
    );
    agent.register("web", "10.0.0.2:80", &quick(json!({ "http": url })));
    agent.until_seen("web", &["10.0.0.1:80"]);
    let why = eventually("the other is not trusted", || {
        let (state, note) = agent.state("10.0.0.2:80");
        assert_eq!(state, "critical");
        note.contains("certificate").then_some(note)
    });
    assert!(why.contains("signed by an unknown authority"), "{why}");
    server.kill().unwrap();
    server.wait().unwrap();
}
