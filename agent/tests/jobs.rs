//! What a configuration file asks for: services of programs that know nothing of us, and commands that
//! are run when others change.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Agent, eventually, lines};
use tokio::time::Instant;

#[test]
fn services_of_the_file_are_there_while_they_pass_and_go_before_the_agent_does() {
    // The registry that the agent stands in front of outlives it, and would keep them for a minute.
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
    store.until_seen("web", &["10.0.0.7:8080"]);
    store.until_seen("db", &[&format!("127.0.0.1:{port}")]);
    let (_, web) = store.ask("GET", "/v1/services/web?tag=blue", &Value::Null);
    assert_eq!(web["instances"][0]["attributes"], json!({ "zone": "eu" }));
    drop(listener);
    store.until_seen("db", &[]);
    agent.signal("TERM");
    agent.ended();
    assert_eq!(store.seen("web"), [""; 0], "at once, long before the TTL");
}

#[test]
fn what_the_store_does_not_take_is_told_once_and_shown() {
    // The native layout writes an instance at its address, and nowhere else.
    let check = "check = { exec = 'true', interval = '50ms' }";
    let config = format!("[[service]]\nname = 'web'\nid = 'one'\nport = 1\n{check}\n");
    let agent = Agent::with_config(&config, &[]);
    let reason = "layout native names an instance by its address";
    eventually("it is shown", || {
        let (_, all) = agent.ask("GET", "/v1/registrations", &Value::Null);
        let error = all["registrations"][0]["error"].as_str()?.to_owned();
        assert!(error.contains(reason), "{error}");
        Some(())
    });
    agent.reload(&format!("{config}tags = ['later']\n"));
    eventually("it is said again of another one", || {
        let count = agent.log().matches(reason).count();
        assert!(count <= 2, "{}", agent.log());
        (count == 2).then_some(())
    });
}

#[test]
fn a_hangup_has_the_file_read_again_and_one_that_is_wrong_changes_nothing() {
    let one = |name: &str, port| format!("[[service]]\nname = '{name}'\nport = {port}\n");
    let agent = Agent::with_config(&one("web", 1), &[]);
    agent.until_seen("web", &["127.0.0.1:1"]);
    let created = || {
        let (_, web) = agent.ask("GET", "/v1/services/web", &Value::Null);
        web["instances"][0]["created"].clone()
    };
    let before = created();
    agent.reload(&format!("{}{}", one("web", 1), one("db", 2)));
    agent.until_seen("db", &["127.0.0.1:2"]);
    agent.reload("[[service]]\nname = 'web'\nport = 0\n");
    eventually("it says what is wrong", || {
        agent
            .log()
            .contains("port is 0; it must be 1 to 65535")
            .then_some(())
    });
    assert_eq!(agent.seen("db"), ["127.0.0.1:2"]);
    agent.reload(&one("web", 1));
    agent.until_seen("db", &[]);
    assert_eq!(created(), before, "what stayed in the file was left alone");
}

#[test]
fn a_command_is_run_for_each_change_never_twice_at_a_time_and_told_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let (told, go) = (folder.path().join("told"), folder.path().join("go"));
    // Each run tells what it was told, and waits until it may go on.
    let script = format!(
        "echo begin $DISCOVER_SERVICE $DISCOVER_EVENT $DISCOVER_COUNT $DISCOVER_ADDRESSES >> {told}\n\
         cat >> {told}\nuntil [ -e {go} ]; do sleep 0.05; done\necho end >> {told}\n",
        told = told.display(),
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
    eventually("the command begins", || {
        (lines(&told).len() == 2).then_some(())
    });
    assert_eq!(
        lines(&told)[0],
        "begin web up 1 10.0.0.1:80",
        "the other has no such tag"
    );
    let input: Value = serde_json::from_str(&lines(&told)[1]).unwrap();
    assert_eq!(input["events"][0]["event"], "up");
    assert_eq!(input["instances"][0]["address"], "10.0.0.1:80");
    // While it runs, much happens: one comes, and one comes and goes.
    agent.register("web", "10.0.0.2:80", &blue);
    agent.register("web", "10.0.0.3:80", &blue);
    let path = "/v1/services/web/instances/10.0.0.3:80";
    assert_eq!(agent.ask("DELETE", path, &Value::Null).0, 204);
    std::fs::write(&go, "").unwrap();
    eventually("it was run once more", || {
        (lines(&told).len() == 6).then_some(())
    });
    let all = lines(&told);
    assert_eq!(
        (all[2].as_str(), all[5].as_str()),
        ("end", "end"),
        "one after the other"
    );
    assert_eq!(all[3], "begin web up 2 10.0.0.1:80 10.0.0.2:80");
    // And nothing is left over: the next change is the next run.
    let path = "/v1/services/web/instances/10.0.0.1:80";
    assert_eq!(agent.ask("DELETE", path, &Value::Null).0, 204);
    eventually("it was run for the next", || {
        (lines(&told).len() == 9).then_some(())
    });
    assert_eq!(lines(&told)[6], "begin web down 1 10.0.0.2:80");
}

#[test]
fn what_is_watched_as_before_is_left_alone_when_another_watch_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (told, go) = (folder.path().join("told"), folder.path().join("go"));
    let script = format!(
        "echo begin >> {told}\nuntil [ -e {go} ]; do sleep 0.05; done\necho end >> {told}\n",
        told = told.display(),
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
    eventually("the command begins", || {
        (lines(&told) == ["begin"]).then_some(())
    });
    agent.reload(&format!(
        "{web}[[watch]]\nservice = 'db'\nonChange = 'true'\n"
    ));
    eventually("the file is read again", || {
        agent
            .log()
            .contains("configuration file reloaded")
            .then_some(())
    });
    std::fs::write(&go, "").unwrap();
    eventually("the command is let to its end", || {
        (lines(&told) == ["begin", "end"]).then_some(())
    });
}

#[test]
fn a_store_that_hangs_delays_neither_the_start_nor_the_end() {
    // It takes connections, and never answers.
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("etcd://{}", store.local_addr().unwrap());
    let one = |port| format!("[[service]]\nname = 'web'\nport = {port}\n");
    let config: String = (1..=40).map(one).collect();
    // One after the other, they would take longer than this test has.
    let start = Instant::now();
    let mut agent = Agent::with_config(&config, &["--store", &url]);
    agent.reload(&one(41));
    eventually("the file is read again", || {
        agent
            .log()
            .contains("configuration file reloaded")
            .then_some(())
    });
    agent.signal("TERM");
    agent.ended();
    assert!(start.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_next_change_has_its_turn() {
    let config = "[[watch]]\nservice = 'web'\nonChange = 'sleep 1000'\ntimeout = '300ms'\n";
    let agent = Agent::with_config(config, &[]);
    let killed = || agent.log().matches("command=\"sleep 1000\"").count();
    agent.register("web", "10.0.0.1:80", &json!({}));
    eventually("it is killed", || (killed() == 1).then_some(()));
    agent.register("web", "10.0.0.2:80", &json!({}));
    eventually("the next one, too", || (killed() == 2).then_some(()));
}

#[test]
fn a_file_that_is_wrong_keeps_the_agent_from_starting_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[[watch]]\nservice = 'web'\n").unwrap();
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_discoverd"))
        .args(["run", "--bind", "127.0.0.1:0", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("config.toml"), "{said}");
    assert!(said.contains("missing field `onChange`"), "{said}");
}
