//! Resubscription: turns the watch of a backend, which may fail or end, into a stream that never ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{BoxStream, Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep};

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::model::View;

/// Item of a resubscribing watch.
#[derive(Clone, Debug)]
pub(crate) enum WatchUpdate {
    /// The complete set as the store has it now.
    View(View),
    /// The store is unavailable; the last view stays valid.
    Lost(Error),
}

/// Minimum time from its first view that a watch must last before the backoff restarts. A store that accepts
/// a watch and ends it at once is therefore retried with growing delays, like a store that is down.
const MIN_HEALTHY_DURATION: std::time::Duration = std::time::Duration::from_secs(5);

enum WatchState {
    Open,
    Watching {
        views: BoxStream<'static, Result<View>>,
        /// Time of the first view.
        since: Option<Instant>,
        /// Whether the last item was an error.
        failed: bool,
    },
    Waiting(Pin<Box<Sleep>>),
}

/// Reopens a watch whenever it ends, after a backoff delay and with the last view. A watch that continues
/// after an error is not reopened. The stream never ends and never fails.
pub(crate) fn resubscribe(
    open: impl Fn(View) -> BoxStream<'static, Result<View>> + Send + Unpin + 'static,
    backoff: Backoff,
) -> impl Stream<Item = WatchUpdate> + Send {
    let (state, last) = (WatchState::Open, View::default());
    Resubscribing {
        open,
        backoff,
        state,
        last,
    }
}

/// Implemented by hand for speed: there is one for each watched service, and each change passes through it.
struct Resubscribing<O> {
    open: O,
    backoff: Backoff,
    state: WatchState,
    last: View,
}

impl<O: Fn(View) -> BoxStream<'static, Result<View>> + Unpin> Stream for Resubscribing<O> {
    type Item = WatchUpdate;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchUpdate>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                WatchState::Open => {
                    this.state = WatchState::Watching {
                        views: (this.open)(this.last.clone()),
                        since: None,
                        failed: false,
                    }
                }
                WatchState::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(context));
                    this.state = WatchState::Open;
                }
                WatchState::Watching {
                    views,
                    since,
                    failed,
                } => match ready!(views.poll_next_unpin(context)) {
                    Some(Ok(view)) => {
                        since.get_or_insert_with(Instant::now);
                        *failed = false;
                        this.last = view.clone();
                        return Poll::Ready(Some(WatchUpdate::View(view)));
                    }
                    Some(Err(error)) => {
                        *failed = true;
                        return Poll::Ready(Some(WatchUpdate::Lost(error)));
                    }
                    None => {
                        if since.is_some_and(|since| since.elapsed() >= MIN_HEALTHY_DURATION) {
                            this.backoff.reset();
                        }
                        // The error of the watch may have been reported already.
                        let told = *failed;
                        this.state = WatchState::Waiting(Box::pin(sleep(this.backoff.next_wait())));
                        if !told {
                            return Poll::Ready(Some(WatchUpdate::Lost(ended())));
                        }
                    }
                },
            }
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the store ended the watch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, stream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn every_failure_is_reported_and_retried_with_backoff() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let fails = move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            stream::iter([
                Ok(View::default()),
                Err(Error::new(ErrorKind::Unavailable, "down")),
            ])
            .boxed()
        };
        let mut updates = Box::pin(resubscribe(fails, Backoff::default()));
        let start = Instant::now();
        for _ in 0..20 {
            assert!(matches!(updates.next().await, Some(WatchUpdate::View(_))));
            assert!(matches!(updates.next().await, Some(WatchUpdate::Lost(_))));
        }
        assert_eq!(opened.load(Ordering::Relaxed), 20);
        assert!(start.elapsed().as_secs() >= 30, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_is_opened_again() {
        let mut updates = Box::pin(resubscribe(|_| stream::empty().boxed(), Backoff::default()));
        assert!(matches!(updates.next().await, Some(WatchUpdate::Lost(_))));
        assert!(
            updates.next().now_or_never().is_none(),
            "waits before the next try"
        );
        assert!(matches!(updates.next().await, Some(WatchUpdate::Lost(_))));
    }
}
