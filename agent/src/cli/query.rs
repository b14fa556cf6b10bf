//! The commands `services`, `get` and `watch`, which read a registry.

use std::time::Duration;

use discover_core::{Error, ErrorKind, Result, ServiceSet};
use futures_util::StreamExt;
use serde_json::json;

use crate::cli::{InstanceSelector, RegistryArgs, output, registrations, signals};

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
///
/// # Errors
///
/// Fails with [`ErrorKind::NotFound`] if no instance of the service is registered, whatever its attributes and tags.
pub async fn get(
    registry: &RegistryArgs,
    selector: &InstanceSelector,
    as_json: bool,
    count: usize,
    timeout: Duration,
) -> Result<()> {
    let client = registry.client().await?;
    let all = client.services(&selector.service)?;
    let set = filtered(&all, selector);
    set.wait(count, timeout).await?;
    let now = set.snapshot();
    if all.snapshot().online().is_empty() {
        report_none_online(registry, &selector.service).await?;
    }
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
    let all = client.services(&selector.service)?;
    let mut events = filtered(&all, selector).subscribe();
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

fn filtered(all: &ServiceSet, selector: &InstanceSelector) -> ServiceSet {
    all.filter(selector.attributes.clone(), selector.tags.clone())
}

/// Notes that the agent withholds all instances of a service.
///
/// # Errors
///
/// Fails with [`ErrorKind::NotFound`] if there are none.
async fn report_none_online(registry: &RegistryArgs, service: &str) -> Result<()> {
    let withheld = match registry.agent()? {
        Some(agent) => registrations::list(&agent, Some(service), None)
            .await?
            .len(),
        None => 0,
    };
    if withheld == 0 {
        let text = format!(
            "no instance of {service} is registered; `discoverd services` lists the services"
        );
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    output::note(&format!(
        "no instance of {service} is online: the agent withholds {withheld}; `discoverd registrations {service}` shows why"
    ));
    Ok(())
}
