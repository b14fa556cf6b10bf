//! A stream that fails, made into one that never does.

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::model::View;

/// What a recovered watch says.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// This is the whole set, as the store has it now.
    View(View),
    /// The store is lost for the moment; the last view is still the best there is.
    Lost(Error),
}

/// A watch must hold this long, from its first view, before a failure counts as the first again; a
/// store that accepts and drops us at once is paced like one that is down.
const HEALTHY: std::time::Duration = std::time::Duration::from_secs(5);

enum State {
    Open,
    Watching {
        views: BoxStream<'static, Result<View>>,
        /// When the first view came.
        since: Option<Instant>,
        /// Whether the last item was an error.
        failed: bool,
    },
    Waiting,
}

/// Opens the watch again, after a wait and with the last view, whenever it ends; one that goes on after
/// an error is left to it. Never ends, never errs.
pub(crate) fn recover(
    open: impl Fn(View) -> BoxStream<'static, Result<View>> + Send + 'static,
    backoff: Backoff,
) -> impl Stream<Item = Signal> + Send {
    let start = (State::Open, View::default(), backoff, open);
    stream::unfold(
        start,
        |(mut state, mut last, mut backoff, open)| async move {
            loop {
                state = match state {
                    State::Open => State::Watching {
                        views: open(last.clone()),
                        since: None,
                        failed: false,
                    },
                    State::Waiting => {
                        sleep(backoff.next_wait()).await;
                        State::Open
                    }
                    State::Watching {
                        mut views,
                        since,
                        failed,
                    } => {
                        let item = views.next().await;
                        if item.is_none() && since.is_some_and(|since| since.elapsed() >= HEALTHY) {
                            backoff.reset();
                        }
                        let signal = match item {
                            Some(Ok(view)) => {
                                last = view.clone();
                                Signal::View(view)
                            }
                            Some(Err(error)) => Signal::Lost(error),
                            // Why it ended was told already.
                            None if failed => {
                                state = State::Waiting;
                                continue;
                            }
                            None => {
                                let next = (State::Waiting, last, backoff, open);
                                return Some((Signal::Lost(ended()), next));
                            }
                        };
                        let failed = matches!(signal, Signal::Lost(_));
                        let since = since.or_else(|| (!failed).then(Instant::now));
                        let state = State::Watching {
                            views,
                            since,
                            failed,
                        };
                        return Some((signal, (state, last, backoff, open)));
                    }
                }
            }
        },
    )
}

fn ended() -> Error {
    Error::new(Kind::Unavailable, "the store ended the watch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn every_failure_is_told_and_tried_again_at_a_slowing_pace() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counter = opened.clone();
        let fails = move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            stream::iter([
                Ok(View::default()),
                Err(Error::new(Kind::Unavailable, "down")),
            ])
            .boxed()
        };
        let mut signals = Box::pin(recover(fails, Backoff::default()));
        let start = Instant::now();
        for _ in 0..20 {
            assert!(matches!(signals.next().await, Some(Signal::View(_))));
            assert!(matches!(signals.next().await, Some(Signal::Lost(_))));
        }
        assert_eq!(opened.load(Ordering::Relaxed), 20);
        assert!(start.elapsed().as_secs() >= 30, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_is_opened_again() {
        let mut signals = Box::pin(recover(|_| stream::empty().boxed(), Backoff::default()));
        assert!(matches!(signals.next().await, Some(Signal::Lost(_))));
        assert!(
            signals.next().now_or_never().is_none(),
            "waits before the next try"
        );
        assert!(matches!(signals.next().await, Some(Signal::Lost(_))));
    }
}
