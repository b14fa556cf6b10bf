//! The command `maintenance`, which switches the maintenance mode of an agent's registrations.

use std::time::Duration;

use discover_core::{AgentApi, Error, Result, Url};
use serde_json::{Value, json};

use crate::cli::{RegistryArgs, output, running_agent};

/// Limit on the time of the request, which includes writes to the store.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The mode to switch to.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum MaintenanceSwitch {
    /// Withdraw the instances from the store until the mode is switched off
    On,
    /// Withdraw the instances, and report that they finish the requests in progress
    Drain,
    /// Publish the instances again
    Off,
}

/// Switches the mode of one instance, of one service, or of all registrations of the agent.
pub async fn maintenance(
    registry: &RegistryArgs,
    switch: MaintenanceSwitch,
    service: Option<&str>,
    id: Option<&str>,
    all: bool,
) -> Result<()> {
    let withdraws = !matches!(switch, MaintenanceSwitch::Off);
    if withdraws && service.is_none() && !all {
        return Err(Error::invalid(
            "this would withdraw all registrations of the agent; name a service, or pass --all",
        ));
    }
    let mode = match switch {
        MaintenanceSwitch::On => "maintenance",
        MaintenanceSwitch::Drain => "draining",
        MaintenanceSwitch::Off => "off",
    };
    let mut body = json!({ "mode": mode });
    for (name, value) in [("service", service), ("id", id)] {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    }
    let agent = AgentApi::open(&agent_url(registry)?)?;
    let response = agent.request("PUT", "/v1/maintenance", Some(&body), REQUEST_TIMEOUT);
    let response = response.await?;
    let count = response["instances"].as_u64().unwrap_or_default();
    output::print(&format!("{mode}: {count} instances\n"));
    Ok(())
}

/// Returns the given URL if it is that of an agent. Otherwise returns that of the agent on the socket of this user, or
/// else the default address of an agent.
fn agent_url(registry: &RegistryArgs) -> Result<String> {
    let (url, _) = registry.resolve();
    if Url::parse(&url)?.scheme().starts_with("discoverd") {
        return Ok(url);
    }
    Ok(running_agent().unwrap_or_else(|| "discoverd://".to_owned()))
}
