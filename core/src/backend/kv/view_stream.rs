//! The views of one service: the folders of all its layouts, folded into one set.

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

/// How long to wait for the others, where some of several instances vanished, or where one folder of
/// several is told of before the others.
const GATHER: Duration = Duration::from_millis(100);

/// How long a view may wait for what comes without an end.
const FLOOD: Duration = Duration::from_millis(10);
/// How long the next view waits for each change that the last one was made of. It is a few times what one
/// takes to be read and told: faster than this they are a flood.
const EACH: Duration = Duration::from_micros(10);

/// For how long the store was away until lately, once it is back.
const LATELY: Duration = Duration::from_secs(5);

/// News of the folder of a layout, or that there will be no more.
type News = (usize, Option<Result<Changes>>);

/// See the module.
pub(super) struct Views {
    changes: BoxStream<'static, News>,
    folders: Vec<Folder>,
    mirror: ViewBuilder,
    protect: Option<MassExpiryGuard>,
    store: Arc<dyn Store>,
    start: Instant,
    /// What came while more was gathered, and is no change: it is looked at next.
    waiting: Option<Option<News>>,
    /// Since when the store is back, once it was lost.
    back: Option<Instant>,
    /// How many changes were noted since the last view.
    noted: u32,
}

/// What is known of the folder of one layout.
#[derive(Clone, Default)]
struct Folder {
    /// Whether it was told of, and not lost since.
    known: bool,
    revision: u64,
}

impl Views {
    pub(super) fn open(backend: &KvBackend, service: &ServiceName, last: View) -> Result<Views> {
        let watch = |(number, layout): (usize, &Arc<dyn crate::layout::Layout>)| {
            let scope = Scope::Prefix(layout.prefix(service)?);
            let news = backend.store.watch(&scope).map(Some);
            let end = stream::iter([None]);
            Ok(news.chain(end).map(move |item| (number, item)).boxed())
        };
        let layouts = backend.layouts.iter().enumerate();
        let mut changes: Vec<BoxStream<'static, News>> =
            layouts.map(watch).collect::<Result<_>>()?;
        let folders = vec![Folder::default(); changes.len()];
        let (layouts, invalid) = (backend.layouts.clone(), backend.invalid.clone());
        Ok(Views {
            folders,
            // What joins several wakes its task once more after each item, and so another thread.
            changes: match changes.len() {
                1 => changes.remove(0),
                _ => stream::select_all(changes).boxed(),
            },
            mirror: ViewBuilder::new(layouts, service.clone(), last, invalid),
            protect: backend.grace.map(MassExpiryGuard::new),
            store: backend.store.clone(),
            start: Instant::now(),
            waiting: None,
            back: None,
            noted: 0,
        })
    }

    pub(super) async fn next(&mut self) -> Option<Result<View>> {
        // The last one is told by now.
        let free = Instant::now() + (EACH * std::mem::take(&mut self.noted)).min(FLOOD);
        loop {
            let item = match self.waiting.take() {
                Some(item) => item,
                None => match self.item().await {
                    Ok(item) => item,
                    Err(expired) => return Some(Ok(expired)),
                },
            };
            // One that ends ends all: they are opened again together.
            let (number, item) = item?;
            if let Err(error) = self.fold(number, item?) {
                self.mirror.tell_again();
                return Some(Err(error));
            }
            rest(free).await;
            // What has come as well by now is told with it: of a burst, nobody wants to hear each step.
            // What never stops coming is told all the same.
            let until = Instant::now() + FLOOD;
            while self.waiting.is_none()
                && Instant::now() < until
                && let Some(item) = self.changes.next().now_or_never()
            {
                self.note(item);
            }
            if let Some(view) = self.view() {
                let view = self.gather(view).await;
                return Some(Ok(self.shield(view).await));
            }
        }
    }

    /// What comes next, or the view without those whose time is over by then.
    async fn item(&mut self) -> std::result::Result<Option<News>, View> {
        loop {
            let wake = self.protect.as_ref().and_then(MassExpiryGuard::wake);
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
                    if let Some(view) = self.protect.as_mut().and_then(|p| p.expire(now)) {
                        return Err(view);
                    }
                }
            }
        }
    }

    /// Takes note of a change; what is none waits.
    fn note(&mut self, item: Option<News>) {
        match item {
            Some((number, Some(change @ Ok(_)))) => drop(self.fold(number, change)),
            other => self.waiting = Some(other),
        }
    }

    /// Takes note of what is told of a folder.
    fn fold(&mut self, number: usize, item: Result<Changes>) -> Result<()> {
        let Some(folder) = self.folders.get_mut(number) else {
            return Ok(());
        };
        let was_lost = !folder.known && folder.revision > 0;
        folder.known = item.is_ok();
        let changes = item?;
        if was_lost {
            self.back = Some(Instant::now());
        }
        folder.revision = changes.revision;
        self.noted = self.noted.saturating_add(changes.changes.len() as u32);
        self.mirror.fold(number, changes);
        Ok(())
    }

    /// The whole, if it is another than before and all folders are known.
    fn view(&mut self) -> Option<View> {
        let whole = self.folders.iter().all(|folder| folder.known);
        whole.then(|| self.mirror.view()).flatten()
    }

    /// Whether one folder is told of at a later time than another.
    fn is_uneven(&self) -> bool {
        let mut revisions = self.folders.iter().map(|folder| folder.revision);
        let first = revisions.next();
        revisions.any(|revision| Some(revision) != first)
    }

    /// Waits a moment for more: for the other folders, and where some of several lost their grants, for
    /// the others: a store that has lost everybody says so one by one.
    async fn gather(&mut self, mut view: View) -> View {
        let protects = self.protect.is_some() && self.mirror.may_be_a_mass();
        let until = Instant::now() + GATHER;
        while (protects || self.is_uneven())
            && self.waiting.is_none()
            && let Ok(item) = timeout_at(until, self.changes.next()).await
        {
            self.note(item);
            view = self.view().unwrap_or(view);
        }
        view
    }

    /// Adds to what the store has those that it may have lost.
    async fn shield(&mut self, view: View) -> View {
        let moves = self.mirror.moves();
        let Some(protect) = &mut self.protect else {
            return view;
        };
        let now = self.start.elapsed();
        let lately = self.back.is_some_and(|back| back.elapsed() < LATELY);
        let asked = protect.see(&view, moves, lately, now);
        if !asked.is_empty() {
            // Without an answer there is no evidence that anybody is gone.
            let gone = self
                .store
                .expired_grants(&asked)
                .await
                .unwrap_or_else(|_| asked.clone());
            protect.judge(&asked, &gone, now);
        }
        protect.add_suspects(view)
    }
}

/// In a flood, views take a part of the time only: what is written again until the next needs not be read.
/// What is too short for a timer is not waited for, and so nothing that comes alone or by the dozen.
async fn rest(free: Instant) {
    if free >= Instant::now() + Duration::from_millis(1) {
        sleep_until(free).await;
    }
}
