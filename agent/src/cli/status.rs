//! The command `status`: the state of an agent.

use std::collections::BTreeMap;
use std::time::Duration;

use discover_core::{HumanDuration, Result};
use serde_json::{Value, json};

use crate::cli::output::{self, printable};
use crate::cli::registrations;
use crate::cli::registry_args::RegistryArgs;

/// Limit on the time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Prints the state of an agent: its store, its registrations by state, and its maintenance modes.
pub async fn status(registry: &RegistryArgs, as_json: bool) -> Result<()> {
    let agent = registry.agent_or_default()?;
    let get = |path: &'static str| agent.request("GET", path, None, REQUEST_TIMEOUT);
    let agent_status = get("/v1/status").await?;
    let mut maintenance = get("/v1/maintenance").await?;
    let mut states = BTreeMap::<String, usize>::new();
    for entry in registrations::list(&agent, None, None).await? {
        let state = entry["state"].as_str().unwrap_or_default();
        *states.entry(state.to_owned()).or_default() += 1;
    }
    let modes = maintenance["held"].take();
    if as_json {
        let document = json!({ "agent": agent_status, "states": states, "maintenance": modes });
        output::print(&format!("{document}\n"));
    } else {
        output::print(&text(&agent_status, &states, &modes));
    }
    Ok(())
}

fn text(agent: &Value, states: &BTreeMap<String, usize>, modes: &Value) -> String {
    let field = |name: &str| printable(agent[name].as_str().unwrap_or_default());
    let number = |name: &str| agent[name].as_u64().unwrap_or_default();
    let mut connection = field("connection");
    if let Some(error) = agent["error"]["detail"].as_str() {
        connection = format!("{connection}: {}", printable(error));
    }
    let states = states.iter();
    let states: Vec<String> = states
        .map(|(state, count)| format!("{count} {}", printable(state)))
        .collect();
    let modes: Vec<String> = modes.as_array().into_iter().flatten().map(mode).collect();
    let or_none = |list: Vec<String>| match list.is_empty() {
        true => "none".to_owned(),
        false => list.join(", "),
    };
    let uptime = HumanDuration(Duration::from_secs(number("uptime_ms") / 1000));
    let line = |name: &str, value: String| [name.to_owned(), value];
    output::columns(&[
        line("version", field("version")),
        line("store", format!("{} ({connection})", field("store"))),
        line("address", field("address")),
        line("up for", uptime.to_string()),
        line("registrations", or_none(states)),
        line("maintenance", or_none(modes)),
        line("watched services", number("watched").to_string()),
        line("event streams", number("streams").to_string()),
    ])
}

/// Returns a maintenance mode as `draining web/10.0.0.1:80`.
fn mode(entry: &Value) -> String {
    let part = |name: &str| entry[name].as_str().map(printable);
    let mode = part("mode").unwrap_or_default();
    match (part("service"), part("id")) {
        (Some(service), Some(id)) => format!("{mode} {service}/{id}"),
        (Some(service), None) => format!("{mode} {service}"),
        (None, _) => format!("{mode} of all registrations"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_and_the_lost_store_are_shown() {
        let agent = json!({
            "version": "1", "store": "etcd://h", "address": "10.0.0.1", "uptime_ms": 61_000, "connection": "lost",
            "error": { "kind": "unavailable", "detail": "refused" }, "watched": 2, "streams": 3,
        });
        let states = BTreeMap::from([("passing".to_owned(), 2), ("critical".to_owned(), 1)]);
        let modes = json!([{ "mode": "draining", "service": "web", "id": null }]);
        let shown = text(&agent, &states, &modes);
        for line in [
            "store             etcd://h (lost: refused)",
            "registrations     1 critical, 2 passing",
            "maintenance       draining web",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
    }
}
