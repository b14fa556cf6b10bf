//! The command `env`, which prints the settings that a program on this host uses.

use discover_core::{DEFAULT_URL, Result, Url};

use crate::cli::{RegistryArgs, output};

/// Environment variables: the name, the meaning, and whether the value is secret and not shown.
const VARIABLES: &[(&str, &str, bool)] = &[
    ("DISCOVER_URL", "URL of the registry", true),
    ("DISCOVERD", "address of the agent for discoverd://", false),
    ("DISCOVERD_CONFIG", "configuration file of the agent", false),
    ("DISCOVERD_STORE", "URL of the store behind the agent", true),
    (
        "DISCOVERD_BIND",
        "TCP address on which the agent listens",
        false,
    ),
    (
        "DISCOVERD_SOCKET",
        "Unix socket on which the agent listens",
        false,
    ),
    (
        "DISCOVERD_STATE",
        "file in which the agent's own registry survives a crash",
        false,
    ),
    (
        "DISCOVERD_TOKEN_FILE",
        "file with the token that the agent requires",
        false,
    ),
    ("DISCOVERD_LOG", "format of the agent's log", false),
    ("EXTERNAL_IP", "address of this host for other hosts", false),
    ("ETCDCTL_ENDPOINTS", "endpoints of etcd for etcd://", false),
    ("ETCDCTL_USER", "user name for etcd", true),
    ("ETCDCTL_PASSWORD", "password for etcd", true),
    (
        "ETCDCTL_CACERT",
        "file with the certificate authorities of etcd",
        false,
    ),
];

/// Prints the URL of the registry with its origin, and the environment variables.
///
/// # Errors
///
/// Fails if the URL is invalid.
pub fn env(registry: &RegistryArgs) -> Result<()> {
    let url = registry.url.as_deref().unwrap_or(DEFAULT_URL);
    let origin = match (&registry.url, std::env::var("DISCOVER_URL")) {
        (Some(given), Ok(set)) if *given == set => "environment",
        (Some(_), _) => "flag",
        (None, _) => "default",
    };
    // A parsed URL masks its password.
    let mut text = format!("{:<22} {} ({origin})\n", "url", Url::parse(url)?);
    for &(name, meaning, is_secret) in VARIABLES {
        let value = match std::env::var(name) {
            Err(_) => "is not set".to_owned(),
            Ok(_) if is_secret => "is set".to_owned(),
            Ok(value) => format!("= {}", value.escape_debug()),
        };
        text += &format!("{name:<22} {value}: {meaning}\n");
    }
    output::print(&text);
    Ok(())
}
