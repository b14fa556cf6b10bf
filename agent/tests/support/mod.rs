//! An agent of the test kit, with the helpers that only these tests use.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ops::{Deref, DerefMut};
use std::path::Path;

use discover_testkit::agent::{self, AgentOptions};
pub use discover_testkit::eventually;
use serde_json::Value;

/// An agent on a free port and a socket, with a configuration file. Killed when dropped.
pub struct Agent(agent::Agent);

impl Agent {
    /// Starts an agent with these arguments and an empty configuration file.
    pub fn start(arguments: &[&str]) -> Agent {
        Agent::with_config("", arguments)
    }

    /// Starts an agent with this configuration file and these arguments.
    pub fn with_config(config: &str, arguments: &[&str]) -> Agent {
        let mut options = AgentOptions::new(env!("CARGO_BIN_EXE_discoverd"))
            .bind("127.0.0.1:0")
            .config(config)
            .arguments(&["--check-interval", "10ms"])
            .arguments(arguments);
        if !arguments.contains(&"--state") {
            options = options.arguments(&["--state", "none"]);
        }
        Agent(options.start())
    }

    /// Registers an instance and returns the response.
    pub fn register(&self, service: &str, id: &str, body: &Value) -> Value {
        let path = format!("/v1/services/{service}/instances/{id}");
        let (status, response) = self.request("PUT", &path, body);
        assert_eq!(status, 200, "{response}");
        response
    }

    /// Registers an instance over the Unix socket, and so as an authenticated client.
    pub fn register_by_socket(&self, service: &str, id: &str, body: &Value) -> Value {
        let path = format!("/v1/services/{service}/instances/{id}");
        let (status, response) = self.socket_request("PUT", &path, body);
        assert_eq!(status, 200, "{response}");
        response
    }

    /// Returns the ids of the published instances of a service; `!` marks the attribute `health=warning`.
    pub fn published(&self, service: &str) -> Vec<String> {
        let (status, response) =
            self.request("GET", &format!("/v1/services/{service}"), &Value::Null);
        assert_eq!(status, 200, "{response}");
        let instances = response["instances"].as_array().unwrap();
        let id = |instance: &Value| {
            let is_warning = instance["attributes"]["health"] == "warning";
            let mark = if is_warning { "!" } else { "" };
            format!("{}{mark}", instance["id"].as_str().unwrap())
        };
        instances.iter().map(id).collect()
    }

    /// Returns the state and the note of a registration, or `none` for both if there is none.
    pub fn state(&self, id: &str) -> (String, String) {
        let (_, response) = self.request("GET", "/v1/registrations", &Value::Null);
        let registrations = response["registrations"].as_array().unwrap();
        let registration = registrations.iter().find(|other| other["id"] == id);
        let text = |name: &str| {
            registration
                .map_or("none", |found| found[name].as_str().unwrap())
                .to_owned()
        };
        (text("state"), text("note"))
    }

    /// Waits until a registration has this state, and returns its note.
    pub fn wait_for_state(&self, id: &str, state: &str) -> String {
        eventually(&format!("{id} is {state}"), || {
            let (current, note) = self.state(id);
            (current == state).then_some(note)
        })
    }

    /// Waits until exactly these instances of a service are published.
    pub fn wait_for_published(&self, service: &str, ids: &[&str]) {
        eventually(&format!("{service} has {ids:?}"), || {
            (self.published(service) == ids).then_some(())
        });
    }
}

impl Deref for Agent {
    type Target = agent::Agent;

    fn deref(&self) -> &agent::Agent {
        &self.0
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut agent::Agent {
        &mut self.0
    }
}

/// Returns the lines of a file; none if there is no such file.
pub fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
