//! The agent's configuration: flags override the environment, which overrides the file, which overrides the
//! defaults.

pub mod one_or_many;
pub mod plan;
pub mod settings;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use discover_core::{Error, ErrorKind, HumanDuration, Result};
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::health::check_policy::CheckPolicy;
use crate::net::cidr::parse_network;
use crate::net::limits::ConnectionLimits;
use crate::net::quota::QuotaLimits;
use crate::net::tls::TlsFiles;
use plan::Plan;
use settings::{Layer, Origin, Setting};

/// The value of `bind`, `socket` and `state` that turns them off.
pub const NONE: &str = "none";
/// The URL of the agent's own registry, which is the default store.
pub const EMBEDDED_STORE: &str = "memory://discoverd";

const DEFAULT_BIND: &str = "127.0.0.1:1111";
const DEFAULT_MAX_STREAMS: usize = 4096;
const DEFAULT_MAX_SERVICES: usize = 4096;
const DEFAULT_MAX_REGISTRATIONS: usize = 65_536;
const DEFAULT_MAX_REGISTRATION_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_MAX_UNREAD_BYTES: usize = 256 * 1024 * 1024;
const DEFAULT_MAX_CHECKS: usize = 1024;
const DEFAULT_MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The configuration of all components.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub store: StoreConfig,
    /// Rules for this host's address. Empty if none are configured.
    pub advertise: Vec<String>,
    /// The listeners.
    pub net: NetConfig,
    /// Limits on registrations.
    pub registration_limits: QuotaLimits,
    /// Maximum number of event streams.
    pub max_streams: usize,
    /// Maximum size of all responses that clients have not read yet, in bytes.
    pub max_unread_bytes: usize,
    /// Maximum number of services that are watched at the same time.
    pub max_services: usize,
    /// The health checks that clients may define.
    pub check_policy: CheckPolicy,
    /// The log.
    pub log: LogConfig,
    /// Services and hooks of the configuration file.
    pub plan: Plan,
    /// Every setting with its value and origin.
    pub settings: Vec<Setting>,
}

/// The connection to the store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The URL.
    pub url: String,
    /// The file in which an embedded store survives a crash.
    pub state_file: Option<PathBuf>,
}

/// The listeners, and who may connect.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The TCP address to listen on.
    pub bind: Option<String>,
    /// The Unix socket to listen on.
    pub socket: Option<PathBuf>,
    /// The file with the bearer token.
    pub token_file: Option<PathBuf>,
    /// The files for TLS.
    pub tls: Option<TlsFiles>,
    /// Additional accepted host names.
    pub hosts: Vec<String>,
    /// The limits of connections.
    pub limits: ConnectionLimits,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The format of a line.
    pub format: LogFormat,
    /// The level of the messages of the agent and of the library.
    pub level: LevelFilter,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads a configuration file.
///
/// # Errors
///
/// Fails if the file cannot be read, is not TOML, or has an unknown key; the message names the file.
pub fn read_file(path: &Path) -> Result<Layer> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("cannot read the configuration file {}", path.display());
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })?;
    parse_file(&text).map_err(|e| {
        let text = format!("invalid configuration file {}", path.display());
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })
}

fn parse_file(text: &str) -> Result<Layer> {
    let layer: Layer =
        toml::from_str(text).map_err(|e| Error::invalid(e.to_string().trim_end().to_owned()))?;
    layer.flatten_tables()
}

/// Combines the sources, in the order of their precedence. `default_socket` is the Unix socket where none is set.
///
/// # Errors
///
/// Fails if a value is invalid or values contradict each other; the message names the settings.
pub fn resolve(
    flags: Layer,
    environment: Layer,
    file: Layer,
    default_socket: Option<PathBuf>,
) -> Result<Config> {
    let mut layers = vec![
        (Origin::Flag, flags),
        (Origin::Environment, environment),
        (Origin::File, file),
        (Origin::Default, defaults(default_socket.as_deref())),
    ];
    let socket = Layer::merge(&layers).0.socket.and_then(enabled_path);
    if let (Some(socket), Some((_, defaults))) = (&socket, layers.last_mut()) {
        defaults.state = Some(default_state_file(socket).display().to_string());
    }
    let (merged, settings) = Layer::merge(&layers);
    let bind = merged.bind.filter(|bind| bind != NONE);
    if bind.is_none() && socket.is_none() {
        return Err(Error::invalid(
            "bind and socket are both none; the agent must listen somewhere",
        ));
    }
    Ok(Config {
        store: StoreConfig {
            url: merged.store.unwrap_or_else(|| EMBEDDED_STORE.to_owned()),
            state_file: merged.state.and_then(enabled_path),
        },
        advertise: comma_separated(merged.advertise),
        net: NetConfig {
            bind,
            socket,
            token_file: merged.token_file,
            tls: tls_files(merged.tls_cert, merged.tls_key, merged.tls_client_ca)?,
            hosts: comma_separated(merged.hosts),
            limits: ConnectionLimits {
                total: merged.connections,
                per_peer: merged.connections_of_one,
            },
        },
        registration_limits: registration_limits(merged.registrations, merged.registration_bytes),
        max_streams: merged.streams.unwrap_or(DEFAULT_MAX_STREAMS),
        max_unread_bytes: merged.unread_bytes.unwrap_or(DEFAULT_MAX_UNREAD_BYTES),
        max_services: merged.services.unwrap_or(DEFAULT_MAX_SERVICES),
        check_policy: CheckPolicy {
            allow_exec: merged.allow_exec.unwrap_or(false),
            max_checks: merged.checks.unwrap_or(DEFAULT_MAX_CHECKS),
            min_interval: merged
                .check_interval
                .map_or(DEFAULT_MIN_CHECK_INTERVAL, Duration::from),
            targets: networks(merged.check_targets)?,
        },
        log: LogConfig {
            format: log_format(merged.log_format.as_deref())?,
            level: log_level(merged.log_level.as_deref())?,
        },
        plan: Plan::new(merged.service, merged.watch)?,
        settings,
    })
}

fn defaults(socket: Option<&Path>) -> Layer {
    Layer {
        store: Some(EMBEDDED_STORE.to_owned()),
        bind: Some(DEFAULT_BIND.to_owned()),
        socket: socket.map(|path| path.display().to_string()),
        registrations: Some(DEFAULT_MAX_REGISTRATIONS),
        registration_bytes: Some(DEFAULT_MAX_REGISTRATION_BYTES),
        streams: Some(DEFAULT_MAX_STREAMS),
        unread_bytes: Some(DEFAULT_MAX_UNREAD_BYTES),
        services: Some(DEFAULT_MAX_SERVICES),
        allow_exec: Some(false),
        checks: Some(DEFAULT_MAX_CHECKS),
        check_interval: Some(HumanDuration(DEFAULT_MIN_CHECK_INTERVAL)),
        log_format: Some("text".to_owned()),
        log_level: Some("info".to_owned()),
        ..Layer::default()
    }
}

/// Returns the default socket: in the user's runtime directory, or in `/run/discoverd` for root. Other users
/// without a runtime directory have none, because every user can create files in the shared directories.
pub fn default_socket(env: impl Fn(&str) -> Option<String>, is_root: bool) -> Option<PathBuf> {
    let runtime_dir = env("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    match runtime_dir {
        Some(directory) => Some(Path::new(&directory).join("discoverd.sock")),
        None => is_root.then(|| PathBuf::from("/run/discoverd/discoverd.sock")),
    }
}

/// Returns the default state file: next to the socket, so that one agent at a time uses it.
fn default_state_file(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".state");
    PathBuf::from(path)
}

fn enabled_path(path: String) -> Option<PathBuf> {
    (path != NONE).then(|| PathBuf::from(path))
}

fn comma_separated(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn registration_limits(count: Option<usize>, bytes: Option<usize>) -> QuotaLimits {
    let count = count.unwrap_or(DEFAULT_MAX_REGISTRATIONS);
    let bytes = bytes.unwrap_or(DEFAULT_MAX_REGISTRATION_BYTES);
    QuotaLimits {
        count: Some((count, Some("registrations"))),
        bytes: Some((bytes, Some("registration_bytes"))),
    }
}

fn networks(text: Option<String>) -> Result<Vec<IpNet>> {
    let parse = |text: &String| {
        parse_network(text).map_err(|e| Error::invalid(format!("check_targets: {e:#}")))
    };
    comma_separated(text).iter().map(parse).collect()
}

fn tls_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<TlsFiles>> {
    match (cert, key, client_ca) {
        (Some(cert), Some(key), client_ca) => Ok(Some(TlsFiles {
            cert,
            key,
            client_ca,
        })),
        (None, None, None) => Ok(None),
        _ => Err(Error::invalid(
            "tls_cert and tls_key belong together, and tls_client_ca needs them",
        )),
    }
}

fn log_format(text: Option<&str>) -> Result<LogFormat> {
    match text {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => {
            let text = format!("log_format is {other:?}; it must be text or json");
            Err(Error::invalid(text))
        }
    }
}

fn log_level(text: Option<&str>) -> Result<LevelFilter> {
    let text = text.unwrap_or("info");
    text.parse().map_err(|_| {
        Error::invalid(format!(
            "log_level is {text:?}; it must be off, error, warn, info, debug or trace"
        ))
    })
}
