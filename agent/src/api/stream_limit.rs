//! The limit on the number of event streams.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use discover_core::Result;
use futures_util::stream::{Stream, StreamExt};
use tokio::sync::watch;

use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits};
use crate::runtime::phase::{Phase, until_handing_over};

/// A chunk of an event stream. Streams do not fail.
type StreamItem = std::result::Result<Bytes, Infallible>;

/// Counts the event streams, and ends them when the agent hands over.
#[derive(Debug)]
pub struct StreamLimiter {
    quota: Arc<Quota>,
    phase: watch::Receiver<Phase>,
}

impl StreamLimiter {
    /// Creates a limiter without streams. One client may open half of `max`.
    pub fn new(max: usize, phase: watch::Receiver<Phase>) -> StreamLimiter {
        let limits = QuotaLimits {
            count: Some((max, Some("streams"))),
            bytes: None,
        };
        StreamLimiter {
            quota: Quota::new("event streams", limits),
            phase,
        }
    }

    /// Returns the number of streams that are open.
    pub fn open(&self) -> usize {
        self.quota.count()
    }

    /// Counts a stream for as long as it lives. The stream ends when the agent hands over, so that the client
    /// connects to the next process.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`](discover_core::ErrorKind::Resource) if the maximum number of streams, or
    /// half of it by this client, is open.
    pub fn admit<S: Stream<Item = StreamItem> + Send>(
        &self,
        peer: Peer,
        stream: S,
    ) -> Result<impl Stream<Item = StreamItem> + Send + use<S>> {
        let permit = self.quota.admit(peer, 0, None)?;
        let mut phase = self.phase.clone();
        let handing_over = async move { until_handing_over(&mut phase).await };
        // The closure owns the permit, so the stream is counted until it is dropped.
        let counted = stream.map(move |item| {
            let _ = &permit;
            item
        });
        Ok(counted.take_until(Box::pin(handing_over)))
    }
}
