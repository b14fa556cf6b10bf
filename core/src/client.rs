//! Client: connects to a registry, registers instances and opens sets.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::backend::open::{self, ClientSettings, Opened};
use crate::backend::{Backend, Constructor};
use crate::backoff::Backoff;
use crate::connection_monitor::{ConnectionMonitor, StoreName};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, LeaseTracker};
use crate::model::{ConnectionState, Metrics, Registration, ServiceName};
use crate::set::{ServiceSet, WatchedService};
use crate::url::Url;

/// URL if none is given and `DISCOVER_URL` is not set.
pub const DEFAULT_URL: &str = "local://";

/// How long closing waits for the cleanup of the backend.
const BACKEND_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a register call waits for the client's own set to show the instance.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum spare capacity of the list of leases, and the divisor for larger lists. Ended leases stay in the
/// list until it is full; each takes kilobytes.
const MIN_SPARE_LEASES: usize = 16;
const SPARE_LEASES_DIVISOR: usize = 32;

/// Remaining time in which no retry is worth while.
const LAST_RETRY_TIME: Duration = Duration::from_millis(20);

/// Upper bound of retry times; longer times would overflow the clock.
const MAX_RETRY_TIME: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Connection to a registry. Clones are cheap and share the connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    uri: Url,
    backend: Arc<dyn Backend>,
    settings: ClientSettings,
    closed: AtomicBool,
    sets: Mutex<HashMap<ServiceName, Weak<WatchedService>>>,
    leases: Mutex<Vec<LeaseTracker>>,
    /// Number of restored registrations.
    restored: Arc<AtomicU64>,
    connection: ConnectionMonitor,
}

/// Builder of a [`Client`], for custom backends.
#[derive(Clone, Default)]
pub struct Builder {
    url: Option<String>,
    custom: HashMap<String, Constructor>,
}

impl Builder {
    /// Sets the URL. The default is `DISCOVER_URL`, or else `local://`.
    pub fn url(mut self, url: impl Into<String>) -> Builder {
        self.url = Some(url.into());
        self
    }

    /// Adds a backend for a URL scheme. The constructor checks the options of the URL other than
    /// [`COMMON_OPTIONS`](crate::COMMON_OPTIONS).
    pub fn backend(
        mut self,
        scheme: &str,
        constructor: impl Fn(&Url) -> Result<Arc<dyn Backend>> + Send + Sync + 'static,
    ) -> Builder {
        self.custom.insert(scheme.to_owned(), Arc::new(constructor));
        self
    }

    /// Connects. With `lazy=true` in the URL, returns at once and connects in the background. Must be called
    /// on a tokio runtime, on which the tasks of the client then run.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a malformed URL; any error of the registry if it does not respond within the
    /// `connect_timeout` of the URL.
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
            let probed = retry_until(within, "connect", || backend.probe()).await;
            let failed = |e: Error| format!("{origin}cannot open {uri}: {e:#}");
            probed.map_err(|e| Error::new(e.kind(), failed(e)))?;
            store.log_connected();
        }
        let (closed, sets, leases, restored) = Default::default();
        let connection = ConnectionMonitor::start(backend.connection(), settings.ttl, store);
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
    /// Connects to the registry at `url`, for example `local://` or `etcd://host:2379?ttl=10s`. See
    /// [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Client> {
        Client::builder().url(url).connect().await
    }

    /// Returns a builder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the URL; its `Display` masks secrets.
    pub fn uri(&self) -> &Url {
        &self.0.uri
    }

    /// Registers an instance and keeps it registered until the lease is released or dropped. When this
    /// returns, other programs see the instance, and so does a set of its service that this client has, unless the
    /// set is stale.
    ///
    /// # Errors
    ///
    /// Retries retriable errors for the `connect_timeout` of the URL and then returns the last one; returns
    /// all other errors at once. `Closed` if the client is closed.
    pub async fn register(&self, registration: Registration) -> Result<Lease> {
        self.register_within(registration, self.0.settings.connect_timeout)
            .await
    }

    /// Registers an instance as [`register`](Client::register) does, but retries for `timeout`.
    pub async fn register_within(
        &self,
        registration: Registration,
        timeout: Duration,
    ) -> Result<Lease> {
        self.check_open()?;
        let requested = &registration;
        let attempt = || async move {
            let host = self.host(requested).await?;
            let complete = requested.clone().complete(&host, self.0.settings.ttl);
            Lease::start(self.0.backend.clone(), complete, self.0.restored.clone()).await
        };
        let deadline = Instant::now() + timeout.min(MAX_RETRY_TIME);
        let lease = retry_until(timeout, "register", attempt).await?;
        let watched = self
            .sets()
            .get(registration.service())
            .and_then(Weak::upgrade);
        if let Some(watched) = watched {
            let until = deadline.min(Instant::now() + VISIBLE_TIMEOUT);
            let registered = lease.registration();
            let (id, address) = (registered.instance_id(), registered.address());
            // An own set that cannot follow the store does not make the registration fail.
            let _ = timeout_at(until, watched.wait_until_visible(&id, &address)).await;
        }
        let mut leases = self.leases();
        // Only when the list is full, so that many registrations do not walk the list each time.
        if leases.len() == leases.capacity() {
            leases.retain(|lease| !lease.is_finished());
            let live = leases.len();
            let spare = MIN_SPARE_LEASES.max(live / SPARE_LEASES_DIVISOR);
            leases.shrink_to(live + spare);
            leases.reserve_exact(spare);
        }
        leases.push(lease.tracker());
        drop(leases);
        // If the client was closed meanwhile, the lease is dropped here, which unregisters it.
        self.check_open()?;
        Ok(lease)
    }

    /// Returns the live set of a service. All sets of one service share a watch, which lives as long as any
    /// of them.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an invalid name; `Closed` if the client is closed.
    pub fn services(&self, service: &str) -> Result<ServiceSet> {
        let mut sets = self.sets();
        // A known name is valid.
        if let Some(watched) = sets.get(service).and_then(Weak::upgrade) {
            self.check_open()?;
            return Ok(ServiceSet::new(watched));
        }
        let service = ServiceName::new(service)?;
        self.check_open()?;
        sets.retain(|_, watched| watched.strong_count() > 0);
        let watched = Arc::new(WatchedService::watch(
            self.0.backend.clone(),
            service.clone(),
            self.0.settings.cache.clone(),
        ));
        sets.insert(service, Arc::downgrade(&watched));
        Ok(ServiceSet::new(watched))
    }

    /// Reads the names of all services with online instances from the store, in order.
    pub async fn catalog(&self) -> Result<Vec<ServiceName>> {
        self.check_open()?;
        self.0.backend.catalog().await
    }

    /// Returns the state of the connection to the store.
    pub fn connection(&self) -> ConnectionState {
        self.0.connection.state()
    }

    /// Returns the current connection state and then each change, until the client is closed. If several
    /// changes are pending, only the latest is delivered.
    pub fn connection_changes(&self) -> BoxStream<'static, ConnectionState> {
        self.0.connection.changes()
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            restored: self.0.restored.load(Ordering::Relaxed),
            ..self.0.backend.metrics()
        }
    }

    /// Releases all leases and ends all sets. Closing again succeeds.
    ///
    /// # Errors
    ///
    /// `Timeout` if the store does not confirm within `timeout` that all leases are released, and its error if it refuses;
    /// the entries then expire with their TTL.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.connection.close();
        for watched in self
            .sets()
            .drain()
            .filter_map(|(_, watched)| watched.upgrade())
        {
            watched.close();
        }
        let mut leases = std::mem::take(&mut *self.leases());
        let all = join_all(leases.iter_mut().map(LeaseTracker::release));
        let released = tokio::time::timeout(timeout, all).await;
        leases.iter().for_each(LeaseTracker::abandon);
        // Cleans up unconfirmed entries if the store responds soon; otherwise they expire.
        let _ =
            tokio::time::timeout(timeout.min(BACKEND_CLOSE_TIMEOUT), self.0.backend.close()).await;
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

/// Retries retriable errors until `within` has passed, then returns the last error. Uses all of that time: a store that
/// comes back before its end is still reached.
async fn retry_until<T, F>(
    within: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    // The bound keeps the deadline from overflowing.
    let deadline = Instant::now() + within.min(MAX_RETRY_TIME);
    let mut backoff = Backoff::default();
    let mut last = None;
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Err(error)) if error.is_retriable() => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left < LAST_RETRY_TIME {
                    sleep_until(deadline).await;
                    return Err(error);
                }
                last = Some(error);
                // The last attempt still has time to succeed.
                sleep(backoff.next_wait().min(left / 2)).await;
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
        for _ in 0..20 * MIN_SPARE_LEASES {
            let lease = client.register(web(2)).await.unwrap();
            lease.unregister().await.unwrap();
        }
        let known = client.leases().len();
        assert!((1..5 * MIN_SPARE_LEASES).contains(&known), "{known}");
        drop(kept);
    }
}
