//! Jobs of the configuration file: services of programs that do not register themselves, and commands that
//! run when a watched service changes.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Agent, eventually, lines};
use tokio::time::Instant;

#[test]
fn services_of_the_file_are_published_while_healthy_and_removed_before_the_agent_exits() {
    // The store outlives the agent, and would keep the instances for a minute.
    let store = Agent::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = format!(
        "[[service]]\nname = 'web'\nport = 8080\ntags = ['blue']\nattributes = {{ zone = 'eu' }}\n\
         interfaces = 'static:10.0.0.7'\nttl = '1m'\n\
         [[service]]\nname = 'db'\nport = {port}\nttl = '1m'\n\
         check = {{ tcp = ':{port}', interval = '100ms', timeout = '20s', down = 1 }}\n"
    );
    let mut agent = Agent::with_config(&config, &["--store", &store.url()]);
    store.wait_for_published("web", &["10.0.0.7:8080"]);
    store.wait_for_published("db", &[&format!("127.0.0.1:{port}")]);
    let (_, web) = store.request("GET", "/v1/services/web?tag=blue", &Value::Null);
    assert_eq!(web["instances"][0]["attributes"], json!({ "zone": "eu" }));
    drop(listener);
    store.wait_for_published("db", &[]);
    agent.signal("TERM");
    agent.wait_for_exit();
    assert_eq!(
        store.published("web"),
        [""; 0],
        "at once, long before the TTL"
    );
}

#[test]
fn a_registration_that_the_store_rejects_is_logged_once_and_shown() {
    // The native layout supports only instances whose id is their address.
    let check = "check = { exec = 'true', interval = '50ms' }";
    let config = format!("[[service]]\nname = 'web'\nid = 'one'\nport = 1\n{check}\n");
    let agent = Agent::with_config(&config, &[]);
    let reason = "layout native names an instance by its address";
    eventually("the error is shown", || {
        let (_, all) = agent.request("GET", "/v1/registrations", &Value::Null);
        let error = all["registrations"][0]["error"].as_str()?.to_owned();
        assert!(error.contains(reason), "{error}");
        Some(())
    });
    agent.reload(&format!("{config}tags = ['later']\n"));
    eventually("the error is logged for the changed registration", || {
        let count = agent.log().matches(reason).count();
        assert!(count <= 2, "{}", agent.log());
        (count == 2).then_some(())
    });
}

#[test]
fn sighup_reloads_the_file_and_an_invalid_file_changes_nothing() {
    let service = |name: &str, port| format!("[[service]]\nname = '{name}'\nport = {port}\n");
    let agent = Agent::with_config(&service("web", 1), &[]);
    agent.wait_for_published("web", &["127.0.0.1:1"]);
    let created = || {
        let (_, web) = agent.request("GET", "/v1/services/web", &Value::Null);
        web["instances"][0]["created"].clone()
    };
    let before = created();
    agent.reload(&format!("{}{}", service("web", 1), service("db", 2)));
    agent.wait_for_published("db", &["127.0.0.1:2"]);
    agent.reload("[[service]]\nname = 'web'\nport = 0\n");
    eventually("the error is logged", || {
        agent
            .log()
            .contains("port is 0; it must be 1 to 65535")
            .then_some(())
    });
    assert_eq!(agent.published("db"), ["127.0.0.1:2"]);
    agent.reload(&service("web", 1));
    agent.wait_for_published("db", &[]);
    assert_eq!(
        created(),
        before,
        "an unchanged service keeps its registration"
    );
}

#[test]
fn one_command_runs_at_a_time_and_gets_the_newest_state() {
    let folder = tempfile::tempdir().unwrap();
    let (output, go) = (folder.path().join("output"), folder.path().join("go"));
    // Each run appends its arguments and input, then waits until the file `go` exists.
    let script = format!(
        "echo begin $DISCOVER_SERVICE $DISCOVER_EVENT $DISCOVER_COUNT $DISCOVER_ADDRESSES >> {output}\n\
         cat >> {output}\nuntil [ -e {go} ]; do sleep 0.05; done\necho end >> {output}\n",
        output = output.display(),
        go = go.display(),
    );
    let command = folder.path().join("command");
    std::fs::write(&command, script).unwrap();
    let config = format!(
        "[[watch]]\nservice = 'web'\ntag = 'blue'\nonChange = ['sh', '{}']\n",
        command.display()
    );
    let agent = Agent::with_config(&config, &[]);
    let blue = json!({ "tags": ["blue"] });
    agent.register("web", "10.0.0.9:80", &json!({}));
    agent.register("web", "10.0.0.1:80", &blue);
    eventually("the command starts", || {
        (lines(&output).len() == 2).then_some(())
    });
    assert_eq!(
        lines(&output)[0],
        "begin web up 1 10.0.0.1:80",
        "the other instance lacks the tag"
    );
    let input: Value = serde_json::from_str(&lines(&output)[1]).unwrap();
    assert_eq!(input["events"][0]["event"], "up");
    assert_eq!(input["instances"][0]["address"], "10.0.0.1:80");
    // While it runs, one instance comes online, and another comes online and goes offline.
    agent.register("web", "10.0.0.2:80", &blue);
    agent.register("web", "10.0.0.3:80", &blue);
    let path = "/v1/services/web/instances/10.0.0.3:80";
    assert_eq!(agent.request("DELETE", path, &Value::Null).0, 204);
    std::fs::write(&go, "").unwrap();
    eventually("the command ran again", || {
        (lines(&output).len() == 6).then_some(())
    });
    let all = lines(&output);
    assert_eq!(
        (all[2].as_str(), all[5].as_str()),
        ("end", "end"),
        "one after the other"
    );
    assert_eq!(all[3], "begin web up 2 10.0.0.1:80 10.0.0.2:80");
    // No change is left over: the next change starts the next run.
    let path = "/v1/services/web/instances/10.0.0.1:80";
    assert_eq!(agent.request("DELETE", path, &Value::Null).0, 204);
    eventually("the command ran for the next change", || {
        (lines(&output).len() == 9).then_some(())
    });
    assert_eq!(lines(&output)[6], "begin web down 1 10.0.0.2:80");
}

#[test]
fn an_unchanged_watch_is_kept_when_another_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let (output, go) = (folder.path().join("output"), folder.path().join("go"));
    let script = format!(
        "echo begin >> {output}\nuntil [ -e {go} ]; do sleep 0.05; done\necho end >> {output}\n",
        output = output.display(),
        go = go.display(),
    );
    let command = folder.path().join("command");
    std::fs::write(&command, script).unwrap();
    let web = format!(
        "[[watch]]\nservice = 'web'\nonChange = ['sh', '{}']\n",
        command.display()
    );
    let agent = Agent::with_config(&web, &[]);
    agent.register("web", "10.0.0.1:80", &json!({}));
    eventually("the command starts", || {
        (lines(&output) == ["begin"]).then_some(())
    });
    agent.reload(&format!(
        "{web}[[watch]]\nservice = 'db'\nonChange = 'true'\n"
    ));
    eventually("the file is reloaded", || {
        agent
            .log()
            .contains("configuration file reloaded")
            .then_some(())
    });
    std::fs::write(&go, "").unwrap();
    eventually("the command finishes", || {
        (lines(&output) == ["begin", "end"]).then_some(())
    });
}

#[test]
fn an_unresponsive_store_delays_neither_start_nor_stop() {
    // The store accepts connections and never responds.
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("etcd://{}", store.local_addr().unwrap());
    let service = |port| format!("[[service]]\nname = 'web'\nport = {port}\n");
    let config: String = (1..=40).map(service).collect();
    // One after the other, the registrations would take longer than the limit of this test.
    let start = Instant::now();
    let mut agent = Agent::with_config(&config, &["--store", &url]);
    agent.reload(&service(41));
    eventually("the file is reloaded", || {
        agent
            .log()
            .contains("configuration file reloaded")
            .then_some(())
    });
    agent.signal("TERM");
    agent.wait_for_exit();
    assert!(start.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_command_is_killed_at_its_timeout_and_the_next_change_runs_it_again() {
    let config = "[[watch]]\nservice = 'web'\nonChange = 'sleep 1000'\ntimeout = '300ms'\n";
    let agent = Agent::with_config(config, &[]);
    let killed = || agent.log().matches("command=\"sleep 1000\"").count();
    agent.register("web", "10.0.0.1:80", &json!({}));
    eventually("the command is killed", || (killed() == 1).then_some(()));
    agent.register("web", "10.0.0.2:80", &json!({}));
    eventually("the next run is killed, too", || {
        (killed() == 2).then_some(())
    });
}

#[test]
fn an_invalid_file_fails_the_start_with_its_name_and_the_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[[watch]]\nservice = 'web'\n").unwrap();
    let result = std::process::Command::new(env!("CARGO_BIN_EXE_discoverd"))
        .args(["run", "--bind", "127.0.0.1:0", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!result.status.success());
    let errors = String::from_utf8_lossy(&result.stderr);
    assert!(errors.contains("config.toml"), "{errors}");
    assert!(errors.contains("missing field `onChange`"), "{errors}");
}
