//! A store seen through a layout.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backend::Backend;
use crate::backend::mirror::Mirror;
use crate::backend::protect::Protect;
use crate::error::{Error, Kind, Result};
use crate::layout::{Decoded, Layout};
use crate::model::{
    Claim, ConnectionState, Grant, Heartbeat, Metrics, Registration, ServiceName, View,
};
use crate::store::{Store, Terms};
use crate::tree::{Change, Changes, Scope};

/// How long to wait for the others, where some of several instances vanished.
const GATHER: Duration = Duration::from_millis(100);

/// How long the list of all services may take.
const LISTED: Duration = Duration::from_secs(5);

/// `create renew update remove guard watch` over entries become
/// `register heartbeat update unregister guard subscribe` over registrations.
pub struct TreeBackend {
    store: Arc<dyn Store>,
    layout: Arc<dyn Layout>,
    /// For how long what vanished in a mass expiry is held; none without protection.
    grace: Option<Duration>,
    invalid: Arc<AtomicU64>,
}

impl TreeBackend {
    /// For how long instances that vanished in a mass expiry are held, unless something else is said.
    pub const GRACE: Duration = Duration::from_secs(30);

    /// Reads and writes `store` in `layout`.
    pub fn new(store: Arc<dyn Store>, layout: Arc<dyn Layout>) -> TreeBackend {
        TreeBackend {
            store,
            layout,
            grace: Some(TreeBackend::GRACE),
            invalid: Arc::default(),
        }
    }

    /// For how long instances that vanished in a mass expiry are held as suspect; `None`: not at all.
    pub fn grace(self, grace: Option<Duration>) -> TreeBackend {
        TreeBackend { grace, ..self }
    }

    /// The names of the folders in which there are instances.
    async fn list(&self) -> Result<Vec<ServiceName>> {
        let root = self.layout.root().ok_or_else(|| {
            let text =
                "this layout does not keep its services in one folder, so they cannot be listed";
            Error::new(Kind::Unsupported, text)
        })?;
        let mut changes = self.store.watch(&Scope::Under(root.clone()));
        let ended = || Error::new(Kind::Unavailable, "the store ended the list");
        let first = tokio::time::timeout(LISTED, changes.next()).await;
        let slow = |_| Error::new(Kind::Timeout, format!("no list within {LISTED:?}"));
        let nodes = first.map_err(slow)?.ok_or_else(ended)??.changes;
        let mut names = BTreeSet::new();
        for change in nodes {
            let Change::Reset(nodes) = change else {
                continue;
            };
            for node in nodes {
                let name = node
                    .key
                    .under(&root)
                    .and_then(|rest| rest.split('/').next());
                let service = name.and_then(|name| ServiceName::new(name).ok());
                let lives = |service: &ServiceName| {
                    matches!(self.layout.decode(service, &node), Decoded::Instance(_))
                };
                names.extend(service.filter(|service| !names.contains(service) && lives(service)));
            }
        }
        Ok(names.into_iter().collect())
    }
}

impl Backend for TreeBackend {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        self.store.probe()
    }

    fn register<'a>(&'a self, r: &'a Registration, claim: Claim) -> BoxFuture<'a, Result<Grant>> {
        let terms = Terms {
            ttl: r.ttl.unwrap_or(Duration::from_secs(10)),
            claim,
            alone: r.heartbeat == Heartbeat::Manual,
        };
        async move { self.store.create(&self.layout.encode(r)?, terms).await }.boxed()
    }

    fn heartbeat<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.renew(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn update<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.update(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.remove(&self.layout.encode(r)?, grant).await }.boxed()
    }

    fn guard<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Error> {
        async move {
            match self.layout.encode(r) {
                Ok(entries) => self.store.guard(&entries, grant).await,
                Err(error) => error,
            }
        }
        .boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        let prefix = match self.layout.prefix(service) {
            Ok(prefix) => prefix,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let (layout, invalid) = (self.layout.clone(), self.invalid.clone());
        let views = Views {
            changes: self.store.watch(&Scope::Under(prefix)),
            mirror: Mirror::new(layout, service.clone(), last, invalid),
            protect: self.grace.map(Protect::new),
            store: self.store.clone(),
            start: Instant::now(),
            failed: None,
        };
        stream::unfold(views, |mut views| async move {
            let view = views.next().await?;
            Some((view, views))
        })
        .boxed()
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        self.list().boxed()
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.store.connection()
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            invalid: self.invalid.load(Ordering::Relaxed),
            ..self.store.metrics()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.store.local_address()
    }
}

/// The views of one service.
struct Views {
    changes: BoxStream<'static, Result<Changes>>,
    mirror: Mirror,
    protect: Option<Protect>,
    store: Arc<dyn Store>,
    start: Instant,
    /// What came while more was gathered, and is told next.
    failed: Option<Error>,
}

impl Views {
    async fn next(&mut self) -> Option<Result<View>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(self.failed(error)));
        }
        loop {
            let wake = self.protect.as_ref().and_then(Protect::wake);
            let expiry = async {
                match wake {
                    Some(wake) => sleep_until(self.start + wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = self.changes.next() => match item? {
                    Ok(changes) => {
                        if let Some(view) = self.mirror.fold(changes) {
                            let view = self.gather(view).await;
                            return Some(Ok(self.shield(view).await));
                        }
                    }
                    Err(error) => return Some(Err(self.failed(error))),
                },
                () = expiry => {
                    let now = self.start.elapsed();
                    if let Some(view) = self.protect.as_mut().and_then(|p| p.expire(now)) {
                        return Some(Ok(view));
                    }
                }
            }
        }
    }

    /// Waits a moment for more, where some of several lost their grants: a store that has lost everybody
    /// says so one by one.
    async fn gather(&mut self, mut view: View) -> View {
        let protects = self.protect.is_some() && self.mirror.may_be_a_mass();
        let until = Instant::now() + GATHER;
        while protects && self.failed.is_none() {
            match timeout_at(until, self.changes.next()).await {
                Ok(Some(Ok(changes))) => view = self.mirror.fold(changes).unwrap_or(view),
                Ok(Some(Err(error))) => self.failed = Some(error),
                // It is over, or the moment is; the next look finds out.
                Ok(None) | Err(_) => break,
            }
        }
        view
    }

    fn failed(&mut self, error: Error) -> Error {
        self.mirror.tell_again();
        error
    }

    /// Adds to what the store has those that it may have lost.
    async fn shield(&mut self, view: View) -> View {
        let moves = self.mirror.moves();
        let Some(protect) = &mut self.protect else {
            return view;
        };
        let now = self.start.elapsed();
        let asked = protect.see(&view, moves, now);
        if !asked.is_empty() {
            // Without an answer there is no evidence that anybody is gone.
            let gone = self
                .store
                .gone(&asked)
                .await
                .unwrap_or_else(|_| asked.clone());
            protect.judge(&asked, &gone, now);
        }
        protect.add_suspects(view)
    }
}
