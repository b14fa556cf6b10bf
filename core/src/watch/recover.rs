//! A stream that fails, made into one that never does.

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::{Instant, sleep};

use crate::error::{Error, Kind, Result};
use crate::model::View;
use crate::watch::Backoff;

/// What a recovered watch says.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// This is the whole set, as the store has it now.
    View(View),
    /// The store is lost for the moment; the last view is still the best there is.
    Lost(Error),
}

/// A watch must hold this long before a failure counts as the first again; a store that accepts and
/// drops us at once is paced like one that is down.
const HEALTHY: std::time::Duration = std::time::Duration::from_secs(5);

enum State {
    Open,
    Watching(BoxStream<'static, Result<View>>, Instant),
    Waiting,
}

/// Opens the watch again, after a wait, whenever it fails or ends. Never ends, never errs.
pub(crate) fn recover(
    open: impl Fn() -> BoxStream<'static, Result<View>> + Send + 'static,
    backoff: Backoff,
) -> impl Stream<Item = Signal> + Send {
    stream::unfold(
        (State::Open, backoff, open),
        |(mut state, mut backoff, open)| async move {
            loop {
                state = match state {
                    State::Open => State::Watching(open(), Instant::now()),
                    State::Waiting => {
                        sleep(backoff.next_wait()).await;
                        State::Open
                    }
                    State::Watching(mut views, since) => {
                        let item = views.next().await;
                        if since.elapsed() >= HEALTHY {
                            backoff.reset();
                        }
                        let (signal, state) = match item {
                            Some(Ok(view)) => (Signal::View(view), State::Watching(views, since)),
                            Some(Err(error)) => (Signal::Lost(error), State::Waiting),
                            None => (Signal::Lost(ended()), State::Waiting),
                        };
                        return Some((signal, (state, backoff, open)));
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
        let fails = move || {
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
        let mut signals = Box::pin(recover(|| stream::empty().boxed(), Backoff::default()));
        assert!(matches!(signals.next().await, Some(Signal::Lost(_))));
        assert!(
            signals.next().now_or_never().is_none(),
            "waits before the next try"
        );
        assert!(matches!(signals.next().await, Some(Signal::Lost(_))));
    }
}
