//! From a URL to a backend: the only place that knows schemes and layout names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, TreeBackend};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::layout::{Layout, Native};
use crate::model::{check_host, check_ttl};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::uri::Uri;

/// Makes a backend of one's own from its URL. Options that the client itself understands (see
/// [`COMMON_OPTIONS`]) are taken from the same URL.
pub type Constructor = Arc<dyn Fn(&Uri) -> Result<Arc<dyn Backend>> + Send + Sync>;

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
const LAYOUTS: [&str; 1] = ["native"];

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
    fn read(uri: &Uri) -> Result<Settings> {
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

fn connect_timeout(uri: &Uri) -> Result<Duration> {
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
pub(crate) fn open(uri: &Uri, custom: &HashMap<String, Constructor>) -> Result<Opened> {
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

fn memory(uri: &Uri) -> Result<Arc<dyn Backend>> {
    expect(uri, &["layout", "state"])?;
    let name = format!("{}{}", uri.authority(), uri.path());
    let store = match uri.option("state") {
        Some(path) => MemoryStore::open_with_state(&name, Path::new(path))?,
        None => MemoryStore::open(&name),
    };
    tree(uri, Arc::new(store))
}

#[cfg(feature = "local")]
fn local(uri: &Uri) -> Result<Arc<dyn Backend>> {
    expect(uri, &["layout"])?;
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
fn local(uri: &Uri) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "local"))
}

#[cfg(feature = "etcd")]
fn etcd3(uri: &Uri) -> Result<Arc<dyn Backend>> {
    use crate::store::etcd3::Etcd3;
    let config = servers(uri, uri.scheme() == "etcds")?;
    protected(uri, Arc::new(Etcd3::new(config)))
}

#[cfg(not(feature = "etcd"))]
fn etcd3(uri: &Uri) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "etcd"))
}

#[cfg(feature = "etcd2")]
fn etcd2(uri: &Uri) -> Result<Arc<dyn Backend>> {
    use crate::store::etcd2::Etcd2;
    let config = servers(uri, uri.scheme() == "etcd2s")?;
    protected(uri, Arc::new(Etcd2::new(config)))
}

#[cfg(not(feature = "etcd2"))]
fn etcd2(uri: &Uri) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "etcd2"))
}

/// What both APIs of etcd are told.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn servers(uri: &Uri, tls: bool) -> Result<crate::store::servers::Config> {
    let own = "layout user password ca cert key server_name protect grace max_instances";
    expect(uri, &own.split(' ').collect::<Vec<_>>())?;
    crate::store::servers::Config::read(uri, tls)
}

/// A store whose nodes may all expire at once.
#[cfg(any(feature = "etcd", feature = "etcd2"))]
fn protected(uri: &Uri, store: Arc<dyn Store>) -> Result<Arc<dyn Backend>> {
    let protect = uri.option("protect").is_none() || uri.flag("protect")?;
    let grace = uri.duration("grace")?.unwrap_or(TreeBackend::GRACE);
    let backend = TreeBackend::new(store, layout(uri)?);
    Ok(Arc::new(backend.grace(protect.then_some(grace))))
}

#[cfg(feature = "agent")]
fn agent(uri: &Uri, unix: bool) -> Result<Arc<dyn Backend>> {
    use crate::backend::agent::{Agent, Config};
    let tls = ["ca", "cert", "key", "server_name"];
    let own = ["token", "token_file"];
    match unix {
        true => expect(uri, &own)?,
        false => expect(uri, &[&own[..], &tls[..]].concat())?,
    }
    Ok(Arc::new(Agent::new(Config::read(uri, unix)?)))
}

#[cfg(not(feature = "agent"))]
fn agent(uri: &Uri, _: bool) -> Result<Arc<dyn Backend>> {
    Err(not_built(uri, "agent"))
}

#[allow(dead_code, reason = "only builds that lack a backend need it")]
fn not_built(uri: &Uri, feature: &str) -> Error {
    let scheme = uri.scheme();
    Error::new(
        Kind::Unsupported,
        format!("{scheme}:// is not in this build; build with the feature {feature}"),
    )
}

fn expect(uri: &Uri, own: &[&str]) -> Result<()> {
    uri.expect_options(&[own, &COMMON_OPTIONS].concat())
}

fn tree(uri: &Uri, store: Arc<dyn Store>) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(TreeBackend::new(store, layout(uri)?)))
}

fn layout(uri: &Uri) -> Result<Arc<dyn Layout>> {
    match uri.option("layout").unwrap_or("native") {
        "native" => Ok(Arc::new(Native)),
        other => Err(Error::invalid(format!(
            "unknown layout {other:?}; known are {}",
            LAYOUTS.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match open(&Uri::parse(url).unwrap(), &HashMap::new()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_known() {
        assert!(refusal("zoo://").contains("local, memory, etcd, etcds, etcd2, etcd2s"));
        assert!(refusal("memory://a?layout=x").contains("\"x\"; known are native"));
        assert!(refusal("memory://a?tll=1s").contains("it has layout, state, ttl"));
        assert!(refusal("memory://a?ttl=1ms").contains("1s to 24h"));
        assert!(refusal("memory://a?connect_timeout=18000000000000000000s").contains("at most 1h"));
        assert!(refusal("memory://a?ttl=soon").contains("write a time such as"));
        assert!(refusal("local://host").contains("local:///path"));
    }
}
