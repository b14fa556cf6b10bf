//! `env`: which settings a program here would use, and where they come from.

use discover_core::{DEFAULT_URL, Result, Url};

use crate::cli::{At, output};

/// The variables that have a say, and of what. The values of the secret ones are not shown.
const VARIABLES: &[(&str, &str, bool)] = &[
    ("DISCOVER_URL", "the registry", true),
    (
        "DISCOVERD",
        "the agent's address, under discoverd://",
        false,
    ),
    ("DISCOVERD_CONFIG", "the agent's settings", false),
    ("DISCOVERD_STORE", "the store behind the agent", true),
    ("DISCOVERD_BIND", "where the agent listens", false),
    ("DISCOVERD_SOCKET", "the agent's socket", false),
    (
        "DISCOVERD_STATE",
        "where the agent's own registry survives a crash",
        false,
    ),
    (
        "DISCOVERD_TOKEN_FILE",
        "the token that the agent asks for",
        false,
    ),
    ("DISCOVERD_LOG", "the form of the agent's log", false),
    ("EXTERNAL_IP", "this host's address for others", false),
    ("ETCDCTL_ENDPOINTS", "etcd, under etcd://", false),
    ("ETCDCTL_USER", "the login of etcd", true),
    ("ETCDCTL_PASSWORD", "the password of etcd", true),
    ("ETCDCTL_CACERT", "the authorities of etcd", false),
];

/// Shows them.
pub fn env(at: &At) -> Result<()> {
    let url = at.url.as_deref().unwrap_or(DEFAULT_URL);
    let origin = match (&at.url, std::env::var("DISCOVER_URL")) {
        (Some(given), Ok(set)) if *given == set => "environment",
        (Some(_), _) => "flag",
        (None, _) => "default",
    };
    // Parsed, so that a password in it is not shown.
    let mut text = format!("{:<22} {} ({origin})\n", "url", Url::parse(url)?);
    for &(name, what, secret) in VARIABLES {
        let value = match std::env::var(name) {
            Err(_) => "is not set".to_owned(),
            Ok(_) if secret => "is set".to_owned(),
            Ok(value) => format!("= {}", value.escape_debug()),
        };
        text += &format!("{name:<22} {value}: {what}\n");
    }
    output::print(&text);
    Ok(())
}
