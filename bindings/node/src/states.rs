//! How a connection or a registration fares, to be drained like news.

use std::sync::{Arc, Mutex, PoisonError};

use discover_core::embed::{self, Error, Subscription};
use napi_derive::napi;

use crate::door::Door;
use crate::error::{Result, failure};
use crate::json;

/// Told on the dispatch thread: a word, and why.
pub type Tell = Box<dyn FnMut(&str, Option<&Error>) + Send>;

/// The latest condition that was not drained yet, as JSON.
type Latest = Arc<Mutex<Option<String>>>;

#[napi]
pub struct NativeStates {
    subscription: Subscription,
    latest: Latest,
}

impl NativeStates {
    /// What `begin` has told, rung as `number`.
    pub fn new(
        door: &Arc<Door>,
        number: u32,
        begin: impl FnOnce(Tell) -> embed::Result<Subscription>,
    ) -> Result<NativeStates> {
        let latest = Latest::default();
        let (told, door) = (latest.clone(), door.clone());
        let tell = move |state: &str, error: Option<&Error>| {
            let condition = Some(json::condition(state, error));
            let undrained = std::mem::replace(&mut *lock(&told), condition);
            // A feed that was not drained does not ring again.
            if undrained.is_none() {
                door.ring(number);
            }
        };
        let subscription = begin(Box::new(tell)).map_err(failure)?;
        Ok(NativeStates {
            subscription,
            latest,
        })
    }
}

#[napi]
impl NativeStates {
    /// The condition, if it was not told yet, as JSON.
    #[napi]
    pub fn drain(&self) -> String {
        let latest = lock(&self.latest).take();
        let latest = latest.unwrap_or_default();
        format!(r#"{{"more":false,"conditions":[{latest}]}}"#)
    }

    #[napi]
    pub fn cancel(&self) {
        self.subscription.cancel();
    }
}

fn lock(latest: &Latest) -> std::sync::MutexGuard<'_, Option<String>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}
