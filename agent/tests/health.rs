//! Health checks and maintenance: only healthy instances outside maintenance are published, and the agent
//! gives the reason for each other instance.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use discover_core::AgentApi;
use serde_json::{Value, json};
use support::{Agent, eventually};

/// Returns a registration with this check at a short interval, and with a timeout that suffices on a slow
/// machine.
fn fast_check(mut check: Value) -> Value {
    check["interval"] = json!("100ms");
    check["timeout"] = json!("20s");
    json!({ "check": check })
}

/// Serves every HTTP request with the status that the test sets.
fn web_server() -> (u16, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let status = Arc::new(AtomicU16::new(200));
    let shared_status = status.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let status = shared_status.load(Ordering::SeqCst);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, status)
}

#[test]
fn an_instance_is_published_only_while_its_check_passes() {
    let agent = Agent::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let id = address.to_string();
    let check = fast_check(json!({ "tcp": format!(":{}", address.port()), "down": 2 }));
    let response = agent.register("web", &id, &check);
    assert_eq!(response["state"], "critical");
    let note = eventually("the check has run", || {
        let (state, note) = agent.state(&id);
        assert_eq!(state, "critical");
        (!note.is_empty()).then_some(note)
    });
    assert!(note.contains("refused"), "{note}");
    assert_eq!(agent.published("web"), [""; 0]);
    let listener = TcpListener::bind(address).unwrap();
    agent.wait_for_published("web", &[&id]);
    agent.wait_for_state(&id, "passing");
    drop(listener);
    agent.wait_for_published("web", &[]);
    agent.wait_for_state(&id, "critical");
}

#[test]
fn the_status_of_a_response_determines_the_health_and_a_warning_is_published() {
    let agent = Agent::start(&[]);
    let (port, status) = web_server();
    let id = format!("127.0.0.1:{port}");
    agent.register("web", &id, &fast_check(json!({ "http": "/up", "down": 1 })));
    agent.wait_for_published("web", &[&id]);
    status.store(429, Ordering::SeqCst);
    agent.wait_for_published("web", &[&format!("{id}!")]);
    assert_eq!(agent.state(&id).0, "warning");
    status.store(200, Ordering::SeqCst);
    agent.wait_for_published("web", &[&id]);
    status.store(503, Ordering::SeqCst);
    assert!(agent.wait_for_state(&id, "critical").contains("503"));
    agent.wait_for_published("web", &[]);
}

#[test]
fn an_instance_with_a_ttl_check_is_critical_without_heartbeats() {
    let agent = Agent::start(&[]);
    let id = "10.0.0.1:80";
    // Long enough for the heartbeats of a slow machine, short enough to wait for the expiry.
    let response = agent.register("web", id, &json!({ "check": { "ttl": "3s" } }));
    assert_eq!(agent.published("web"), [""; 0], "no heartbeat yet");
    let heartbeat = |health: Option<&str>| {
        let mut body = json!({ "grant": response["grant"] });
        if let Some(health) = health {
            body["health"] = json!(health);
        }
        let path = format!("/v1/services/web/instances/{id}/heartbeat");
        agent.request("POST", &path, &body).0
    };
    assert_eq!(heartbeat(None), 204);
    assert_eq!(agent.published("web"), [id]);
    assert_eq!(heartbeat(Some("warning")), 204);
    assert_eq!(agent.published("web"), [format!("{id}!")]);
    assert_eq!(heartbeat(Some("critical")), 204);
    assert_eq!(agent.published("web"), [""; 0]);
    assert_eq!(heartbeat(Some("passing")), 204);
    assert_eq!(agent.published("web"), [id]);
    assert!(
        agent
            .wait_for_state(id, "critical")
            .contains("no heartbeat")
    );
    assert_eq!(agent.published("web"), [""; 0]);
    // An update of the attributes does not report a health.
    let path = format!("/v1/services/web/instances/{id}");
    let changed = json!({ "attributes": { "v": "2" } });
    assert_eq!(agent.request("PATCH", &path, &changed).0, 204);
    assert_eq!(
        (agent.state(id).0.as_str(), agent.published("web").len()),
        ("critical", 0)
    );
    assert_eq!(heartbeat(None), 204, "it is back, and nothing was lost");
    assert_eq!(agent.published("web"), [id]);
    agent.register("plain", id, &json!({}));
    let path = format!("/v1/services/plain/instances/{id}/heartbeat");
    let (status, problem) = agent.request("POST", &path, &json!({ "health": "passing" }));
    assert_eq!(
        (status, &problem["kind"]),
        (400, &json!("invalid_argument"))
    );
}

#[test]
fn commands_from_the_api_run_only_if_that_is_allowed() {
    let path = "/v1/services/web/instances/10.0.0.1:80";
    let body =
        fast_check(json!({ "exec": ["sh", "-c", "echo fine; exit 0"], "initial": "passing" }));
    let closed = Agent::start(&[]);
    let (status, problem) = closed.request("PUT", path, &body);
    assert_eq!(
        (status, &problem["kind"]),
        (403, &json!("permission_denied"))
    );
    let reads = fast_check(json!({ "http": "https://10.0.0.1/", "ca": "/dev/zero" }));
    assert_eq!(
        closed.request("PUT", path, &reads).0,
        403,
        "files are not read either"
    );
    assert_eq!(closed.published("web"), [""; 0]);
    let open = Agent::start(&["--allow-exec"]);
    let (status, refused) = open.request("PUT", path, &body);
    assert_eq!(status, 403, "TCP without a token is any local user");
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("use the Unix socket, set token_file"),
        "{detail}"
    );
    assert_eq!(open.socket_request("PUT", path, &body).0, 200);
    assert_eq!(
        open.published("web"),
        ["10.0.0.1:80"],
        "the initial health of the check"
    );
    eventually("the output is the note", || {
        (open.state("10.0.0.1:80").1 == "fine").then_some(())
    });
}

#[test]
fn commands_need_the_socket_or_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let agent = Agent::start(&["--allow-exec", "--token-file", token.to_str().unwrap()]);
    let url = format!("{}?token_file={}", agent.url(), token.display());
    let api = AgentApi::open(&url).unwrap();
    let path = "/v1/services/web/instances/10.0.0.1:80";
    let body = json!({ "check": { "exec": "true" } });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let put = api.request("PUT", path, Some(&body), Duration::from_secs(60));
    runtime.block_on(put).unwrap();
    assert_eq!(agent.request("PUT", path, &body).0, 401);

    let result = std::process::Command::new(env!("CARGO_BIN_EXE_discoverd"))
        .args([
            "run",
            "--bind",
            "127.0.0.1:0",
            "--socket",
            "none",
            "--allow-exec",
        ])
        .output()
        .unwrap();
    assert!(!result.status.success(), "no client could be authenticated");
    let errors = String::from_utf8_lossy(&result.stderr);
    assert!(errors.contains("set socket or token_file"), "{errors}");
}

#[test]
fn a_command_is_killed_at_its_timeout_and_counts_as_failed() {
    let agent = Agent::start(&["--allow-exec"]);
    let check = json!({ "exec": ["sleep", "1000"], "initial": "passing", "down": 1,
                        "interval": "100ms", "timeout": "300ms" });
    agent.register_by_socket("web", "10.0.0.1:80", &json!({ "check": check }));
    assert!(
        agent
            .wait_for_state("10.0.0.1:80", "critical")
            .contains("killed")
    );
    let warns = json!({ "exec": ["sh", "-c", "echo hm; exit 3"], "warning": 3 });
    agent.register_by_socket("web", "10.0.0.2:80", &fast_check(warns));
    assert_eq!(agent.wait_for_state("10.0.0.2:80", "warning"), "hm");
    agent.wait_for_published("web", &["10.0.0.2:80!"]);
}

#[test]
fn maintenance_withholds_one_service_or_all_until_it_is_switched_off() {
    let agent = Agent::start(&[]);
    agent.register("web", "10.0.0.1:80", &json!({}));
    agent.register("db", "10.0.0.2:80", &json!({}));
    assert_eq!(
        agent.command(&["maintenance", "on", "web"]),
        "maintenance: 1 instances\n"
    );
    assert_eq!(agent.published("web"), [""; 0]);
    assert_eq!(agent.published("db"), ["10.0.0.2:80"]);
    assert_eq!(agent.state("10.0.0.1:80").0, "maintenance");
    // Maintenance does not affect heartbeats.
    let path = "/v1/services/web/instances/10.0.0.1:80/heartbeat";
    assert_eq!(agent.request("POST", path, &json!({})).0, 204);
    agent.command(&["maintenance", "drain", "--all"]);
    assert_eq!(agent.published("db"), [""; 0]);
    assert_eq!(agent.state("10.0.0.2:80").0, "draining");
    let late = agent.register("db", "10.0.0.3:80", &json!({}));
    assert_eq!(
        late["state"], "draining",
        "later registrations are withheld, too"
    );
    agent.command(&["maintenance", "off"]);
    assert_eq!(agent.published("web"), ["10.0.0.1:80"]);
    assert_eq!(agent.published("db").len(), 2);
    let (_, maintenance) = agent.request("GET", "/v1/maintenance", &Value::Null);
    assert_eq!(maintenance, json!({ "held": [] }));
    let (status, _) = agent.request(
        "PUT",
        "/v1/maintenance",
        &json!({ "mode": "off", "id": "x" }),
    );
    assert_eq!(status, 400, "an id without a service");
}

#[test]
fn a_new_registration_ends_the_check_of_the_one_it_replaces() {
    let agent = Agent::start(&[]);
    let id = "127.0.0.1:9";
    agent.register(
        "web",
        id,
        &fast_check(json!({ "tcp": "127.0.0.1:1", "initial": "passing" })),
    );
    agent.wait_for_state(id, "critical");
    agent.register("web", id, &json!({}));
    assert_eq!(agent.published("web"), [id]);
    assert_eq!(agent.state(id), ("passing".to_owned(), String::new()));
    let path = format!("/v1/services/web/instances/{id}");
    agent.register("web", id, &fast_check(json!({ "tcp": "127.0.0.1:1" })));
    assert_eq!(agent.published("web"), [""; 0]);
    assert_eq!(
        agent.request("DELETE", &path, &Value::Null).0,
        204,
        "though it is not published"
    );
    assert_eq!(agent.state(id).0, "none");
}

/// Starts a TLS server. Returns it with its port and the file of its certificate authority.
fn tls_server(folder: &std::path::Path) -> (Child, u16, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let openssl = |words: String| {
        let output = Command::new("openssl")
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
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
fn https_checks_pass_only_with_a_trusted_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, port, ca) = tls_server(folder.path());
    let agent = Agent::start(&["--allow-exec"]);
    let url = format!("https://127.0.0.1:{port}/");
    agent.register_by_socket(
        "web",
        "10.0.0.1:80",
        &fast_check(json!({ "http": url, "ca": ca })),
    );
    agent.register("web", "10.0.0.2:80", &fast_check(json!({ "http": url })));
    agent.wait_for_published("web", &["10.0.0.1:80"]);
    let note = eventually("the other check fails", || {
        let (state, note) = agent.state("10.0.0.2:80");
        assert_eq!(state, "critical");
        note.contains("certificate").then_some(note)
    });
    assert!(note.contains("signed by an unknown authority"), "{note}");
    server.kill().unwrap();
    server.wait().unwrap();
}
