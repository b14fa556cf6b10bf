//! The lease class: a registration that the engine keeps alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use discover_core::embed::{Attributes, LeaseHandle, Standing};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::doorbell::Doorbell;
use crate::error::{Result, failure};
use crate::json;
use crate::promise::promise;
use crate::state_feed::NativeStateFeed;

#[napi]
pub struct NativeLease(LeaseHandle, Arc<Doorbell>);

impl NativeLease {
    pub fn new(lease: LeaseHandle, doorbell: Arc<Doorbell>) -> NativeLease {
        NativeLease(lease, doorbell)
    }
}

#[napi]
impl NativeLease {
    #[napi(getter)]
    pub fn id(&self) -> String {
        self.0.id()
    }

    #[napi(getter)]
    pub fn address(&self) -> String {
        self.0.address()
    }

    #[napi(getter)]
    pub fn service(&self) -> String {
        self.0.service().to_string()
    }

    /// The attributes as the store has them.
    #[napi(getter)]
    pub fn attributes(&self) -> Result<BTreeMap<String, String>> {
        let now = self.0.instance().map_err(failure)?;
        Ok(now.attributes().clone())
    }

    /// The standing: `live`, `lapsed`, `replaced` or `released`.
    #[napi(getter)]
    pub fn standing(&self) -> Result<&'static str> {
        Ok(self.0.standing().map_err(failure)?.name())
    }

    /// The reason why the lease is lapsed or replaced, as JSON.
    #[napi(getter)]
    pub fn error(&self) -> Result<Option<String>> {
        let standing = self.0.standing().map_err(failure)?;
        Ok(standing.error().map(|e| json::failure(e).to_string()))
    }

    /// Opens a feed of the standings of the lease. It rings with the id `feed_id`.
    #[napi]
    pub fn standings(&self, feed_id: u32) -> Result<NativeStateFeed> {
        NativeStateFeed::new(&self.1, feed_id, |mut callback| {
            let report = move |now: Standing| callback(now.name(), now.error());
            self.0.on_standing(report)
        })
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn heartbeat<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        promise(env, self.0.heartbeat(), |_, ()| Ok(()))
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn update<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "Record<string, string>")] attributes: Attributes,
    ) -> Result<Object<'env>> {
        promise(env, self.0.update(attributes), |_, ()| Ok(()))
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn unregister<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        promise(env, self.0.unregister(), |_, ()| Ok(()))
    }
}
