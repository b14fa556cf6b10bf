//! `services`, `get` and `watch`: what is there.

use std::time::Duration;

use discover_core::{Result, ServiceSet};
use futures_util::StreamExt;
use serde_json::json;

use crate::cli::{At, Which, output, signals};

/// The names of all services.
pub async fn services(at: &At, as_json: bool) -> Result<()> {
    let client = at.client().await?;
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

/// The instances of a service, once.
pub async fn get(
    at: &At,
    which: &Which,
    as_json: bool,
    count: usize,
    timeout: Duration,
) -> Result<()> {
    let client = at.client().await?;
    let set = narrowed(&client, which)?;
    set.wait(count, timeout).await?;
    let now = set.snapshot();
    match as_json {
        true => output::print(&format!("{}\n", output::set(&now))),
        false => output::print(&output::table(&now)),
    }
    Ok(())
}

/// A service as it changes.
pub async fn watch(at: &At, which: &Which, as_json: bool) -> Result<()> {
    let ended = signals::ending()?;
    let mut ended = std::pin::pin!(ended);
    let client = at.client().await?;
    let mut events = narrowed(&client, which)?.subscribe();
    let colours = output::colours();
    loop {
        tokio::select! {
            _ = &mut ended => return Ok(()),
            event = events.next() => match event {
                Some(event) if as_json => output::print(&output::event_json(&event)),
                Some(event) => output::print(&output::event_text(&event, colours)),
                None => return Ok(()),
            }
        }
    }
}

fn narrowed(client: &discover_core::Client, which: &Which) -> Result<ServiceSet> {
    let set = client.services(&which.service)?;
    Ok(set.filter(which.attributes.clone(), which.tags.clone()))
}
