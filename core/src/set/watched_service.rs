//! Watch of one service: the task that publishes snapshots, and the cell from which sets read them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures_util::stream::StreamExt;
use tokio::task::AbortHandle;

use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::cache::Cache;
use crate::error::Error;
use crate::model::{ServiceName, View};
use crate::set::notifier::ChangeNotifier;
use crate::set::resubscribe::{WatchUpdate, resubscribe};
use crate::set::snapshot::Snapshot;
use crate::set::status::Fault;

/// Watched service, shared by all of its handles.
pub(crate) struct WatchedService {
    pub(super) service: ServiceName,
    pub(super) cell: Arc<SnapshotCell>,
    watch: AbortHandle,
}

/// Current snapshot of a service: the writer replaces it, readers load it.
pub(super) struct SnapshotCell {
    /// For log records.
    service: ServiceName,
    pub(super) current: ArcSwap<Snapshot>,
    /// Version of the current or next snapshot. A reader that has seen a snapshot never finds an older
    /// version here.
    pub(super) version: AtomicU64,
    pub(super) notifier: ChangeNotifier,
}

impl WatchedService {
    /// Starts to watch a service. Must be called on a tokio runtime.
    pub(crate) fn watch(
        backend: Arc<dyn Backend>,
        service: ServiceName,
        cache: Option<Cache>,
    ) -> WatchedService {
        let cell = Arc::new(SnapshotCell {
            service: service.clone(),
            current: ArcSwap::from_pointee(Snapshot::empty()),
            version: AtomicU64::new(0),
            notifier: ChangeNotifier::default(),
        });
        let (writer, watched_name) = (cell.clone(), service.clone());
        let run = async move {
            let service = watched_name.clone();
            let open = move |last| backend.subscribe(&watched_name, last);
            let mut updates = std::pin::pin!(resubscribe(open, Backoff::default()));
            let cache_writer = cache.as_ref().map(|cache| cache.start_writer(&service));
            while let Some(update) = updates.next().await {
                match (&update, &cache, &cache_writer) {
                    (WatchUpdate::Lost(error), Some(cache), _) if !writer.is_ready() => {
                        if let Some((view, at)) = cache.load(&service).await {
                            writer.publish_cached(view, at, error);
                        }
                    }
                    (WatchUpdate::View(view), _, Some(cache_writer)) => {
                        drop(cache_writer.send_replace(Some(view.clone())))
                    }
                    _ => {}
                }
                writer.publish(update);
            }
        };
        WatchedService {
            service,
            cell,
            watch: tokio::spawn(run).abort_handle(),
        }
    }

    /// Waits until the set shows the instance, or cannot follow the store.
    pub(crate) async fn wait_until_visible(&self, id: &str, address: &str) {
        // The snapshot that the last read searched completely.
        let mut searched: Option<Arc<Snapshot>> = None;
        loop {
            let changed = self.cell.notifier.next_change();
            let now = self.cell.current.load_full();
            let is_there = now.contains_since(searched.as_deref(), id, address);
            if is_there || now.fault.is_some() || self.cell.notifier.is_closed() {
                return;
            }
            searched = Some(now);
            changed.await;
        }
    }

    /// Ends the watch and wakes all waiting calls, which then fail with `Closed`.
    pub(crate) fn close(&self) {
        self.watch.abort();
        self.cell.notifier.close();
    }
}

impl Drop for WatchedService {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl SnapshotCell {
    fn is_ready(&self) -> bool {
        self.current.load().is_ready()
    }

    /// Publishes the contents of the cache file before the store could be read.
    fn publish_cached(&self, view: View, at: SystemTime, error: &Error) {
        let fault = Fault {
            error: error.clone(),
            since: at,
        };
        tracing::warn!(
            service = %self.service,
            error = %error.report(),
            instances = view.instances.len(),
            "store unavailable, using the instances of the cache file"
        );
        self.put(self.current.load().with_cached(view, fault));
    }

    fn put(&self, next: Snapshot) {
        self.version.store(next.version, Ordering::Release);
        self.current.store(Arc::new(next));
        self.notifier.notify();
    }

    /// Publishes the next snapshot. Called by one task only.
    fn publish(&self, update: WatchUpdate) {
        let old = self.current.load();
        let now = SystemTime::now();
        let next = match update {
            WatchUpdate::View(view) => {
                if old.fault.is_some() {
                    tracing::info!(service = %self.service, "watch restored");
                }
                old.with_view(view, now)
            }
            WatchUpdate::Lost(error) => {
                if old.fault.is_none() {
                    tracing::warn!(service = %self.service, error = %error.report(), "watch lost, reconnecting");
                }
                old.with_fault(error, now)
            }
        };
        self.put(next);
    }
}
