//! The watch stream: its requests, and the watches that the server created on it.
//!
//! etcd creates a watch under the id that the client requests. Proxies (`etcd grpc-proxy`) and servers before etcd 3.4
//! choose ids of their own, and may create watches in another order. The first watch of a stream is therefore requested
//! alone; if the server chose another id, all further ones are requested one by one.

use std::collections::{HashMap, VecDeque};

use etcd_client::{
    Client, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream, WatchStream,
};
use futures_util::future::pending;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::error::{LOGIN_REFUSALS, request_error};
use crate::watch_sync::{CancelReason, WatchId};

/// A request on the watch stream.
pub(super) enum StreamRequest {
    Watch(WatchRequest),
    /// Cancels the watch with this id of the server.
    Cancel(i64),
    Progress,
}

/// A request to create a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WatchRequest {
    pub(super) id: WatchId,
    /// The key, or the prefix of all keys.
    pub(super) key: Vec<u8>,
    pub(super) is_prefix: bool,
    /// The first revision of the events.
    pub(super) from: u64,
    /// Whether it was cancelled before the server responded.
    pub(super) is_cancelled: bool,
}

impl WatchRequest {
    fn options(&self) -> WatchOptions {
        let options = WatchOptions::new()
            .with_watch_id(self.id)
            .with_start_revision(self.from as i64);
        match self.is_prefix {
            true => options.with_prefix(),
            false => options,
        }
    }

    /// Returns true if an event of this key belongs to the watch.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self.is_prefix {
            true => key.starts_with(&self.key),
            false => key == self.key,
        }
    }
}

/// Who chooses the ids of the watches on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum IdsBy {
    /// No watch was created yet.
    #[default]
    Unknown,
    Client,
    Server,
}

/// The watches of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamWatches {
    ids_by: IdsBy,
    /// Watches that are not requested yet.
    waiting: VecDeque<WatchRequest>,
    /// Requested watches without a response, in the order of their requests.
    requested: VecDeque<WatchRequest>,
    /// The created watches, by the id of the server.
    created: HashMap<i64, WatchRequest>,
}

impl StreamWatches {
    /// Adds a watch. [`StreamWatches::next_request`] returns it when it may be requested.
    pub(super) fn add(&mut self, watch: WatchRequest) {
        self.waiting.push_back(watch);
    }

    /// Returns the next watch to request, if one may be requested now.
    pub(super) fn next_request(&mut self) -> Option<WatchRequest> {
        if self.ids_by != IdsBy::Client && !self.requested.is_empty() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.requested.push_back(next.clone());
        Some(next)
    }

    /// Handles the response to a request; `id` is the id of the server, and `is_refused` whether no watch was created.
    /// Returns the watch.
    pub(super) fn record_response(&mut self, id: i64, is_refused: bool) -> Option<WatchRequest> {
        // A refusal may lack the id.
        let at = self.requested.iter().position(|watch| watch.id == id);
        let watch = self.requested.remove(at.unwrap_or(0))?;
        if !is_refused {
            self.ids_by = match watch.id == id {
                true => IdsBy::Client,
                false => IdsBy::Server,
            };
            self.created.insert(id, watch.clone());
        }
        Some(watch)
    }

    /// Returns the created watch with this id of the server.
    pub(super) fn get(&self, id: i64) -> Option<&WatchRequest> {
        self.created.get(&id)
    }

    /// Removes a watch that the server ended; `id` is the id of the server.
    pub(super) fn remove(&mut self, id: i64) -> Option<WatchRequest> {
        self.created.remove(&id)
    }

    /// Ends a watch. Returns the id with which to cancel it; `None` if it is not created. A watch that is being created
    /// is cancelled when its response arrives.
    pub(super) fn cancel(&mut self, watch: WatchId) -> Option<i64> {
        self.waiting.retain(|waiting| waiting.id != watch);
        let mut requested = self.requested.iter_mut();
        if let Some(requested) = requested.find(|requested| requested.id == watch) {
            requested.is_cancelled = true;
            return None;
        }
        match self.created.get(&watch) {
            Some(created) if created.id == watch => Some(watch),
            _ => {
                let mut created = self.created.iter();
                created
                    .find(|(_, created)| created.id == watch)
                    .map(|(id, _)| *id)
            }
        }
    }

    /// Returns true if the server is known to answer progress requests. Those that choose the ids of watches do not.
    pub(super) fn answers_progress_requests(&self) -> bool {
        self.ids_by == IdsBy::Client
    }
}

/// Opens the watch stream, hands over its responses, and sends requests on it until it fails.
pub(super) async fn run(
    config: &EtcdConfig,
    client: Client,
    first: WatchRequest,
    mut requests: mpsc::UnboundedReceiver<StreamRequest>,
    opened: impl FnOnce(WatchResponseStream),
) -> Error {
    let explain = |error| request_error(config, "", &error);
    let mut watches = client.watch_client().max_decoding_message_size(usize::MAX);
    let options = first.options();
    let (mut sender, answers) = match watches.watch(first.key, Some(options)).await {
        Ok(stream) => WatchStream::split(stream),
        Err(error) => return explain(error),
    };
    opened(answers);
    while let Some(request) = requests.recv().await {
        if let Err(error) = send(&mut sender, request).await {
            return explain(error);
        }
    }
    pending().await
}

async fn send(
    sender: &mut WatchRequestSender,
    request: StreamRequest,
) -> Result<(), etcd_client::Error> {
    match request {
        StreamRequest::Watch(watch) => {
            let options = watch.options();
            sender.watch(watch.key, Some(options)).await
        }
        StreamRequest::Cancel(id) => sender.cancel(id).await,
        StreamRequest::Progress => sender.request_progress().await,
    }
}

/// Returns why the server ended a watch.
pub(super) fn cancel_reason(response: &WatchResponse) -> CancelReason {
    let reason = response.cancel_reason();
    if response.compact_revision() > 0 {
        return CancelReason::Compacted;
    }
    let error = |kind| Error::new(kind, format!("etcd cancelled the watch: {reason}"));
    match LOGIN_REFUSALS.iter().any(|text| reason.ends_with(text)) {
        true => CancelReason::LoginRefused(error(ErrorKind::PermissionDenied)),
        false => CancelReason::Other(error(ErrorKind::Unavailable)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(id: WatchId) -> WatchRequest {
        WatchRequest {
            id,
            key: format!("/{id}/").into_bytes(),
            is_prefix: true,
            from: 1,
            is_cancelled: false,
        }
    }

    fn with_watches(ids: std::ops::RangeInclusive<WatchId>) -> StreamWatches {
        let mut watches = StreamWatches::default();
        ids.for_each(|id| watches.add(watch(id)));
        watches
    }

    fn requests(watches: &mut StreamWatches) -> Vec<WatchId> {
        std::iter::from_fn(|| watches.next_request().map(|watch| watch.id)).collect()
    }

    #[test]
    fn a_server_that_uses_the_ids_of_the_client_gets_all_requests_after_the_first() {
        let mut watches = with_watches(4..=7);
        assert_eq!(requests(&mut watches), [4]);
        assert_eq!(watches.record_response(4, false), Some(watch(4)));
        assert_eq!(requests(&mut watches), [5, 6, 7]);
        for id in [6, 7, 5] {
            assert_eq!(watches.record_response(id, false), Some(watch(id)));
            assert_eq!(watches.get(id), Some(&watch(id)));
        }
        assert!(watches.answers_progress_requests());
        assert_eq!(watches.cancel(6), Some(6));
    }

    #[test]
    fn a_server_with_ids_of_its_own_gets_one_request_at_a_time() {
        let mut watches = with_watches(4..=6);
        assert_eq!(requests(&mut watches), [4]);
        assert_eq!(watches.record_response(0, false), Some(watch(4)));
        assert_eq!(requests(&mut watches), [5]);
        assert_eq!(watches.record_response(4, false), Some(watch(5)));
        assert_eq!(requests(&mut watches), [6]);
        assert_eq!(watches.get(4), Some(&watch(5)), "the id of the server");
        assert_eq!(watches.cancel(4), Some(0), "the id of the client");
        assert_eq!(watches.remove(0), Some(watch(4)));
        assert!(!watches.answers_progress_requests());
    }

    #[test]
    fn a_watch_that_is_being_created_is_cancelled_when_it_is_created() {
        let mut watches = with_watches(1..=2);
        assert_eq!(requests(&mut watches), [1]);
        assert_eq!([watches.cancel(1), watches.cancel(2)], [None, None]);
        let created = watches.record_response(0, false).unwrap();
        assert!(created.is_cancelled);
        assert!(
            requests(&mut watches).is_empty(),
            "watch 2 is not requested"
        );
    }

    #[test]
    fn a_refusal_without_an_id_ends_the_first_request() {
        let mut watches = with_watches(1..=2);
        assert_eq!(requests(&mut watches), [1]);
        assert_eq!(watches.record_response(-1, true), Some(watch(1)));
        assert_eq!(requests(&mut watches), [2]);
    }
}
