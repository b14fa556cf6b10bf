//! The set class: the live set of one service, and the feeds of its changes.

use std::sync::Arc;

use discover_core::embed::{
    Abort, Attributes, Error, ErrorKind, Event, Feed, Instance, Pending, Policy, SetHandle,
    Snapshot,
};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::arguments::duration;
use crate::doorbell::Doorbell;
use crate::error::{Result, failure};
use crate::json;
use crate::promise::promise;

#[napi]
pub struct NativeSet {
    set: SetHandle,
    doorbell: Arc<Doorbell>,
}

impl NativeSet {
    pub fn new(set: SetHandle, doorbell: Arc<Doorbell>) -> NativeSet {
        NativeSet { set, doorbell }
    }

    pub fn handle(&self) -> &SetHandle {
        &self.set
    }
}

#[napi]
impl NativeSet {
    #[napi(getter)]
    pub fn service(&self) -> String {
        self.set.service().to_string()
    }

    /// Returns the set of the instances that have all given attributes and tags.
    #[napi]
    pub fn filter(
        &self,
        #[napi(ts_arg_type = "Record<string, string>")] attributes: Attributes,
        tags: Vec<String>,
    ) -> Result<NativeSet> {
        let set = self.set.filter(attributes, tags).map_err(failure)?;
        Ok(NativeSet::new(set, self.doorbell.clone()))
    }

    /// Chooses an instance and returns its key, or null if none is available.
    #[napi]
    pub fn pick(&self, policy: Option<String>, key: Option<String>) -> Result<Option<String>> {
        let name = policy.as_deref().unwrap_or(Policy::NAMES[0]);
        let policy = Policy::parse(name, key.as_deref()).map_err(failure)?;
        let key = |i: Arc<Instance>| format!("{}/{}", i.created(), i.id());
        Ok(self.set.pick(policy).map_err(failure)?.map(key))
    }

    /// Ends a call to an instance picked by `p2c`. Ignores an instance that is not online.
    #[napi]
    pub fn done(&self, created: f64, id: String) -> Result<()> {
        let snapshot = self.set.snapshot().map_err(failure)?;
        let wanted = (created, id.as_str());
        let online = snapshot.online();
        let index = online.partition_point(|i| (i.created() as f64, i.id()) < wanted);
        let found = online.get(index);
        if let Some(instance) = found.filter(|i| (i.created() as f64, i.id()) == wanted) {
            self.set.done(instance).map_err(failure)?;
        }
        Ok(())
    }

    /// Starts waiting until `count` instances are online.
    #[napi]
    pub fn wait(&self, count: u32, timeout_ms: f64) -> Result<NativeWait> {
        let timeout = duration("timeout", timeout_ms).map_err(failure)?;
        let call = self.set.wait(count as usize, timeout).map_err(failure)?;
        let (call, abort) = call.abortable();
        let call = Some(call);
        Ok(NativeWait { call, abort })
    }

    /// Opens a feed of events. It rings with the id `feed_id`. Fails if the client is closed.
    #[napi]
    pub fn feed(&self, feed_id: u32) -> Result<NativeFeed> {
        let feed = self.cache_feed(feed_id)?;
        feed.feed.check().map_err(failure)?;
        Ok(feed)
    }

    /// Opens a feed for a cache of the set, also if the client is closed. It rings with the id `feed_id`.
    #[napi]
    pub fn cache_feed(&self, feed_id: u32) -> Result<NativeFeed> {
        let doorbell = self.doorbell.clone();
        let feed = self.set.feed_with_wake_fn(move || doorbell.ring(feed_id));
        let feed = feed.map_err(failure)?;
        Ok(NativeFeed {
            feed,
            undelivered: Default::default(),
            delivered_offline: None,
        })
    }
}

/// A wait that can be cancelled.
#[napi]
pub struct NativeWait {
    call: Option<Pending<Arc<Snapshot>>>,
    abort: Abort,
}

#[napi]
impl NativeWait {
    /// Returns the promise of the wait. Can be called once.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn promise<'env>(&mut self, env: &'env Env) -> Result<Object<'env>> {
        let twice = || Error::new(ErrorKind::Internal, "wait: the promise was already taken");
        promise(env, self.call.take().ok_or_else(twice), |_, _| Ok(()))
    }

    #[napi]
    pub fn abort(&self) {
        self.abort.abort();
    }
}

/// The most events in one JSON message. A message with all events of a large set would double its memory.
const MAX_EVENTS_PER_DRAIN: usize = 1024;

/// A feed of the changes of a set.
#[napi]
pub struct NativeFeed {
    feed: Feed,
    /// The events that were drained from the core but not yet returned to JavaScript.
    undelivered: std::vec::IntoIter<Event>,
    /// The snapshot whose offline instances were last returned. They are returned again only after a change.
    delivered_offline: Option<Arc<Snapshot>>,
}

#[napi]
impl NativeFeed {
    /// Returns the events since the last drain, as JSON. If `more` is true, drain again for the rest.
    #[napi]
    pub fn drain(&mut self) -> String {
        if self.undelivered.len() == 0 {
            self.undelivered = self.feed.drain().into_iter();
        }
        let batch: Vec<Event> = self
            .undelivered
            .by_ref()
            .take(MAX_EVENTS_PER_DRAIN)
            .collect();
        let are_more = self.undelivered.len() > 0;
        if !are_more {
            self.undelivered = Default::default();
        }
        json::events(&batch, are_more)
    }

    /// Returns the changes of the snapshot since the last read, as JSON.
    #[napi]
    pub fn read(&mut self) -> String {
        let events = self.feed.drain();
        let now = self.feed.seen().clone();
        let is_same = |old: &Arc<Snapshot>| std::ptr::eq(old.offline(), now.offline());
        let same = self.delivered_offline.as_ref().is_some_and(is_same);
        let text = json::snapshot(&now, &events, (!same).then(|| now.offline()));
        self.delivered_offline = Some(now);
        text
    }

    /// Ends the feed: it does not ring again.
    #[napi]
    pub fn cancel(&mut self) {
        self.undelivered = Default::default();
        self.feed.cancel();
    }
}
