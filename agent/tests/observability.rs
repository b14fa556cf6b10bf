//! What an operator learns from the log and from error responses of an agent.

mod support;

use discover_testkit::etcd::Etcd;
use serde_json::{Value, json};
use support::{Agent, eventually};

const WEB: &str = "/v1/services/web/instances/10.0.0.1:80";

fn wait_for_log(agent: &Agent, parts: &[&str]) -> String {
    eventually(&format!("the log has a line with {parts:?}"), || {
        let log = agent.log();
        let is_match = |line: &&str| parts.iter().all(|part| line.contains(part));
        log.lines().find(is_match).map(str::to_owned)
    })
}

#[test]
fn every_change_of_an_operator_is_logged_with_the_client_that_asked_for_it() {
    let agent = Agent::start(&[]);
    let origin = "peer=127.0.0.1";
    agent.register("web", "10.0.0.1:80", &json!({ "ttl_ms": 60_000 }));
    wait_for_log(
        &agent,
        &[
            "registration accepted",
            "service=web",
            "instance=10.0.0.1:80",
            origin,
        ],
    );
    let body = json!({ "attributes": { "zone": "eu" } });
    assert_eq!(agent.request("PATCH", WEB, &body).0, 204);
    wait_for_log(
        &agent,
        &["attributes changed", "instance=10.0.0.1:80", origin],
    );
    agent.register("web", "10.0.0.1:80", &json!({ "owner": "other" }));
    wait_for_log(
        &agent,
        &["of another owner replaced", "service=web", origin],
    );
    agent.command(&["maintenance", "drain", "web"]);
    let line = wait_for_log(
        &agent,
        &["maintenance mode changed", "mode=draining", origin],
    );
    assert!(
        line.contains("service=web") && line.contains("instances=1"),
        "{line}"
    );
    assert_eq!(agent.socket_request("DELETE", WEB, &Value::Null).0, 204);
    let user = format!("peer=uid:{}", nix::unistd::geteuid());
    wait_for_log(
        &agent,
        &["registration removed", "instance=10.0.0.1:80", &user],
    );
}

#[test]
fn repeated_registrations_and_heartbeats_are_not_logged() {
    let agent = Agent::start(&[]);
    for _ in 0..3 {
        agent.register("web", "10.0.0.1:80", &json!({}));
    }
    agent.register("web", "10.0.0.1:80", &json!({ "tags": ["a"] }));
    wait_for_log(&agent, &["registration changed", "service=web"]);
    assert_eq!(agent.log().matches("registration accepted").count(), 1);
}

#[test]
fn the_output_of_hooks_is_logged_on_one_bounded_line() {
    let config = "[[watch]]\nservice = 'web'\n\
                  onChange = ['sh', '-c', 'printf \"one\\\\ntwo\\\\033[31m\"; head -c 3000 /dev/zero | tr \"\\\\0\" x']\n\
                  [[watch]]\nservice = 'shop'\nonChange = ['sh', '-c', 'echo to no avail; exit 3']\n\
                  [[watch]]\nservice = 'slow'\ntimeout = '1s'\nonChange = ['sh', '-c', 'echo begun; sleep 60']\n";
    let agent = Agent::with_config(config, &[]);
    agent.register("web", "10.0.0.1:80", &json!({}));
    let line = wait_for_log(&agent, &["hook ran", "service=web"]);
    assert!(line.contains(r"output=one\ntwo\u{1b}[31mxxx"), "{line}");
    assert!(line.len() < 1500, "{}", line.len());
    agent.register("shop", "10.0.0.1:81", &json!({}));
    wait_for_log(&agent, &["a hook failed", "service=shop", "to no avail"]);
    agent.register("slow", "10.0.0.1:82", &json!({}));
    wait_for_log(
        &agent,
        &["was killed", "service=slow", "output=begun", "timeout=1s"],
    );
}

#[test]
fn the_loss_and_the_return_of_the_store_are_logged_and_problems_name_the_store() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let url = format!("etcd://{}", etcd.endpoint().trim_start_matches("http://"));
    let agent = Agent::start(&["--store", &url]);
    let (_, refused) = agent.request("PUT", WEB, &json!({ "ttl_ms": 5 }));
    assert_eq!(refused["component"], "agent");
    let title = refused["title"].as_str().unwrap();
    assert!(
        title.starts_with("The agent refused the request"),
        "{title}"
    );

    agent.register("web", "10.0.0.1:80", &json!({ "ttl_ms": 60_000 }));
    assert_eq!(
        agent.published("web"),
        ["10.0.0.1:80"],
        "the store is watched"
    );
    etcd.kill();
    wait_for_log(&agent, &["connection suspended", "backend=etcd", "error="]);
    let (status, refused) = agent.request("GET", "/v1/services", &Value::Null);
    assert_eq!(
        (status, &refused["component"]),
        (503, &json!("store")),
        "{refused}"
    );
    let title = refused["title"].as_str().unwrap();
    assert!(
        title.starts_with("The store refused the request or failed"),
        "{title}"
    );
    etcd.restart();
    wait_for_log(&agent, &["connection restored", "backend=etcd"]);
}

#[test]
fn instances_show_the_time_at_which_the_agent_first_saw_them() {
    let agent = Agent::start(&[]);
    agent.register("web", "10.0.0.1:80", &json!({}));
    let instances = || {
        let (_, web) = agent.request("GET", "/v1/services/web", &Value::Null);
        web["instances"].as_array().unwrap().clone()
    };
    let first = instances().remove(0);
    assert_eq!(first["online_before"], true, "{first}");
    agent.register("web", "10.0.0.2:80", &json!({}));
    let second = instances().remove(1);
    assert_eq!(second["online_before"], false, "{second}");
    assert!(first["first_seen"].as_str() <= second["first_seen"].as_str());
    // An update keeps the time.
    let path = "/v1/services/web/instances/10.0.0.2:80";
    let body = json!({ "attributes": { "zone": "eu" } });
    assert_eq!(agent.request("PATCH", path, &body).0, 204);
    let updated = instances().remove(1);
    assert_eq!(updated["attributes"]["zone"], "eu");
    assert_eq!(updated["first_seen"], second["first_seen"]);
}
