//! Creates the backend of a registry URL: the table of schemes, layouts and their options.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "agent")]
use crate::backend::agent::{AgentApi, AgentBackend, AgentConfig};
use crate::backend::{Backend, KvBackend, Protection};
use crate::cache::Cache;
use crate::duration::HumanDuration;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{
    ContainerPilot, Embassy, GoMicro, Grpc, Kratos, Layout, Native, Registrator, Scalingo,
};
use crate::model::{check_advertised_host, check_ttl};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::suggest::{did_you_mean, nearest};
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
use crate::transport::tls::TLS_OPTIONS;
use crate::url::Url;

/// Creates a custom backend from its URL. The client takes its own options (see [`COMMON_OPTIONS`]) from the
/// same URL.
pub type Constructor = Arc<dyn Fn(&Url) -> Result<Arc<dyn Backend>> + Send + Sync>;

/// The options of every scheme.
pub const COMMON_OPTIONS: [&str; 5] = ["ttl", "connect_timeout", "lazy", "advertise", "cache"];

const DEFAULT_TTL: Duration = KvBackend::TTL;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(3600);

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

/// Schemes that people try, and the scheme that they mean.
const SCHEME_ALIASES: [(&str, &str); 9] = [
    ("http", "etcd"),
    ("https", "etcds"),
    ("grpc", "etcd"),
    ("etcd3", "etcd"),
    ("etcd3s", "etcds"),
    ("tcp", "discoverd"),
    ("agent", "discoverd"),
    ("unix", "discoverd+unix"),
    ("file", "local"),
];

/// The layouts and their options.
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

/// A backend and the client's settings from the same URL.
pub(crate) struct Opened {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) settings: ClientSettings,
}

/// The options of a URL that every backend shares.
#[derive(Clone)]
pub(crate) struct ClientSettings {
    /// TTL of registrations without one of their own.
    pub(crate) ttl: Duration,
    pub(crate) connect_timeout: Duration,
    /// Whether connecting returns at once, even if the registry is unreachable.
    pub(crate) lazy: bool,
    /// Snapshots on disk, for a start while the registry is down.
    pub(crate) cache: Option<Cache>,
    /// Host of registrations without one of their own.
    pub(crate) advertise: Option<String>,
}

impl ClientSettings {
    fn from_url(url: &Url) -> Result<ClientSettings> {
        let cache = url.option("cache");
        let cache = cache.map(|directory| Cache::open(directory, url));
        let cache = cache.transpose()?;
        let advertise = url
            .option("advertise")
            .map(check_advertised_host)
            .transpose()?;
        Ok(ClientSettings {
            ttl: check_ttl(url.duration("ttl")?.unwrap_or(DEFAULT_TTL))?,
            connect_timeout: connect_timeout(url)?,
            // With a cache, the client starts from the cached snapshots instead of waiting for the registry.
            lazy: url.flag("lazy")? || cache.is_some(),
            cache,
            advertise,
        })
    }
}

fn connect_timeout(url: &Url) -> Result<Duration> {
    let timeout = url.duration("connect_timeout")?;
    let timeout = timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    if timeout > MAX_CONNECT_TIMEOUT {
        let timeout = HumanDuration(timeout);
        return Err(Error::invalid(format!(
            "option connect_timeout is {timeout}; it must be at most 1h"
        )));
    }
    Ok(timeout)
}

/// Creates the backend of a URL. Does not use the network.
///
/// # Errors
///
/// Fails if the scheme or an option is unknown or invalid, or a file that the URL names cannot be used.
pub(crate) fn open(url: &Url, custom: &HashMap<String, Constructor>) -> Result<Opened> {
    if let Some(constructor) = custom.get(url.scheme()) {
        let settings = ClientSettings::from_url(url)?;
        let backend = constructor(url)?;
        return Ok(Opened { backend, settings });
    }
    if !SCHEMES.contains(&url.scheme()) {
        return Err(unknown_scheme(url.scheme(), custom));
    }
    if url.has_login() && !url.scheme().starts_with("etcd") {
        return Err(Error::invalid(format!(
            "{}:// takes no login; remove the text before the @{}",
            url.scheme(),
            match url.scheme().starts_with("discoverd") {
                true => ", and use the option token or token_file",
                false => "",
            }
        )));
    }
    let settings = ClientSettings::from_url(url)?;
    let backend = match url.scheme() {
        "discoverd" => agent(url, false)?,
        "discoverd+unix" => agent(url, true)?,
        _ => kv_backend(url, kv_store(url)?)?,
    };
    Ok(Opened { backend, settings })
}

/// Opens the store of a URL (`memory`, `local`, `etcd`, `etcds`, `etcd2` or `etcd2s`) without a layout, for
/// [`KvBackend::new`]. Does not use the network. Must be called on a tokio runtime.
///
/// # Errors
///
/// Fails if the scheme has no store, an option is unknown or invalid, or a file that the URL names cannot be
/// used.
pub fn open_store(url: &str) -> Result<Arc<dyn Store>> {
    kv_store(&Url::parse(url)?)
}

fn kv_store(url: &Url) -> Result<Arc<dyn Store>> {
    match url.scheme() {
        "memory" => memory(url),
        "local" => local(url),
        "etcd" | "etcds" => etcd_v3(url),
        "etcd2" | "etcd2s" => etcd_v2(url),
        other => Err(Error::invalid(format!("scheme {other:?} has no store"))),
    }
}

fn unknown_scheme(scheme: &str, custom: &HashMap<String, Constructor>) -> Error {
    let own = custom.keys().map(String::as_str);
    let known: Vec<&str> = SCHEMES.into_iter().chain(own).collect();
    let alias = SCHEME_ALIASES.iter().find(|(alias, _)| *alias == scheme);
    let meant = match alias {
        Some((_, meant)) => Some(*meant),
        None => nearest(scheme, known.iter().copied()),
    };
    let suggestion = meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}://?)"));
    let known = known.join(", ");
    Error::invalid(format!(
        "unknown scheme {scheme:?}{suggestion}; known are {known}"
    ))
}

fn memory(url: &Url) -> Result<Arc<dyn Store>> {
    check_kv_options(url, &["state"])?;
    let name = format!("{}{}", url.authority(), url.path());
    let store = match url.option("state") {
        Some(path) => MemoryStore::open_with_state(&name, Path::new(path))?,
        None => MemoryStore::open(&name),
    };
    Ok(Arc::new(store))
}

#[cfg(feature = "local")]
fn local(url: &Url) -> Result<Arc<dyn Store>> {
    use crate::store::local::LocalStore;
    check_kv_options(url, &[])?;
    if !url.authority().is_empty() {
        return Err(Error::invalid(format!(
            "{url}: local:// has no host; a directory has three slashes, as in local:///path"
        )));
    }
    Ok(Arc::new(LocalStore::open(url.path())?))
}

#[cfg(not(feature = "local"))]
fn local(url: &Url) -> Result<Arc<dyn Store>> {
    Err(not_in_build(url, "local"))
}

#[cfg(feature = "etcd")]
fn etcd_v3(url: &Url) -> Result<Arc<dyn Store>> {
    use crate::store::etcd::v3::EtcdV3Store;
    let config = etcd_config(url, url.scheme() == "etcds")?;
    Ok(Arc::new(EtcdV3Store::new(config)))
}

#[cfg(not(feature = "etcd"))]
fn etcd_v3(url: &Url) -> Result<Arc<dyn Store>> {
    Err(not_in_build(url, "etcd"))
}

#[cfg(feature = "etcd2")]
fn etcd_v2(url: &Url) -> Result<Arc<dyn Store>> {
    use crate::store::etcd::v2::EtcdV2Store;
    let config = etcd_config(url, url.scheme() == "etcd2s")?;
    Ok(Arc::new(EtcdV2Store::new(config)))
}

#[cfg(not(feature = "etcd2"))]
fn etcd_v2(url: &Url) -> Result<Arc<dyn Store>> {
    Err(not_in_build(url, "etcd2"))
}

/// Reads the configuration that both APIs of etcd share.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn etcd_config(url: &Url, tls: bool) -> Result<crate::store::etcd::config::EtcdConfig> {
    let own = ["user", "password"];
    let limits = ["protect", "grace", "max_instances"];
    check_kv_options(url, &[&own[..], &TLS_OPTIONS, &limits].concat())?;
    crate::store::etcd::config::EtcdConfig::read(url, tls)
}

#[cfg(feature = "agent")]
fn agent(url: &Url, unix: bool) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(AgentBackend::new(agent_config(url, unix)?)?))
}

#[cfg(feature = "agent")]
impl AgentApi {
    /// Creates a client of the agent that a URL names. Does not use the network.
    ///
    /// # Errors
    ///
    /// Fails if the URL is not that of an agent, or an option is invalid.
    pub fn open(url: &str) -> Result<AgentApi> {
        let url = Url::parse(url)?;
        let config = match url.scheme() {
            "discoverd" => agent_config(&url, false)?,
            "discoverd+unix" => agent_config(&url, true)?,
            other => {
                return Err(Error::invalid(format!(
                    "{other}:// is not the scheme of an agent; write discoverd:// or discoverd+unix://"
                )));
            }
        };
        AgentApi::new(config)
    }
}

#[cfg(feature = "agent")]
fn agent_config(url: &Url, unix: bool) -> Result<AgentConfig> {
    let own = ["token", "token_file", "max_instances"];
    let tls = if unix { &[][..] } else { &TLS_OPTIONS[..] };
    url.expect_options(&[&own[..], tls, &COMMON_OPTIONS].concat())?;
    AgentConfig::read(url, unix)
}

#[cfg(not(feature = "agent"))]
fn agent(url: &Url, _: bool) -> Result<Arc<dyn Backend>> {
    Err(not_in_build(url, "agent"))
}

#[allow(dead_code, reason = "unused in builds with all backends")]
fn not_in_build(url: &Url, feature: &str) -> Error {
    let scheme = url.scheme();
    Error::new(
        ErrorKind::Unsupported,
        format!("{scheme}:// is not in this build; build with the feature {feature}"),
    )
}

/// Checks that every option is one of the scheme (`own`), of a layout in use, or common.
fn check_kv_options(url: &Url, own: &[&str]) -> Result<()> {
    let mut known = [&["layout"], own].concat();
    for name in layout_names(url) {
        let listed = LAYOUTS.iter().find(|(known, _)| *known == name);
        known.extend(listed.map_or(&[][..], |(_, options)| options));
    }
    url.expect_options(&[&known[..], &COMMON_OPTIONS].concat())
}

/// Creates the backend of a store. The leases of etcd may expire all at once; `protect` and `grace` delay that.
fn kv_backend(url: &Url, store: Arc<dyn Store>) -> Result<Arc<dyn Backend>> {
    let backend = KvBackend::with_layouts(store, layouts(url)?);
    if !url.scheme().starts_with("etcd") {
        return Ok(Arc::new(backend.protection(Protection::Off)));
    }
    let ttl = url.duration("ttl")?.unwrap_or(DEFAULT_TTL);
    Ok(Arc::new(backend.protection(protection(url)?).ttl(ttl)))
}

/// Reads the options `protect` and `grace`.
fn protection(url: &Url) -> Result<Protection> {
    let grace = url.duration("grace")?.unwrap_or(Protection::GRACE);
    match url.option("protect") {
        None | Some("" | "true" | "on" | "1") => Ok(Protection::StoreFaults { grace }),
        Some("expiry") => Ok(Protection::Expiries { grace }),
        Some("false" | "off" | "0") => Ok(Protection::Off),
        Some(other) => Err(Error::invalid(format!(
            "option protect is {other:?}; write on, expiry or off"
        ))),
    }
}

fn layout_names(url: &Url) -> impl Iterator<Item = &str> {
    let names = url.option("layout").unwrap_or("native");
    names.split(',').map(str::trim)
}

/// Creates the layouts of a URL, in the order in which it names them.
fn layouts(url: &Url) -> Result<Vec<Arc<dyn Layout>>> {
    let mut layouts: Vec<Arc<dyn Layout>> = Vec::new();
    for name in layout_names(url) {
        if layouts.iter().any(|layout| layout.name() == name) {
            return Err(Error::invalid(format!("layout {name} is named twice")));
        }
        layouts.push(layout(url, name)?);
    }
    Ok(layouts)
}

fn layout(url: &Url, name: &str) -> Result<Arc<dyn Layout>> {
    let option = |name: &str, default: &'static str| url.option(name).unwrap_or(default).to_owned();
    let prefix = |default: &'static str| option(&format!("{name}.prefix"), default);
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
            let names = LAYOUTS.map(|(name, _)| name);
            return Err(Error::invalid(format!(
                "unknown layout {other:?}{}; known are {}",
                did_you_mean(other, names),
                names.join(", ")
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
            Err(error) => error.report(),
        }
    }

    #[test]
    fn a_login_that_would_be_ignored_is_refused_and_not_shown() {
        for url in ["memory://hunter2@x", "memory://me:hunter2@x"] {
            let refusal = refusal(url);
            assert!(
                refusal.contains("takes no login") && !refusal.contains("hunter2"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_known_ones() {
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
    fn a_misspelled_scheme_option_or_layout_has_a_suggestion() {
        for (url, suggestion) in [
            (
                "http://h:2379",
                "unknown scheme \"http\" (did you mean etcd://?)",
            ),
            ("https://h", "did you mean etcds://?"),
            ("etcd3://h", "did you mean etcd://?"),
            ("etdc://h", "did you mean etcd://?"),
            ("locl://", "did you mean local://?"),
            (
                "memory://a?lauout=grpc",
                "no option \"lauout\" (did you mean layout?)",
            ),
            (
                "memory://a?conect_timeout=1s",
                "did you mean connect_timeout?",
            ),
            (
                "memory://a?layout=natve",
                "unknown layout \"natve\" (did you mean native?)",
            ),
            ("memory://a?layout=gomicro", "did you mean go-micro?"),
        ] {
            let text = refusal(url);
            assert!(text.contains(suggestion), "{url}: {text}");
        }
    }

    #[test]
    fn every_listed_layout_can_be_created_with_its_options() {
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
