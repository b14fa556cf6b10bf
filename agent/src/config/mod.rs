//! How the agent runs: flags first, then the environment, then the file, then the defaults. Pure, but
//! for reading the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use discover_core::{Error, ErrorKind, HumanDuration, Result};
use serde::Deserialize;

use crate::api::server::Limits;
use crate::health::policy::CheckPolicy;
use crate::net::tls::Files;
use crate::network::Network;
use crate::sources::config_file::plan::{Plan, Service, Watch};

/// What `--bind`, `--socket` and `--state` are called by who wants none.
pub const NONE: &str = "none";
/// The most instances that are looked at, and the shortest interval that is declared over the API.
const CHECKS: usize = 1024;
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The registry of an agent that is told of no other.
pub const EMBEDDED: &str = "memory://discoverd";

/// What was given in one place; what was not is left to the next.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Given {
    /// The store's URL.
    pub store: Option<String>,
    /// The address to listen on, or `none`.
    pub bind: Option<String>,
    /// The socket to listen on, or `none`.
    pub socket: Option<String>,
    /// The file in which the agent's own registry survives a crash, or `none`.
    pub state: Option<String>,
    /// Rules for this host's address, separated by commas.
    pub advertise: Option<String>,
    /// The file that holds the token which is asked for.
    pub token_file: Option<PathBuf>,
    /// The agent's certificate for TLS.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// The authority of the clients, who then need a certificate.
    pub tls_client_ca: Option<PathBuf>,
    /// CatalogCache by which this agent may be called over TCP, separated by commas.
    pub hosts: Option<String>,
    /// `text` or `json`.
    pub log: Option<String>,
    /// The most connections.
    pub connections: Option<usize>,
    /// The most connections from one address, or of one user.
    pub connections_of_one: Option<usize>,
    /// The most event streams.
    pub streams: Option<usize>,
    /// The most services that are watched at a time.
    pub services: Option<usize>,
    /// Whether whoever may register may also have commands run, as checks.
    pub allow_exec: Option<bool>,
    /// The most instances that are looked at.
    pub checks: Option<usize>,
    /// The shortest interval of checks that are declared over the API.
    pub check_interval: Option<HumanDuration>,
    /// Networks that anybody may have looked at, separated by commas.
    pub check_targets: Option<String>,
    /// Services to register; in a file alone.
    pub service: Vec<Service>,
    /// Services to watch; in a file alone.
    pub watch: Vec<Watch>,
}

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store's URL.
    pub store: String,
    /// The address to listen on.
    pub bind: Option<String>,
    /// The socket to listen on.
    pub socket: Option<PathBuf>,
    /// The file in which the agent's own registry survives a crash.
    pub state: Option<PathBuf>,
    /// Rules for this host's address; none of them where nothing was said.
    pub advertise: Vec<String>,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// The files for TLS.
    pub tls: Option<Files>,
    /// CatalogCache by which this agent may be called over TCP.
    pub hosts: Vec<String>,
    /// Whether the log is JSON.
    pub log_json: bool,
    /// The most connections.
    pub limits: Limits,
    /// The most event streams.
    pub streams: usize,
    /// The most services that are watched at a time.
    pub services: usize,
    /// What checks may be declared over the API.
    pub allowed: CheckPolicy,
    /// What to register and to watch.
    pub plan: Plan,
    /// Where each of them came from.
    pub origins: BTreeMap<&'static str, &'static str>,
}

impl Given {
    /// Reads a configuration file.
    pub fn file(path: &Path) -> Result<Given> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let text = format!("cannot read the configuration {}", path.display());
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })?;
        Given::parse(&text).map_err(|e| {
            let text = format!(
                "the configuration {} is not as it should be",
                path.display()
            );
            Error::caused_by(ErrorKind::InvalidArgument, text, e)
        })
    }

    fn parse(text: &str) -> Result<Given> {
        toml::from_str(text).map_err(|e| Error::invalid(e.to_string().trim_end().to_owned()))
    }

    /// What the environment says.
    pub fn env(env: impl Fn(&str) -> Option<String>) -> Given {
        let get = |name: &str| env(name).filter(|value| !value.is_empty());
        Given {
            store: get("DISCOVERD_STORE"),
            bind: get("DISCOVERD_BIND"),
            socket: get("DISCOVERD_SOCKET"),
            state: get("DISCOVERD_STATE"),
            advertise: get("EXTERNAL_IP"),
            token_file: get("DISCOVERD_TOKEN_FILE").map(PathBuf::from),
            tls_cert: get("DISCOVERD_TLS_CERT").map(PathBuf::from),
            tls_key: get("DISCOVERD_TLS_KEY").map(PathBuf::from),
            tls_client_ca: get("DISCOVERD_TLS_CLIENT_CA").map(PathBuf::from),
            log: get("DISCOVERD_LOG"),
            ..Given::default()
        }
    }
}

/// Takes each setting from the first place that has it.
pub fn resolve(places: [(&'static str, Given); 3], socket: Option<PathBuf>) -> Result<Settings> {
    let mut origins = BTreeMap::new();
    let mut of = Origins {
        places: &places,
        origins: &mut origins,
    };
    let store = of.first("store", |g| g.store.clone());
    let bind = of.first("bind", |g| g.bind.clone());
    let given_socket = of.first("socket", |g| g.socket.clone());
    let state = of.first("state", |g| g.state.clone());
    let advertise = of.first("advertise", |g| g.advertise.clone());
    let token_file = of.first("token_file", |g| g.token_file.clone());
    let cert = of.first("tls_cert", |g| g.tls_cert.clone());
    let key = of.first("tls_key", |g| g.tls_key.clone());
    let client_ca = of.first("tls_client_ca", |g| g.tls_client_ca.clone());
    let hosts = of.first("hosts", |g| g.hosts.clone());
    let log = of.first("log", |g| g.log.clone());
    let connections = of.first("connections", |g| g.connections);
    let of_one = of.first("connections_of_one", |g| g.connections_of_one);
    let streams = of.first("streams", |g| g.streams);
    let services = of.first("services", |g| g.services);
    let allow_exec = of.first("allow_exec", |g| g.allow_exec);
    let checks = of.first("checks", |g| g.checks);
    let check_interval = of.first("check_interval", |g| g.check_interval);
    let check_targets = of.first("check_targets", |g| g.check_targets.clone());
    let bind = bind.unwrap_or_else(|| "127.0.0.1:1111".to_owned());
    let socket = match given_socket {
        Some(path) if path == NONE => None,
        Some(path) => Some(PathBuf::from(path)),
        None => socket,
    };
    let bind = (bind != NONE).then_some(bind);
    let state = match state {
        Some(path) if path == NONE => None,
        Some(path) => Some(PathBuf::from(path)),
        None => socket.as_deref().map(beside),
    };
    if bind.is_none() && socket.is_none() {
        return Err(Error::invalid(
            "bind and socket are both none; the agent must listen somewhere",
        ));
    }
    Ok(Settings {
        store: store.unwrap_or_else(|| EMBEDDED.to_owned()),
        bind,
        socket,
        state,
        advertise: list(advertise),
        token_file,
        tls: files(cert, key, client_ca)?,
        hosts: list(hosts),
        log_json: match log.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                let text = format!("log is {other:?}; it must be text or json");
                return Err(Error::invalid(text));
            }
        },
        limits: Limits {
            connections,
            of_one,
        },
        streams: streams.unwrap_or(4096),
        services: services.unwrap_or(4096),
        allowed: CheckPolicy {
            exec: allow_exec.unwrap_or(false),
            most: checks.unwrap_or(CHECKS),
            interval: check_interval.map_or(CHECK_INTERVAL, |span| span.0),
            targets: networks(check_targets)?,
        },
        plan: plan(&places)?,
        origins,
    })
}

fn networks(text: Option<String>) -> Result<Vec<Network>> {
    let all = list(text);
    let networks = all.iter().map(|text| Network::parse(text));
    let networks = networks.collect::<Result<Vec<_>>>();
    networks.map_err(|e| Error::invalid(format!("check_targets: {e:#}")))
}

/// Of the file: the others cannot say such things.
fn plan(places: &[(&'static str, Given)]) -> Result<Plan> {
    let all = places.iter().map(|(_, given)| given);
    let services = all.clone().flat_map(|given| given.service.clone());
    let watches = all.flat_map(|given| given.watch.clone());
    Plan::new(services.collect(), watches.collect())
}

fn files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<Files>> {
    match (cert, key, client_ca) {
        (Some(cert), Some(key), client_ca) => Ok(Some(Files {
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

struct Origins<'a> {
    places: &'a [(&'static str, Given); 3],
    origins: &'a mut BTreeMap<&'static str, &'static str>,
}

impl Origins<'_> {
    fn first<T>(&mut self, name: &'static str, get: impl Fn(&Given) -> Option<T>) -> Option<T> {
        let found = self
            .places
            .iter()
            .find_map(|(place, given)| Some((*place, get(given)?)));
        let place = found.as_ref().map_or("default", |(place, _)| place);
        self.origins.insert(name, place);
        found.map(|(_, value)| value)
    }
}

/// Where the state is unless somebody says otherwise: whoever has the socket has it.
fn beside(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".state");
    PathBuf::from(path)
}

fn list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Where the socket is unless somebody says otherwise: where only this user can put one.
pub fn default_socket(env: impl Fn(&str) -> Option<String>, is_root: bool) -> Option<PathBuf> {
    let own = env("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    match own {
        Some(directory) => Some(Path::new(&directory).join("discoverd.sock")),
        None => is_root.then(|| PathBuf::from("/run/discoverd/discoverd.sock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &str, env: &str, file: &str) -> Result<Settings> {
        let given = |text| Given::parse(text).unwrap();
        let places = [("flag", flags), ("environment", env), ("file", file)];
        resolve(places.map(|(place, text)| (place, given(text))), None)
    }

    #[test]
    fn flags_come_before_the_environment_before_the_file_before_the_defaults() {
        let all = settings(
            "bind = '127.0.0.1:5'",
            "bind = '127.0.0.1:6'\nlog = 'json'",
            "log = 'text'\nstore = 'local://'",
        )
        .unwrap();
        assert_eq!(all.bind.as_deref(), Some("127.0.0.1:5"));
        assert!(all.log_json);
        assert_eq!(all.store, "local://");
        assert_eq!(all.origins["bind"], "flag");
        assert_eq!(all.origins["log"], "environment");
        assert_eq!(all.origins["store"], "file");
        assert_eq!(all.origins["streams"], "default");
        assert_eq!(settings("", "", "").unwrap().store, EMBEDDED);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(
            settings("bind = 'none'", "", "").is_err(),
            "nowhere to listen"
        );
        assert!(settings("log = 'xml'", "", "").is_err());
        assert!(
            settings("tls_cert = 'a.pem'", "", "").is_err(),
            "half of it"
        );
        let unknown = Given::parse("prot = 3").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `prot`"), "{unknown}");
    }

    #[test]
    fn the_socket_is_where_only_this_user_can_put_one() {
        let in_session = default_socket(|_| Some("/run/user/7".to_owned()), false);
        assert_eq!(in_session, Some("/run/user/7/discoverd.sock".into()));
        assert_eq!(default_socket(|_| None, false), None);
        assert!(default_socket(|_| None, true).is_some());
    }
}
