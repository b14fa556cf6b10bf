//! Commands of discoverd that use an agent: what they do with services, instances and addresses that they cannot use.

mod support;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::Agent;

fn discoverd(arguments: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_discoverd");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn on_agent(agent: &Agent, arguments: &[&str]) -> (i32, String, String) {
    discoverd(&[arguments, &["--url", &agent.url()]].concat())
}

/// An agent with a passing instance `web` and a critical one, `sick`.
fn agent_with_instances() -> Agent {
    let agent = Agent::start(&[]);
    agent.register("web", "10.0.0.1:80", &json!({ "ttl_ms": 60_000 }));
    agent.register("sick", "10.0.0.2:80", &json!({ "check": { "ttl": "60s" } }));
    agent
}

#[test]
fn an_unknown_service_is_an_error_of_the_commands_that_name_it() {
    let agent = agent_with_instances();
    for arguments in [
        &["get", "wbe"][..],
        &["get", "wbe", "--json"],
        &["registrations", "wbe"],
        &["maintenance", "on", "wbe"],
        &["maintenance", "drain", "web", "10.0.0.9:80"],
        &["maintenance", "off", "wbe"],
        &["unregister", "wbe", "10.0.0.1:80"],
        &["unregister", "web", "10.0.0.9:80"],
    ] {
        let (status, out, error) = on_agent(&agent, arguments);
        assert_eq!((status, out.as_str()), (1, ""), "{arguments:?}");
        let named = arguments.last().unwrap().replace("--json", "wbe");
        let named = named.replace("10.0.0.1:80", "wbe");
        assert!(
            error.contains(&named) && error.contains("registered"),
            "{arguments:?}: {error}"
        );
    }
    let (_, held) = agent.request("GET", "/v1/maintenance", &Value::Null);
    assert_eq!(held, json!({ "held": [] }), "nothing was changed");
    assert_eq!(on_agent(&agent, &["get"]).0, 2, "an invalid command line");
}

#[test]
fn a_known_service_without_a_match_is_no_error() {
    let agent = agent_with_instances();
    assert_eq!(on_agent(&agent, &["get", "web", "-t", "blue"]).0, 0);
    let (status, out, note) = on_agent(&agent, &["get", "sick"]);
    assert_eq!((status, out.as_str()), (0, ""), "{note}");
    assert!(note.contains("the agent withholds 1"), "{note}");
}

#[test]
fn the_maintenance_mode_of_a_later_service_is_set_on_request_and_switched_off() {
    let agent = agent_with_instances();
    let (status, out, _) = on_agent(&agent, &["maintenance", "drain", "later", "--force"]);
    assert_eq!((status, out.as_str()), (0, "draining: 0 instances\n"));
    assert_eq!(on_agent(&agent, &["maintenance", "off", "later"]).0, 0);
    assert_eq!(on_agent(&agent, &["maintenance", "off", "later"]).0, 1);
}

#[test]
fn withheld_instances_are_listed_and_removed() {
    let agent = agent_with_instances();
    assert_eq!(on_agent(&agent, &["maintenance", "on", "web"]).0, 0);
    let (_, listed, _) = on_agent(&agent, &["registrations"]);
    let states: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(
        states,
        [
            ["sick", "10.0.0.2:80", "critical"],
            ["web", "10.0.0.1:80", "maintenance"]
        ]
    );
    let (_, one, _) = on_agent(&agent, &["registrations", "sick", "--json"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(
        (&one[0]["id"], one.as_array().unwrap().len()),
        (&json!("10.0.0.2:80"), 1)
    );

    let (_, status, _) = on_agent(&agent, &["status"]);
    for part in ["1 critical, 1 maintenance", "maintenance web", "memory://"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let (_, status, _) = on_agent(&agent, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["states"], json!({ "critical": 1, "maintenance": 1 }));

    for (service, id) in [("sick", "10.0.0.2:80"), ("web", "10.0.0.1:80")] {
        let (status, _, error) = on_agent(&agent, &["unregister", service, id]);
        assert_eq!(status, 0, "{error}");
    }
    assert_eq!(
        on_agent(&agent, &["registrations"]),
        (0, String::new(), String::new())
    );
}

#[test]
fn the_owner_of_an_instance_that_was_unregistered_by_hand_does_not_register_it_again() {
    let agent = agent_with_instances();
    let granted = agent.register(
        "shop",
        "10.0.0.3:80",
        &json!({ "owner": "me", "ttl_ms": 60_000 }),
    );
    assert_eq!(
        on_agent(&agent, &["unregister", "shop", "10.0.0.3:80"]).0,
        0
    );
    let path = "/v1/services/shop/instances/10.0.0.3:80/heartbeat";
    let (status, refused) = agent.request("POST", path, &json!({ "grant": granted["grant"] }));
    assert_eq!((status, &refused["kind"]), (409, &json!("replaced")));
}

#[test]
fn a_check_of_the_configuration_confirms_success_and_finds_an_occupied_address() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let check = |bind: &str, socket: &str| {
        discoverd(&[
            "run", "--check", "--state", "none", "--bind", bind, "--socket", socket,
        ])
    };
    let path = socket.to_str().unwrap();
    let (status, out, error) = check("127.0.0.1:0", path);
    assert_eq!(status, 0, "{error}");
    assert!(out.ends_with("\nthe configuration is valid\n"), "{out}");
    assert!(!socket.exists());

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = other.local_addr().unwrap().to_string();
    // The other program closes each connection without an answer.
    std::thread::spawn(move || other.incoming().for_each(drop));
    let (status, out, error) = check(&used, "none");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(error.contains(&used) && error.contains("in use"), "{error}");

    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (status, _, error) = check("none", path);
    assert!(status == 1 && error.contains("another process"), "{error}");

    // The next run may replace an agent that listens already.
    let agent = Agent::start(&[]);
    let own = agent.directory().join("socket");
    for (bind, socket) in [
        (agent.address().to_string().as_str(), "none"),
        ("127.0.0.1:0", own.to_str().unwrap()),
    ] {
        let (status, out, note) = check(bind, socket);
        assert_eq!(status, 0, "{note}");
        assert!(note.contains("an agent listens on"), "{note}");
        assert!(out.ends_with("the configuration is valid\n"), "{out}");
    }
}
