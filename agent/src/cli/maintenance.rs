//! `maintenance`: holds back what an agent has registered.

use std::time::Duration;

use discover_core::{AgentApi, Result, Url};
use serde_json::{Value, json};

use crate::cli::{At, output};
use crate::config::default_socket;

/// How long the agent may take: its store may be slow.
const CALL: Duration = Duration::from_secs(15);

/// What becomes of them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Switch {
    /// Hold them back: others do not see them
    On,
    /// Hold them back, and say that they finish what they have begun
    Drain,
    /// Let go of them
    Off,
}

/// Holds back or lets go: one instance, one service, or all that is registered with the agent.
pub async fn maintenance(
    at: &At,
    switch: Switch,
    service: Option<&str>,
    id: Option<&str>,
) -> Result<()> {
    let mode = match switch {
        Switch::On => "maintenance",
        Switch::Drain => "draining",
        Switch::Off => "off",
    };
    let mut body = json!({ "mode": mode });
    for (name, value) in [("service", service), ("id", id)] {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    }
    let agent = AgentApi::open(&url(at)?)?;
    let asked = agent.request("PUT", "/v1/maintenance", Some(&body), CALL);
    let answer = asked.await?;
    let count = answer["instances"].as_u64().unwrap_or_default();
    output::print(&format!("{mode}: {count} instances\n"));
    Ok(())
}

/// The URL, if it is an agent's; else the socket of this user, if there is one; else the address where
/// agents listen.
fn url(at: &At) -> Result<String> {
    if let Some(given) = &at.url
        && Url::parse(given)?.scheme().starts_with("discoverd")
    {
        return Ok(given.clone());
    }
    let env = |name: &str| std::env::var(name).ok();
    let own = default_socket(env, nix::unistd::geteuid().is_root());
    Ok(match own.filter(|path| path.exists()) {
        Some(path) => format!("discoverd+unix://{}", path.display()),
        None => "discoverd://".to_owned(),
    })
}
