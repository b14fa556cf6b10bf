//! The command `registrations`: the registrations of an agent, also those that it withholds.

use std::time::Duration;

use discover_core::{AgentApi, Error, ErrorKind, HumanDuration, Result};
use serde_json::{Value, json};

use crate::cli::output::{self, printable};
use crate::cli::registry_args::RegistryArgs;

/// Limit on the time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Prints the registrations of an agent, of one service or of all.
///
/// # Errors
///
/// Fails with [`ErrorKind::NotFound`] if a service is named and the agent has no registration of it.
pub async fn registrations(
    registry: &RegistryArgs,
    service: Option<&str>,
    as_json: bool,
) -> Result<()> {
    let all = list(&registry.agent_or_default()?, service, None).await?;
    if let (true, Some(service)) = (all.is_empty(), service) {
        return Err(not_registered(service, None));
    }
    match as_json {
        true => output::print(&format!("{}\n", json!(all))),
        false => output::print(&table(&all)),
    }
    Ok(())
}

/// Returns the registrations of an agent, of one service or instance if it is given.
///
/// # Errors
///
/// Fails if the agent does not respond.
pub async fn list(agent: &AgentApi, service: Option<&str>, id: Option<&str>) -> Result<Vec<Value>> {
    let path = "/v1/registrations";
    let mut response = agent.request("GET", path, None, REQUEST_TIMEOUT).await?;
    let Value::Array(mut all) = response["registrations"].take() else {
        let text = format!("{path}: the response has no list of registrations");
        return Err(Error::new(ErrorKind::Internal, text));
    };
    all.retain(|entry| {
        let matches = |field: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| entry[field].as_str() == Some(wanted))
        };
        matches("service", service) && matches("id", id)
    });
    Ok(all)
}

/// Returns the error for a service or an instance that is not registered with the agent.
pub fn not_registered(service: &str, id: Option<&str>) -> Error {
    let what = match id {
        Some(id) => format!("{service}/{id}"),
        None => service.to_owned(),
    };
    let text = format!(
        "{what} is not registered with this agent; `discoverd registrations` lists what is"
    );
    Error::new(ErrorKind::NotFound, text)
}

/// Formats registrations as a table: instance, state and its age, source of the state, and the reason.
fn table(all: &[Value]) -> String {
    let text = |entry: &Value, field: &str| printable(entry[field].as_str().unwrap_or_default());
    let rows: Vec<[String; 5]> = all
        .iter()
        .map(|entry| {
            let since = Duration::from_millis(entry["since_ms"].as_u64().unwrap_or_default());
            let since = HumanDuration(Duration::from_secs(since.as_secs()));
            let (error, note) = (text(entry, "error"), text(entry, "note"));
            [
                text(entry, "service"),
                text(entry, "id"),
                text(entry, "state"),
                format!("{since}"),
                if error.is_empty() { note } else { error },
            ]
        })
        .collect();
    output::columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_registration_with_the_reason() {
        let all = [
            json!({"service": "web", "id": "h:80", "state": "passing", "since_ms": 61_200, "note": "", "error": null}),
            json!({"service": "database", "id": "h:1", "state": "critical", "since_ms": 900, "note": "\u{1b}[2J\nno", "error": null}),
        ];
        let lines: Vec<String> = table(&all).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "web       h:80  passing   61s");
        assert_eq!(lines[1], "database  h:1   critical  0s   \\u{1b}[2J\\nno");
    }
}
