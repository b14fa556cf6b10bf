//! The way in: connect, register, follow services, close.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backend::open::{self, ClientSettings, Opened};
use crate::backend::{Backend, Constructor};
use crate::backoff::Backoff;
use crate::connection_monitor::{ConnectionMonitor, StoreName};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, LeaseTracker};
use crate::model::{ConnectionState, Metrics, Registration, ServiceName};
use crate::set::{ServiceSet, WatchedService};
use crate::url::Url;

/// The URL where none is given and `DISCOVER_URL` is not set.
pub const DEFAULT_URL: &str = "local://";

/// How long closing waits for what nobody waits for.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// How many leases that are over are remembered at least, and the part of those that live: each is kilobytes.
const SPARE: usize = 16;
const PART: usize = 32;

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A connection to a registry. Cheap to clone; all clones are the same connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    uri: Url,
    backend: Arc<dyn Backend>,
    settings: ClientSettings,
    closed: AtomicBool,
    sets: Mutex<HashMap<ServiceName, Weak<WatchedService>>>,
    leases: Mutex<Vec<LeaseTracker>>,
    /// How often a registration was put back.
    restored: Arc<AtomicU64>,
    connection: ConnectionMonitor,
}

/// Makes a [`Client`] that knows backends of one's own.
#[derive(Clone, Default)]
pub struct Builder {
    url: Option<String>,
    custom: HashMap<String, Constructor>,
}

impl Builder {
    /// Where the registry is; by default `DISCOVER_URL`, else `local://`.
    pub fn url(mut self, url: impl Into<String>) -> Builder {
        self.url = Some(url.into());
        self
    }

    /// Adds a scheme. Options in the URL beyond those of every scheme are the constructor's to check.
    pub fn backend(
        mut self,
        scheme: &str,
        constructor: impl Fn(&Url) -> Result<Arc<dyn Backend>> + Send + Sync + 'static,
    ) -> Builder {
        self.custom.insert(scheme.to_owned(), Arc::new(constructor));
        self
    }

    /// Opens the client; fails within `connect_timeout` if the registry does not answer, or, with
    /// `lazy=true`, never for that reason. Must be called on a tokio runtime, which it stays on.
    pub async fn connect(self) -> Result<Client> {
        let environment = std::env::var("DISCOVER_URL").ok();
        self.connect_with_environment(environment).await
    }

    /// Connects with the value of `DISCOVER_URL`, which errors name if the URL is from there.
    async fn connect_with_environment(self, environment: Option<String>) -> Result<Client> {
        let environment = environment.filter(|url| !url.is_empty());
        let (text, origin) = match (self.url, environment) {
            (Some(url), _) => (url, ""),
            (None, Some(url)) => (url, "environment variable DISCOVER_URL: "),
            (None, None) => (DEFAULT_URL.to_owned(), ""),
        };
        // The errors are of this library and have no details beyond their report.
        let failed = |e: Error| Error::new(e.kind(), format!("{origin}{e:#}"));
        let uri = Url::parse(&text).map_err(failed)?;
        let Opened { backend, settings } = open::open(&uri, &self.custom).map_err(failed)?;
        let store = StoreName::of(&uri);
        if !settings.lazy {
            let within = settings.connect_timeout;
            let probed = insist(within, "connect", || backend.probe()).await;
            let failed = |e: Error| format!("{origin}cannot open {uri}: {e:#}");
            probed.map_err(|e| Error::new(e.kind(), failed(e)))?;
            store.log_connected();
        }
        let (closed, sets, leases, restored) = Default::default();
        let connection = ConnectionMonitor::follow(backend.connection(), settings.ttl, store);
        Ok(Client(Arc::new(Inner {
            uri,
            backend,
            settings,
            closed,
            sets,
            leases,
            restored,
            connection,
        })))
    }
}

impl Client {
    /// Opens the registry at `url`: `local://`, `etcd://host:2379?ttl=10s`, …
    pub async fn connect(url: &str) -> Result<Client> {
        Client::builder().url(url).connect().await
    }

    /// For what `connect` does not offer.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where the registry is, secrets hidden.
    pub fn uri(&self) -> &Url {
        &self.0.uri
    }

    /// Registers an instance and keeps it alive until the lease is released or dropped. Once it
    /// returns, others see the instance. Tries for `connect_timeout` while that may help.
    pub async fn register(&self, registration: Registration) -> Result<Lease> {
        self.register_within(registration, self.0.settings.connect_timeout)
            .await
    }

    /// The same, trying for as long as is said.
    pub async fn register_within(
        &self,
        registration: Registration,
        timeout: Duration,
    ) -> Result<Lease> {
        self.check_open()?;
        let asked = &registration;
        let attempt = || async move {
            let host = self.host(asked).await?;
            let complete = asked.clone().complete(&host, self.0.settings.ttl);
            Lease::start(self.0.backend.clone(), complete, self.0.restored.clone()).await
        };
        let lease = insist(timeout, "register", attempt).await?;
        let mut leases = self.leases();
        // Not each time: who registers many would walk all of them for each.
        if leases.len() == leases.capacity() {
            leases.retain(|lease| !lease.is_finished());
            let live = leases.len();
            let spare = SPARE.max(live / PART);
            leases.shrink_to(live + spare);
            leases.reserve_exact(spare);
        }
        leases.push(lease.tracker());
        drop(leases);
        // Closing meanwhile has not seen this lease; it goes as it is dropped.
        self.check_open()?;
        Ok(lease)
    }

    /// The live set of a service. All sets of one service share one watch, which lives as long as
    /// any of them.
    pub fn services(&self, service: &str) -> Result<ServiceSet> {
        let mut sets = self.sets();
        // A name that is known is a good one.
        if let Some(core) = sets.get(service).and_then(Weak::upgrade) {
            self.check_open()?;
            return Ok(ServiceSet::new(core));
        }
        let service = ServiceName::new(service)?;
        self.check_open()?;
        sets.retain(|_, core| core.strong_count() > 0);
        let core = Arc::new(WatchedService::watch(
            self.0.backend.clone(),
            service.clone(),
            self.0.settings.cache.clone(),
        ));
        sets.insert(service, Arc::downgrade(&core));
        Ok(ServiceSet::new(core))
    }

    /// The names of all services that have instances now, in order, asked of the store.
    pub async fn catalog(&self) -> Result<Vec<ServiceName>> {
        self.check_open()?;
        self.0.backend.catalog().await
    }

    /// How the connection to the store fares now.
    pub fn connection(&self) -> ConnectionState {
        self.0.connection.now()
    }

    /// How the connection fares now, and then each change, until the client is closed. Latest wins.
    pub fn connection_changes(&self) -> BoxStream<'static, ConnectionState> {
        self.0.connection.changes()
    }

    /// What the client has been through.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            restored: self.0.restored.load(Ordering::Relaxed),
            ..self.0.backend.metrics()
        }
    }

    /// Releases all leases and ends all sets. What the store does not confirm within `timeout` goes
    /// with its TTL. Closing again is no error.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.connection.close();
        for core in self.sets().drain().filter_map(|(_, core)| core.upgrade()) {
            core.close();
        }
        let leases = std::mem::take(&mut *self.leases());
        let all = join_all(leases.into_iter().map(LeaseTracker::release));
        let released = tokio::time::timeout(timeout, all).await;
        // What was never confirmed is ended where that is soon done; it dies by itself otherwise.
        let _ = tokio::time::timeout(timeout.min(LEFT_OVER), self.0.backend.close()).await;
        let late = |_| {
            let text = format!("leases were not released within {timeout:?}");
            Error::new(ErrorKind::Timeout, text)
        };
        released.map_err(late)?.into_iter().collect()
    }

    fn check_open(&self) -> Result<()> {
        match self.0.closed.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Closed, "the client was closed")),
        }
    }

    async fn host(&self, registration: &Registration) -> Result<String> {
        match (&registration.host, &self.0.settings.advertise) {
            (Some(host), _) | (None, Some(host)) => Ok(host.clone()),
            (None, None) => Ok(self.0.backend.local_address().await?.to_string()),
        }
    }

    fn sets(&self) -> MutexGuard<'_, HashMap<ServiceName, Weak<WatchedService>>> {
        self.0.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, Vec<LeaseTracker>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.uri)
    }
}

/// Tries again what may succeed later, until the time is up; then gives the last reason.
async fn insist<T, F>(within: Duration, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    // Whoever says for ever must not overflow the clock.
    let deadline = Instant::now() + within.min(FOREVER);
    let mut backoff = Backoff::default();
    let mut last = None;
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Err(error)) if error.is_retriable() => {
                let wait = backoff.next_wait();
                if Instant::now() + wait >= deadline {
                    return Err(error);
                }
                last = Some(error);
                sleep(wait).await;
            }
            Ok(done) => return done,
            Err(_) => {
                let slow = || {
                    Error::new(
                        ErrorKind::Timeout,
                        format!("{what}: no answer within {within:?}"),
                    )
                };
                return Err(last.unwrap_or_else(slow));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_url_of_the_environment_is_reported_with_its_variable() {
        for url in [
            "no-scheme",
            "http://h:1",
            "memory://a?lauout=native",
            "etcd://127.0.0.1:1?connect_timeout=1ms",
        ] {
            let connect = |builder: Builder, environment: Option<&str>| {
                builder.connect_with_environment(environment.map(str::to_owned))
            };
            let error = connect(Client::builder(), Some(url)).await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("environment variable DISCOVER_URL: "),
                "{text}"
            );
            let given = connect(Client::builder().url(url), Some("memory://b")).await;
            let text = given.unwrap_err().to_string();
            assert!(!text.contains("DISCOVER_URL"), "{text}");
        }
    }

    #[tokio::test]
    async fn leases_that_are_over_are_forgotten() {
        let client = Client::connect("memory://forgotten").await.unwrap();
        let web = |port: i64| Registration::new("web", port).unwrap().host("h").unwrap();
        let kept = client.register(web(1)).await.unwrap();
        for _ in 0..20 * SPARE {
            let lease = client.register(web(2)).await.unwrap();
            lease.unregister().await.unwrap();
        }
        let known = client.leases().len();
        assert!((1..5 * SPARE).contains(&known), "{known}");
        drop(kept);
    }
}
