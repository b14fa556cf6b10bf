//! The commands `services`, `get` and `watch`, which read a registry.

use std::time::Duration;

use discover_core::{Result, ServiceSet};
use futures_util::StreamExt;
use serde_json::json;

use crate::cli::{InstanceSelector, RegistryArgs, output, signals};

/// Prints the names of all services.
pub async fn services(registry: &RegistryArgs, as_json: bool) -> Result<()> {
    let client = registry.client().await?;
    let names = client.catalog().await?;
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    if as_json {
        output::print(&format!("{}\n", json!(names)));
    } else {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        output::print(&lines);
    }
    Ok(())
}

/// Waits for at least `count` instances of a service and prints its instances once.
pub async fn get(
    registry: &RegistryArgs,
    selector: &InstanceSelector,
    as_json: bool,
    count: usize,
    timeout: Duration,
) -> Result<()> {
    let client = registry.client().await?;
    let set = filtered(&client, selector)?;
    set.wait(count, timeout).await?;
    let now = set.snapshot();
    match as_json {
        true => output::print(&format!("{}\n", output::set(&now))),
        false => output::print(&output::table(&now)),
    }
    Ok(())
}

/// Prints the events of a service until a signal ends the command.
pub async fn watch(
    registry: &RegistryArgs,
    selector: &InstanceSelector,
    as_json: bool,
) -> Result<()> {
    let terminated = signals::termination()?;
    let mut terminated = std::pin::pin!(terminated);
    let client = registry.client().await?;
    let mut events = filtered(&client, selector)?.subscribe();
    let colours = output::use_colours();
    loop {
        tokio::select! {
            _ = &mut terminated => return Ok(()),
            event = events.next() => match event {
                Some(event) if as_json => output::print(&output::event_json(&event)),
                Some(event) => output::print(&output::event_text(&event, colours)),
                None => return Ok(()),
            }
        }
    }
}

fn filtered(client: &discover_core::Client, selector: &InstanceSelector) -> Result<ServiceSet> {
    let set = client.services(&selector.service)?;
    Ok(set.filter(selector.attributes.clone(), selector.tags.clone()))
}
