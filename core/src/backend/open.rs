//! From a URL to a backend: the only place that knows schemes and layout names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "agent")]
use crate::backend::agent::{AgentApi, AgentBackend, AgentConfig};
use crate::backend::{Backend, KvBackend};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{
    ContainerPilot, Embassy, GoMicro, Grpc, Kratos, Layout, Native, Registrator, Scalingo,
};
use crate::model::{check_host, check_ttl};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::url::Url;

/// Makes a backend of one's own from its URL. Options that the client itself understands (see
/// [`COMMON_OPTIONS`]) are taken from the same URL.
pub type Constructor = Arc<dyn Fn(&Url) -> Result<Arc<dyn Backend>> + Send + Sync>;

/// The options that every scheme has.
pub const COMMON_OPTIONS: [&str; 5] = ["ttl", "connect_timeout", "lazy", "advertise", "cache"];

const SCHEMES: [&str; 8] = [
    "local",
    "memory",
    "etcd",
    "etcds",
    "etcd2",
    "etcd2s",
    "discoverd",
    "discoverd+unix",
];

/// The layouts, and the options that each has.
const LAYOUTS: [(&str, &[&str]); 8] = [
    ("native", &[]),
    ("containerpilot", &["containerpilot.prefix"]),
    ("embassy", &["embassy.prefix", "embassy.environment"]),
    ("go-micro", &["go-micro.prefix"]),
    ("grpc", &["grpc.prefix"]),
    ("kratos", &["kratos.prefix"]),
    ("registrator", &["registrator.prefix"]),
    ("scalingo", &["scalingo.prefix", "scalingo.infos"]),
];

/// A backend and what the URL says about how to use it.
pub(crate) struct Opened {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) settings: Settings,
}

/// What a URL says that concerns every backend.
#[derive(Clone)]
pub(crate) struct Settings {
    /// For registrations that name none.
    pub(crate) ttl: Duration,
    pub(crate) connect_timeout: Duration,
    /// Whether to return at once, with the registry unreachable.
    pub(crate) lazy: bool,
    /// Where the last state is kept for a start without the registry.
    pub(crate) cache: Option<Cache>,
    /// The host for registrations that name none.
    pub(crate) advertise: Option<String>,
}

impl Settings {
    fn read(uri: &Url) -> Result<Settings> {
        let cache = uri
            .option("cache")
            .map(|directory| Cache::open(directory, uri))
            .transpose()?;
        let advertise = uri.option("advertise").map(check_host).transpose()?;
        Ok(Settings {
            ttl: check_ttl(uri.duration("ttl")?.unwrap_or(Duration::from_secs(10)))?,
            connect_timeout: connect_timeout(uri)?,
            // Who brings the last state along does not wait for the registry.
            lazy: uri.flag("lazy")? || cache.is_some(),
            cache,
            advertise: advertise.map(str::to_owned),
        })
    }
}

fn connect_timeout(uri: &Url) -> Result<Duration> {
    let timeout = uri
        .duration("connect_timeout")?
        .unwrap_or(Duration::from_secs(5));
    if timeout > Duration::from_secs(3600) {
        return Err(Error::invalid(format!(
            "option connect_timeout is {timeout:?}; it must be at most 1h"
        )));
    }
    Ok(timeout)
}

/// Opens the backend of a URL. Nothing is asked of the network yet.
pub(crate) fn open(uri: &Url, custom: &HashMap<String, Constructor>) -> Result<Opened> {
    let settings = Settings::read(uri)?;
    let backend = match uri.scheme() {
        scheme if custom.contains_key(scheme) => (custom[scheme])(uri)?,
        "memory" => memory(uri)?,
        "local" => local(uri)?,
        "etcd" | "etcds" => etcd3(uri)?,
        "etcd2" | "etcd2s" => etcd2(uri)?,
        "discoverd" => agent(uri, false)?,
        "discoverd+unix" => agent(uri, true)?,
        other => {
            let own = custom.keys().map(String::as_str);
            let known: Vec<&str> = SCHEMES.into_iter().chain(own).collect();
            return Err(Error::invalid(format!(
                "unknown scheme {other:?}; known are {}",
                known.join(", ")
            )));
        }
    };
    Ok(Opened { backend, settings })
}

fn memory(uri: &Url) -> Result<Arc<dyn Backend>> {
    expect_tree(uri, &["state"])?;
    let name = format!("{}{}", uri.authority(), uri.path());
    let store = match uri.option("state") {
        Some(path) => MemoryStore::open_with_state(&name, Path::new(path))?,
        None => MemoryStore::open(&name),
    };
    tree(uri, Arc::new(store))
}

#[cfg(feature = "local")]
fn local(uri: &Url) -> Result<Arc<dyn Backend>> {
    expect_tree(uri, &[])?;
    if !uri.authority().is_empty() {
        return Err(Error::invalid(format!(
            "{uri}: local:// has no host; a directory has three slashes, as in local:///path"
        )));
    }
    tree(
        uri,
        Arc::new(crate::store::local::LocalStore::open(uri.path())?),
    )
}

#[cfg(not(feature = "local"))]
fn local(uri: &Url) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "local"))
}

#[cfg(feature = "etcd")]
fn etcd3(uri: &Url) -> Result<Arc<dyn Backend>> {
    use crate::store::etcd::v3::EtcdV3Store;
    let config = servers(uri, uri.scheme() == "etcds")?;
    protected(uri, Arc::new(EtcdV3Store::new(config)))
}

#[cfg(not(feature = "etcd"))]
fn etcd3(uri: &Url) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "etcd"))
}

#[cfg(feature = "etcd2")]
fn etcd2(uri: &Url) -> Result<Arc<dyn Backend>> {
    use crate::store::etcd::v2::EtcdV2Store;
    let config = servers(uri, uri.scheme() == "etcd2s")?;
    protected(uri, Arc::new(EtcdV2Store::new(config)))
}

#[cfg(not(feature = "etcd2"))]
fn etcd2(uri: &Url) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "etcd2"))
}

/// What both APIs of etcd are told.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn servers(uri: &Url, tls: bool) -> Result<crate::store::etcd::config::EtcdConfig> {
    let own = "user password ca cert key server_name protect grace max_instances";
    expect_tree(uri, &own.split(' ').collect::<Vec<_>>())?;
    crate::store::etcd::config::EtcdConfig::read(uri, tls)
}

/// A store whose nodes may all expire at once.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn protected(uri: &Url, store: Arc<dyn Store>) -> Result<Arc<dyn Backend>> {
    let protect = uri.option("protect").is_none() || uri.flag("protect")?;
    let grace = uri.duration("grace")?.unwrap_or(KvBackend::GRACE);
    let backend = KvBackend::several(store, layouts(uri)?);
    Ok(Arc::new(backend.grace(protect.then_some(grace))))
}

#[cfg(feature = "agent")]
fn agent(uri: &Url, unix: bool) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(AgentBackend::new(agent_config(uri, unix)?)?))
}

#[cfg(feature = "agent")]
impl AgentApi {
    /// Of the agent that a URL names. Nothing is asked of it yet.
    pub fn open(url: &str) -> Result<AgentApi> {
        let uri = Url::parse(url)?;
        let config = match uri.scheme() {
            "discoverd" => agent_config(&uri, false)?,
            "discoverd+unix" => agent_config(&uri, true)?,
            other => {
                return Err(Error::invalid(format!(
                    "{other}:// names no agent; write discoverd:// or discoverd+unix://"
                )));
            }
        };
        AgentApi::new(config)
    }
}

#[cfg(feature = "agent")]
fn agent_config(uri: &Url, unix: bool) -> Result<AgentConfig> {
    let own = ["token", "token_file"];
    let tls = ["ca", "cert", "key", "server_name"];
    let tls = if unix { &[][..] } else { &tls[..] };
    uri.expect_options(&[&own[..], tls, &COMMON_OPTIONS].concat())?;
    AgentConfig::read(uri, unix)
}

#[cfg(not(feature = "agent"))]
fn agent(uri: &Url, _: bool) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "agent"))
}

#[allow(dead_code, reason = "only builds that lack a backend need it")]
fn not_built(uri: &Url, feature: &str) -> Error {
    let scheme = uri.scheme();
    Error::new(
        ErrorKind::Unsupported,
        format!("{scheme}:// is not in this build; build with the feature {feature}"),
    )
}

/// Refuses options that are neither the scheme's own, nor a layout's in use, nor everybody's.
fn expect_tree(uri: &Url, own: &[&str]) -> Result<()> {
    let mut known = [&["layout"], own].concat();
    for name in layout_names(uri) {
        let listed = LAYOUTS.iter().find(|(known, _)| *known == name);
        known.extend(listed.map_or(&[][..], |(_, options)| options));
    }
    uri.expect_options(&[&known[..], &COMMON_OPTIONS].concat())
}

fn tree(uri: &Url, store: Arc<dyn Store>) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(KvBackend::several(store, layouts(uri)?)))
}

fn layout_names(uri: &Url) -> impl Iterator<Item = &str> {
    let names = uri.option("layout").unwrap_or("native");
    names.split(',').map(str::trim)
}

/// One or several, in the order in which they are named.
fn layouts(uri: &Url) -> Result<Vec<Arc<dyn Layout>>> {
    let mut layouts: Vec<Arc<dyn Layout>> = Vec::new();
    for name in layout_names(uri) {
        if layouts.iter().any(|layout| layout.name() == name) {
            return Err(Error::invalid(format!("layout {name} is named twice")));
        }
        layouts.push(layout(uri, name)?);
    }
    Ok(layouts)
}

fn layout(uri: &Url, name: &str) -> Result<Arc<dyn Layout>> {
    let option = |name: &str, usual: &'static str| uri.option(name).unwrap_or(usual).to_owned();
    let prefix = |usual: &'static str| option(&format!("{name}.prefix"), usual);
    Ok(match name {
        "native" => Arc::new(Native),
        "containerpilot" => Arc::new(ContainerPilot::new(&prefix(ContainerPilot::PREFIX))?),
        "embassy" => {
            let environment = option("embassy.environment", Embassy::ENVIRONMENT);
            Arc::new(Embassy::new(&prefix(Embassy::PREFIX), &environment)?)
        }
        "go-micro" => Arc::new(GoMicro::new(&prefix(GoMicro::PREFIX))?),
        "grpc" => Arc::new(Grpc::new(&prefix(Grpc::PREFIX))?),
        "kratos" => Arc::new(Kratos::new(&prefix(Kratos::PREFIX))?),
        "registrator" => Arc::new(Registrator::new(&prefix(Registrator::PREFIX))?),
        "scalingo" => {
            let infos = option("scalingo.infos", Scalingo::INFOS);
            Arc::new(Scalingo::new(&prefix(Scalingo::PREFIX), &infos)?)
        }
        other => {
            return Err(Error::invalid(format!(
                "unknown layout {other:?}; known are {}",
                LAYOUTS.map(|(name, _)| name).join(", ")
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match open(&Url::parse(url).unwrap(), &HashMap::new()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_known() {
        assert!(refusal("zoo://").contains("local, memory, etcd, etcds, etcd2, etcd2s"));
        assert!(refusal("memory://a?layout=x").contains("\"x\"; known are native, "));
        assert!(refusal("memory://a?layout=native,native").contains("native is named twice"));
        assert!(refusal("memory://a?layout=grpc&kratos.prefix=/k").contains("grpc.prefix"));
        assert!(refusal("memory://a?layout=grpc&grpc.prefix=/k//l").contains("empty segment"));
        assert!(refusal("memory://a?tll=1s").contains("it has layout, state, ttl"));
        assert!(refusal("memory://a?ttl=1ms").contains("1s to 24h"));
        assert!(refusal("memory://a?connect_timeout=18000000000000000000s").contains("at most 1h"));
        assert!(
            refusal("memory://a?ttl=soon")
                .contains("option ttl: \"soon\" is not a duration; write for example 500ms")
        );
        assert!(refusal("local://host").contains("local:///path"));
    }

    #[test]
    fn every_layout_that_is_listed_can_be_had_with_its_options() {
        for (name, options) in LAYOUTS {
            let values = options.iter().map(|option| format!("&{option}=/other"));
            let values: String = values
                .collect::<String>()
                .replace("environment=/", "environment=");
            let url = format!("memory://a?layout={name}{values}");
            // Two options may not have the same value.
            let url = url.replace("infos=/other", "infos=/infos");
            assert_eq!(refusal(&url), "", "{url}");
            let layouts = layouts(&Url::parse(&url).unwrap()).unwrap();
            assert_eq!(layouts[0].name(), name);
        }
        let both = layouts(&Url::parse("memory://a?layout=scalingo,native").unwrap());
        assert_eq!(both.unwrap().len(), 2);
    }
}
