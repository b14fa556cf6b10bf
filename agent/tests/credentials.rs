//! The credentials that the public hosts of a service share (`layout=scalingo`), for registrations through the agent:
//! whatever an owner, an operator or a restart does, no old credentials are written over new ones.

#[path = "../../core/tests/support/etcd.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod etcd;
mod support;

use std::time::Duration;

use discover_core::{Client, Lease, Registration, Standing};
use etcd::Etcd;
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{Agent, eventually};
use tokio::time::timeout;

const OLD: [(&str, &str); 3] = [("public", "true"), ("user", "u"), ("password", "old")];
const NEW: [(&str, &str); 3] = [("public", "true"), ("user", "u"), ("password", "new")];
const DEADLINE: Duration = Duration::from_secs(60);

fn host(name: &str, attributes: [(&str, &str); 3]) -> Registration {
    let registration = Registration::at("api", &format!("{name}:80")).unwrap();
    let registration = registration.ttl(Duration::from_secs(3)).unwrap();
    registration.attributes(attributes).unwrap()
}

/// A service with two public hosts: one registered through the agent, and one that has changed the credentials.
struct Fleet {
    etcd: Etcd,
    agent: Agent,
    behind_agent: Lease,
    _clients: [Client; 2],
    other: Lease,
}

impl Fleet {
    async fn start() -> Option<Fleet> {
        let etcd = Etcd::start()?;
        let store = format!("etcd://{}?layout=scalingo", etcd.endpoint());
        let agent = Agent::start(&["--store", &store]);
        let (client, direct) = (
            Client::connect(&agent.socket_url()).await.unwrap(),
            Client::connect(&store).await.unwrap(),
        );
        let behind_agent = client.register(host("n1", OLD)).await.unwrap();
        let other = direct.register(host("n2", NEW)).await.unwrap();
        let fleet = Fleet {
            etcd,
            agent,
            behind_agent,
            _clients: [client, direct],
            other,
        };
        eventually("the agent adopts the new credentials", || {
            fleet.host("n1").contains("new").then_some(())
        });
        Some(fleet)
    }

    /// Returns the values of the keys with this prefix.
    fn record(&self, prefix: &str) -> String {
        self.etcd
            .ctl(&["get", "--prefix", "--print-value-only", prefix])
    }

    /// Returns the record of a host; empty if it is not published.
    fn host(&self, name: &str) -> String {
        let records = self.record("/services/api/");
        let name = format!(r#""name":"{name}""#);
        let mut records = records.lines().filter(|line| line.contains(&name));
        records.next().unwrap_or_default().to_owned()
    }

    /// Checks that all hosts and the shared record have the new credentials only.
    #[track_caller]
    fn check(&self, what: &str) {
        let all = self.record("/services");
        assert!(!all.contains("old"), "{what}: {all}");
        assert_eq!(
            all.matches(r#""password":"new""#).count(),
            3,
            "{what}: {all}"
        );
    }

    fn request(&self, method: &str, path: &str, body: &Value) {
        let (status, response) = self.agent.request(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {response}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_behind_the_agent_learns_what_its_registration_adopted() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut changes = fleet.behind_agent.changes();
    while fleet.behind_agent.attributes()["password"] != "new" {
        let standing = timeout(DEADLINE, changes.next()).await.expect("no notice");
        assert!(matches!(standing, Some(Standing::Live)));
    }
    fleet.behind_agent.update([("zone", "eu")]).await.unwrap();
    let shared = fleet.record("/services_infos/");
    assert!(shared.contains(r#""password":"new""#), "{shared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_with_credentials_from_before_a_change_does_not_roll_them_back() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let attributes = json!({ "public": "true", "user": "u", "password": "old", "zone": "eu" });
    let body = json!({ "attributes": attributes });
    fleet.request("PATCH", "/v1/services/api/instances/n1:80", &body);
    assert!(fleet.host("n1").contains(r#""zone":"eu""#));
    fleet.check("after the update");
    // A change of the credentials is one for all.
    let attributes = json!({ "public": "true", "user": "u", "password": "newest" });
    let body = json!({ "attributes": attributes });
    fleet.request("PATCH", "/v1/services/api/instances/n1:80", &body);
    eventually("all have the newest credentials", || {
        let all = fleet.record("/services");
        (all.matches(r#""password":"newest""#).count() == 3).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_does_not_roll_credentials_back() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    for mode in ["on", "drain"] {
        fleet.agent.command(&["maintenance", mode, "api"]);
        assert_eq!(fleet.host("n1"), "", "{mode}");
        fleet.agent.command(&["maintenance", "off", "api"]);
        eventually("the instance is published with the new credentials", || {
            fleet.host("n1").contains("new").then_some(())
        });
        fleet.check(mode);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_does_not_roll_credentials_back() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let attributes = json!({ "public": "true", "user": "u", "password": "old" });
    let body = json!({ "attributes": attributes, "check": { "ttl": "1h" } });
    let path = "/v1/services/api/instances/n3:80";
    fleet.request("PUT", path, &body);
    let heartbeat = format!("{path}/heartbeat");
    fleet.request("POST", &heartbeat, &json!({ "health": "passing" }));
    eventually("n3 has set the credentials of all", || {
        fleet.host("n1").contains("old").then_some(())
    });
    let newest = [("public", "true"), ("user", "u"), ("password", "newest")];
    fleet.other.update(newest).await.unwrap();
    eventually("n3 has the newest ones, too", || {
        fleet.host("n3").contains("newest").then_some(())
    });
    fleet.request("POST", &heartbeat, &json!({ "health": "warning" }));
    eventually("n3 is published with a warning", || {
        fleet.host("n3").contains("warning").then_some(())
    });
    let all = fleet.record("/services");
    assert!(!all.contains("old"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_agent_does_not_roll_credentials_back() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    fleet.agent.kill();
    fleet.agent.restart();
    eventually("the owner has registered again", || {
        let (_, response) = fleet
            .agent
            .request("GET", "/v1/registrations", &Value::Null);
        let known = response["registrations"].as_array()?;
        (known.len() == 1).then_some(())
    });
    eventually("the registration has adopted the credentials", || {
        fleet.host("n1").contains("new").then_some(())
    });
    fleet.check("after the restart");
}
