//! The command `env`: the environment variables that apply to programs here, and where the registry's URL comes from.

use discover_core::{Result, Url};

use crate::cli::{RegistryArgs, output};
use crate::config::settings;

/// Environment variables of the library and of etcd, with their meaning.
const LIBRARY_VARIABLES: &[(&str, &str)] = &[
    ("DISCOVER_URL", "URL of the registry"),
    ("DISCOVERD", "address of the agent for discoverd://"),
    ("ETCDCTL_ENDPOINTS", "endpoints of etcd for etcd://"),
    ("ETCDCTL_USER", "user name for etcd"),
    ("ETCDCTL_PASSWORD", "password for etcd"),
    (
        "ETCDCTL_CACERT",
        "file with the certificate authorities of etcd",
    ),
    ("DISCOVERD_CONFIG", "configuration file of the agent"),
];

/// Variables whose values may contain secrets, an address with a login included, and are not shown.
const SECRET_VARIABLES: [&str; 6] = [
    "DISCOVER_URL",
    "DISCOVERD",
    "DISCOVERD_STORE",
    "ETCDCTL_ENDPOINTS",
    "ETCDCTL_USER",
    "ETCDCTL_PASSWORD",
];

/// Shows the URL of the registry with its origin, and all environment variables that apply. Secrets are masked.
///
/// # Errors
///
/// Fails if the URL is invalid.
pub fn env(registry: &RegistryArgs) -> Result<()> {
    let (url, origin) = registry.resolve();
    // The parsed URL shows no password.
    let url = Url::parse(&url)?;
    let mut text = format!("{:<22} {url} ({})\n", "url", origin.name());
    for &(name, meaning) in LIBRARY_VARIABLES {
        text += &line(name, meaning);
    }
    for (name, setting) in settings::VARIABLES {
        text += &line(name, &format!("setting {setting} of the agent"));
    }
    output::print(&text);
    Ok(())
}

fn line(name: &str, meaning: &str) -> String {
    let value = match std::env::var(name) {
        Err(_) => "is not set".to_owned(),
        Ok(_) if SECRET_VARIABLES.contains(&name) => "is set".to_owned(),
        Ok(value) => format!("= {}", value.escape_debug()),
    };
    format!("{name:<22} {value}: {meaning}\n")
}
