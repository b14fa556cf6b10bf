//! The live view of one service, and the feeds that tell what changed in it.

use std::sync::Arc;

use discover_core::embed::scalingo::Service;
use discover_core::embed::{
    Abort, Attributes, Error, ErrorKind, Event, Feed, Instance, Pending, Policy, SetHandle,
    Snapshot,
};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::client::duration;
use crate::door::Door;
use crate::error::{Result, failure};
use crate::host::NativeService;
use crate::json;
use crate::promise::promise;

#[napi]
pub struct NativeSet {
    set: SetHandle,
    door: Arc<Door>,
}

impl NativeSet {
    pub fn new(set: SetHandle, door: Arc<Door>) -> NativeSet {
        NativeSet { set, door }
    }
}

#[napi]
impl NativeSet {
    #[napi(getter)]
    pub fn service(&self) -> String {
        self.set.service().to_string()
    }

    /// The set of those that have all these attributes and tags.
    #[napi]
    pub fn filter(
        &self,
        #[napi(ts_arg_type = "Record<string, string>")] attributes: Attributes,
        tags: Vec<String>,
    ) -> Result<NativeSet> {
        let set = self.set.filter(attributes, tags).map_err(failure)?;
        Ok(NativeSet::new(set, self.door.clone()))
    }

    /// Those online as the hosts of a service.
    #[napi]
    pub fn hosts(&self) -> NativeService {
        let service = Service::from_snapshot(self.set.service(), &self.set.snapshot());
        NativeService::new(service)
    }

    /// The key of one of those online, or null.
    #[napi]
    pub fn pick(&self, policy: Option<String>, key: Option<String>) -> Result<Option<String>> {
        let name = policy.as_deref().unwrap_or(Policy::NAMES[0]);
        let policy = Policy::parse(name, key.as_deref()).map_err(failure)?;
        let key = |i: Arc<Instance>| format!("{}/{}", i.created(), i.id());
        Ok(self.set.pick(policy).map(key))
    }

    /// Says that a call to an instance picked by `p2c` is over. Of one that has gone, nobody counts.
    #[napi]
    pub fn done(&self, created: f64, id: String) {
        let snapshot = self.set.snapshot();
        let wanted = (created, id.as_str());
        let online = snapshot.online();
        let at = online.partition_point(|i| (i.created() as f64, i.id()) < wanted);
        let found = online.get(at);
        if let Some(it) = found.filter(|i| (i.created() as f64, i.id()) == wanted) {
            self.set.done(it);
        }
    }

    /// Waits for `count` online; the promise is asked for once.
    #[napi]
    pub fn wait(&self, count: u32, timeout_ms: f64) -> Result<NativeWait> {
        let timeout = duration(timeout_ms).map_err(failure)?;
        let call = self.set.wait(count as usize, timeout).map_err(failure)?;
        let (call, abort) = call.abortable();
        let call = Some(call);
        Ok(NativeWait { call, abort })
    }

    /// A feed that rings as `number`; of a closed client there is none.
    #[napi]
    pub fn feed(&self, number: u32) -> Result<NativeFeed> {
        let feed = self.view(number)?;
        feed.feed.check().map_err(failure)?;
        Ok(feed)
    }

    /// The same to be read: of a closed client, what was known last.
    #[napi]
    pub fn view(&self, number: u32) -> Result<NativeFeed> {
        let door = self.door.clone();
        let feed = self.set.feed_posting(move || door.ring(number));
        let feed = feed.map_err(failure)?;
        Ok(NativeFeed {
            feed,
            rest: Default::default(),
            offline: None,
        })
    }
}

/// A wait that can be ended before its time.
#[napi]
pub struct NativeWait {
    call: Option<Pending<Arc<Snapshot>>>,
    abort: Abort,
}

#[napi]
impl NativeWait {
    #[napi(ts_return_type = "Promise<void>")]
    pub fn promise<'env>(&mut self, env: &'env Env) -> Result<Object<'env>> {
        let twice = || Error::new(ErrorKind::Internal, "a wait has one promise");
        promise(env, self.call.take().ok_or_else(twice), |_, _| Ok(()))
    }

    #[napi]
    pub fn abort(&self) {
        self.abort.abort();
    }
}

/// How many events go across together: all that there are in a hundred thousand would be as much memory
/// again, as text.
const TOGETHER: usize = 1024;

/// News of a set, to be drained.
#[napi]
pub struct NativeFeed {
    feed: Feed,
    /// What was drained and is not across yet.
    rest: std::vec::IntoIter<Event>,
    /// Where those offline were told from, so that they are told again only when they changed.
    offline: Option<Arc<Snapshot>>,
}

#[napi]
impl NativeFeed {
    /// The events since the last drain, as JSON; some of them, where it says that there are more.
    #[napi]
    pub fn drain(&mut self) -> String {
        if self.rest.len() == 0 {
            self.rest = self.feed.drain().into_iter();
        }
        let some: Vec<Event> = self.rest.by_ref().take(TOGETHER).collect();
        let are_more = self.rest.len() > 0;
        if !are_more {
            self.rest = Default::default();
        }
        json::events(&some, are_more)
    }

    /// The snapshot now, as what changed since the last, as JSON.
    #[napi]
    pub fn read(&mut self) -> String {
        let events = self.feed.drain();
        let now = self.feed.seen().clone();
        let is_same = |old: &Arc<Snapshot>| std::ptr::eq(old.offline(), now.offline());
        let same = self.offline.as_ref().is_some_and(is_same);
        let text = json::snapshot(&now, &events, (!same).then(|| now.offline()));
        self.offline = Some(now);
        text
    }

    #[napi]
    pub fn cancel(&mut self) {
        self.rest = Default::default();
        self.feed.cancel();
    }
}
