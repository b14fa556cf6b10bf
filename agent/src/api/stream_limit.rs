//! The limit on the number of event streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use discover_core::{Error, ErrorKind, Result};
use futures_util::stream::{Stream, StreamExt};
use tokio::sync::watch;

use crate::runtime::phase::{Phase, until_handing_over};

/// A chunk of an event stream. Streams do not fail.
type StreamItem = std::result::Result<Bytes, Infallible>;

/// Counts the event streams, and ends them when the agent hands over.
#[derive(Debug)]
pub struct StreamLimiter {
    open: Arc<AtomicUsize>,
    max: usize,
    phase: watch::Receiver<Phase>,
}

impl StreamLimiter {
    /// Creates a limiter without streams.
    pub fn new(max: usize, phase: watch::Receiver<Phase>) -> StreamLimiter {
        StreamLimiter {
            open: Arc::default(),
            max,
            phase,
        }
    }

    /// Returns the number of streams that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a stream for as long as it lives. The stream ends when the agent hands over, so that the client
    /// connects to the next process.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if the maximum number of streams is open.
    pub fn admit<S: Stream<Item = StreamItem> + Send>(
        &self,
        stream: S,
    ) -> Result<impl Stream<Item = StreamItem> + Send + use<S>> {
        let open = OpenStream(self.open.clone());
        if open.0.fetch_add(1, Ordering::Relaxed) >= self.max {
            let max = self.max;
            let text = format!(
                "the limit of {max} event streams is reached; increase the setting streams"
            );
            return Err(Error::new(ErrorKind::Resource, text));
        }
        let mut phase = self.phase.clone();
        let handing_over = async move { until_handing_over(&mut phase).await };
        // The closure owns the guard, so the stream is counted until it is dropped.
        let counted = stream.map(move |item| {
            let _ = &open;
            item
        });
        Ok(counted.take_until(Box::pin(handing_over)))
    }
}

struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
