//! The command `maintenance`, which switches the maintenance mode of an agent's registrations.

use std::time::Duration;

use discover_core::{AgentApi, Error, Result};
use serde_json::{Value, json};

use crate::cli::{RegistryArgs, output, registrations};

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

/// The registrations whose mode is switched.
#[derive(Debug)]
pub struct MaintenanceTarget {
    /// Service, or `None` for all.
    pub service: Option<String>,
    /// Id of the instance, or `None` for all of the service.
    pub id: Option<String>,
    /// Whether all registrations were asked for explicitly.
    pub all: bool,
    /// Whether a service or instance that is not registered is accepted.
    pub force: bool,
}

/// Switches the mode of one instance, of one service, or of all registrations of the agent.
///
/// # Errors
///
/// Fails with [`ErrorKind::NotFound`](discover_core::ErrorKind::NotFound) if the service or instance is not registered
/// with the agent, unless `force` is set, or the mode of one that is no longer registered is switched off.
pub async fn maintenance(
    registry: &RegistryArgs,
    switch: MaintenanceSwitch,
    target: &MaintenanceTarget,
) -> Result<()> {
    let withdraws = !matches!(switch, MaintenanceSwitch::Off);
    if withdraws && target.service.is_none() && !target.all {
        return Err(Error::invalid(
            "this would withdraw all registrations of the agent; name a service, or pass --all",
        ));
    }
    let mode = match switch {
        MaintenanceSwitch::On => "maintenance",
        MaintenanceSwitch::Drain => "draining",
        MaintenanceSwitch::Off => "off",
    };
    let agent = registry.agent_or_default()?;
    let (service, id) = (target.service.as_deref(), target.id.as_deref());
    if let (Some(service), false) = (service, target.force) {
        check_known(&agent, service, id, withdraws).await?;
    }
    let mut body = json!({ "mode": mode });
    for (name, value) in [("service", service), ("id", id)] {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    }
    let response = agent.request("PUT", "/v1/maintenance", Some(&body), REQUEST_TIMEOUT);
    let response = response.await?;
    let count = response["instances"].as_u64().unwrap_or_default();
    output::print(&format!("{mode}: {count} instances\n"));
    Ok(())
}

/// Fails if the agent has neither a registration of the service or instance nor, when a mode is switched off, a mode of it.
async fn check_known(
    agent: &AgentApi,
    service: &str,
    id: Option<&str>,
    withdraws: bool,
) -> Result<()> {
    if !registrations::list(agent, Some(service), id)
        .await?
        .is_empty()
    {
        return Ok(());
    }
    let unknown = registrations::not_registered(service, id);
    if withdraws {
        let text = format!("{unknown}; --force applies the mode to instances that register later");
        return Err(Error::new(unknown.kind(), text));
    }
    let modes = agent.request("GET", "/v1/maintenance", None, REQUEST_TIMEOUT);
    let modes = modes.await?;
    let is_of_target = |mode: &Value| {
        mode["service"].as_str() == Some(service) && (id.is_none() || mode["id"].as_str() == id)
    };
    match modes["held"]
        .as_array()
        .into_iter()
        .flatten()
        .any(is_of_target)
    {
        true => Ok(()),
        false => Err(unknown),
    }
}
