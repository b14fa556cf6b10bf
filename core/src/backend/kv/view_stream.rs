//! The stream of views of one service, built from the watched directories of all layouts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backend::kv::KvBackend;
use crate::backend::kv::mass_expiry::MassExpiryGuard;
use crate::backend::kv::view_builder::ViewBuilder;
use crate::error::Result;
use crate::kv::{Changes, Scope};
use crate::model::{ServiceName, View};
use crate::store::Store;

/// The wait for the records of an instance in its other layouts: the time that a registration of this library needs to
/// write them one after the other.
const GATHER_TIMEOUT: Duration = Duration::from_millis(20);

/// The longest delay of a view while changes keep arriving.
const MAX_VIEW_DELAY: Duration = Duration::from_millis(10);
/// The delay of the next view for each change in the last one: a few times the cost of decoding and delivering
/// one change.
const DELAY_PER_CHANGE: Duration = Duration::from_micros(10);

/// The time for which a fault of the store counts beyond a TTL, for example because an election extends leases.
const FAULT_MARGIN: Duration = Duration::from_secs(5);

/// The index of a layout, with changes in its directory, an error, or `None` for the end of the watch.
type DirectoryEvent = (usize, Option<Result<Changes>>);

/// The state of the stream.
pub(super) struct ViewStream {
    changes: BoxStream<'static, DirectoryEvent>,
    directories: Vec<DirectoryState>,
    builder: ViewBuilder,
    mass_expiry: Option<MassExpiryGuard>,
    store: Arc<dyn Store>,
    start: Instant,
    /// An error or end that arrived while changes were gathered; it is handled next.
    deferred: Option<Option<DirectoryEvent>>,
    /// The time after a fault of the store in which it may expire leases that their owners could not renew.
    fault_period: Duration,
    /// The time of the last reconnect or rollback.
    reconnected_at: Option<Instant>,
    /// The number of changes since the last view.
    changes_since_view: u32,
}

/// The state of the directory of one layout.
#[derive(Clone, Default)]
struct DirectoryState {
    /// True if its content was received and the watch was not lost since.
    known: bool,
    revision: u64,
}

impl ViewStream {
    pub(super) fn open(
        backend: &KvBackend,
        service: &ServiceName,
        last: View,
    ) -> Result<ViewStream> {
        let watch = |(number, layout): (usize, &Arc<dyn crate::layout::Layout>)| {
            let scope = Scope::Prefix(layout.prefix(service)?);
            let news = backend.store.watch(&scope).map(Some);
            let end = stream::iter([None]);
            Ok(news.chain(end).map(move |item| (number, item)).boxed())
        };
        let layouts = backend.layouts.iter().enumerate();
        let mut changes: Vec<BoxStream<'static, DirectoryEvent>> =
            layouts.map(watch).collect::<Result<_>>()?;
        let directories = vec![DirectoryState::default(); changes.len()];
        let (layouts, invalid) = (backend.layouts.clone(), backend.invalid.clone());
        Ok(ViewStream {
            directories,
            // `select_all` wakes the task once more after each item, which costs a thread switch.
            changes: match changes.len() {
                1 => changes.remove(0),
                _ => stream::select_all(changes).boxed(),
            },
            builder: ViewBuilder::new(layouts, service.clone(), last, invalid),
            mass_expiry: backend.protection.guard(),
            fault_period: backend.ttl + FAULT_MARGIN,
            store: backend.store.clone(),
            start: Instant::now(),
            deferred: None,
            reconnected_at: None,
            changes_since_view: 0,
        })
    }

    pub(super) async fn next(&mut self) -> Option<Result<View>> {
        // The last view is delivered by now.
        let earliest = Instant::now()
            + (DELAY_PER_CHANGE * std::mem::take(&mut self.changes_since_view)).min(MAX_VIEW_DELAY);
        loop {
            let item = match self.deferred.take() {
                Some(item) => item,
                None => match self.next_event().await {
                    Ok(item) => item,
                    Err(expired) => return Some(Ok(expired)),
                },
            };
            // If one watch ends, the stream ends, and all are opened again together.
            let (number, item) = item?;
            if let Err(error) = self.apply(number, item?) {
                self.builder.force_next_view();
                return Some(Err(error));
            }
            throttle(earliest).await;
            // Changes that have arrived meanwhile belong to the same view, within a bound.
            let until = Instant::now() + MAX_VIEW_DELAY;
            while self.deferred.is_none()
                && Instant::now() < until
                && let Some(item) = self.changes.next().now_or_never()
            {
                self.apply_or_defer(item);
            }
            if let Some(view) = self.changed_view() {
                let view = self.gather(view).await;
                return Some(Ok(self.add_suspects(view).await));
            }
        }
    }

    /// Waits for the next event. Returns a view as `Err` if suspects expire first.
    async fn next_event(&mut self) -> std::result::Result<Option<DirectoryEvent>, View> {
        loop {
            let wake = self
                .mass_expiry
                .as_ref()
                .and_then(MassExpiryGuard::next_expiry);
            let expiry = async {
                match wake {
                    Some(wake) => sleep_until(self.start + wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = self.changes.next() => return Ok(item),
                () = expiry => {
                    let now = self.start.elapsed();
                    if let Some(view) = self.mass_expiry.as_mut().and_then(|p| p.expire(now)) {
                        return Err(view);
                    }
                }
            }
        }
    }

    /// Applies changes; defers an error or the end of a watch.
    fn apply_or_defer(&mut self, item: Option<DirectoryEvent>) {
        match item {
            Some((number, Some(change @ Ok(_)))) => drop(self.apply(number, change)),
            other => self.deferred = Some(other),
        }
    }

    /// Applies an event of a directory.
    fn apply(&mut self, number: usize, item: Result<Changes>) -> Result<()> {
        let Some(directory) = self.directories.get_mut(number) else {
            return Ok(());
        };
        let was_lost = !directory.known && directory.revision > 0;
        directory.known = item.is_ok();
        let changes = item?;
        let was_rolled_back = directory.revision > 0 && changes.epoch > self.builder.epoch();
        if was_lost || was_rolled_back {
            self.reconnected_at = Some(Instant::now());
        }
        directory.revision = changes.revision;
        self.changes_since_view = self
            .changes_since_view
            .saturating_add(changes.changes.len() as u32);
        self.builder.apply(number, changes);
        Ok(())
    }

    /// Returns the view if it changed and all directories are known.
    fn changed_view(&mut self) -> Option<View> {
        let whole = self.directories.iter().all(|directory| directory.known);
        whole.then(|| self.builder.view()).flatten()
    }

    /// Waits for the changes of the same instances in the other directories.
    async fn gather(&mut self, mut view: View) -> View {
        let until = Instant::now() + GATHER_TIMEOUT;
        while self.builder.awaits_other_layouts()
            && self.deferred.is_none()
            && let Ok(item) = timeout_at(until, self.changes.next()).await
        {
            self.apply_or_defer(item);
            view = self.changed_view().unwrap_or(view);
        }
        self.builder.forget_written_layouts();
        view
    }

    /// Returns true if the store was unreachable, rolled back or without a leader within the last TTL.
    fn store_was_at_fault(&self) -> bool {
        let faults = [self.reconnected_at, self.store.last_election()];
        let recent = |at: Instant| at.elapsed() < self.fault_period;
        faults.into_iter().flatten().any(recent)
    }

    /// Adds the instances that the store may have lost.
    async fn add_suspects(&mut self, view: View) -> View {
        let membership_changes = self.builder.take_membership_changes();
        let store_at_fault = self.store_was_at_fault();
        let Some(guard) = &mut self.mass_expiry else {
            return view;
        };
        let now = self.start.elapsed();
        let grants = guard.observe(&view, membership_changes, store_at_fault, now);
        if !grants.is_empty() {
            // Without an answer all grants count as expired, so that the instances stay as suspect.
            let expired = self
                .store
                .expired_grants(&grants)
                .await
                .unwrap_or_else(|_| grants.clone());
            guard.apply_evidence(&grants, &expired, now);
        }
        guard.add_suspects(view)
    }
}

/// Waits until `earliest`, so that many changes in a row produce few views. Waits below 1 ms, the resolution of
/// the timer, are skipped, so that single changes are not delayed.
async fn throttle(earliest: Instant) {
    if earliest >= Instant::now() + Duration::from_millis(1) {
        sleep_until(earliest).await;
    }
}
