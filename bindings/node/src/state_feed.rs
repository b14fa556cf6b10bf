//! Feed of the states of a connection or a lease. It keeps only the latest state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discover_core::embed::{self, Error, Subscription};
use napi_derive::napi;

use crate::doorbell::Doorbell;
use crate::error::{Result, failure};
use crate::json;

/// A callback on the callback thread, with the name of the state and its cause.
pub type StateCallback = Box<dyn FnMut(&str, Option<&Error>) + Send>;

/// The latest state that was not drained yet, as JSON.
type LatestState = Arc<Mutex<Option<String>>>;

#[napi]
pub struct NativeStateFeed {
    subscription: Subscription,
    latest: LatestState,
}

impl NativeStateFeed {
    /// Opens a feed of the states that `subscribe` reports. The feed rings with the id `feed_id`.
    pub fn new(
        doorbell: &Arc<Doorbell>,
        feed_id: u32,
        subscribe: impl FnOnce(StateCallback) -> embed::Result<Subscription>,
    ) -> Result<NativeStateFeed> {
        let latest = LatestState::default();
        let (pending, doorbell) = (latest.clone(), doorbell.clone());
        let callback = move |state: &str, error: Option<&Error>| {
            let next = Some(json::state(state, error));
            let undrained = std::mem::replace(&mut *lock(&pending), next);
            // A feed that was not drained does not ring again.
            if undrained.is_none() {
                doorbell.ring(feed_id);
            }
        };
        let subscription = subscribe(Box::new(callback)).map_err(failure)?;
        Ok(NativeStateFeed {
            subscription,
            latest,
        })
    }
}

#[napi]
impl NativeStateFeed {
    /// Returns the latest state as JSON, unless it was drained before.
    #[napi]
    pub fn drain(&self) -> String {
        let latest = lock(&self.latest).take();
        let latest = latest.unwrap_or_default();
        format!(r#"{{"more":false,"states":[{latest}]}}"#)
    }

    /// Ends the feed: it does not ring again.
    #[napi]
    pub fn cancel(&self) {
        self.subscription.cancel();
    }
}

fn lock(latest: &LatestState) -> MutexGuard<'_, Option<String>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}
