//! The client class: connect, register, watch services, close.

use std::sync::Arc;
use std::thread;

use discover_core::embed::{
    self, Attributes, CLOSE_TIMEOUT, ConnectionState, Engine, Error, ErrorKind, Heartbeat,
    Registration,
};
use napi::Env;
use napi::bindgen_prelude::{Function, Object};
use napi_derive::napi;

use crate::arguments::duration;
use crate::doorbell::{Attachment, Doorbell};
use crate::error::{Result, failure};
use crate::json;
use crate::lease::NativeLease;
use crate::promise::{Deferred, promise};
use crate::set::NativeSet;
use crate::state_feed::NativeStateFeed;

#[napi]
pub struct NativeClient {
    engine: Arc<Engine>,
    /// Present from `attach` to `detach`.
    attachment: Option<Attachment>,
}

/// The options of `register`, with their units in the names.
#[napi(object)]
pub struct NativeRegistration {
    pub service: String,
    pub port: Option<i64>,
    pub host: Option<String>,
    pub address: Option<String>,
    pub id: Option<String>,
    #[napi(ts_type = "Record<string, string>")]
    pub attributes: Option<Attributes>,
    pub tags: Option<Vec<String>>,
    pub ttl_ms: Option<f64>,
    pub manual: bool,
}

/// Opens the registry at `url`, by default that of the environment variable `DISCOVER_URL`.
#[napi(ts_return_type = "Promise<NativeClient>")]
pub fn connect(env: &Env, url: Option<String>) -> Result<Object<'_>> {
    promise(env, Engine::open(url.as_deref()), |_, engine| {
        Ok(NativeClient {
            engine: Arc::new(engine),
            attachment: None,
        })
    })
}

#[napi]
impl NativeClient {
    /// Attaches the client to this environment, whose end then closes the client. `ring` is called with the ids
    /// of the feeds that have something to drain. Call it once, before any other method.
    #[napi(ts_args_type = "ring: (feeds: number[]) => void")]
    pub fn attach(&mut self, env: &Env, ring: Function<'_, Vec<u32>, ()>) -> Result<()> {
        self.attachment = Some(Attachment::new(env, &self.engine, &ring)?);
        Ok(())
    }

    /// Detaches a closed client from this environment. Call it last.
    #[napi]
    pub fn detach(&mut self, env: &Env) -> Result<()> {
        let attachment = self.attachment.take();
        attachment.map_or(Ok(()), |attachment| attachment.detach(env))
    }

    #[napi(getter)]
    pub fn url(&self) -> Result<String> {
        self.engine.url().map_err(failure)
    }

    #[napi(ts_return_type = "Promise<NativeLease>")]
    pub fn register<'env>(
        &self,
        env: &'env Env,
        registration: NativeRegistration,
        timeout_ms: Option<f64>,
    ) -> Result<Object<'env>> {
        let registration = registration.into_registration().map_err(failure)?;
        let timeout = timeout_ms
            .map(|ms| duration("timeout", ms))
            .transpose()
            .map_err(failure)?;
        let call = self.engine.register(registration, timeout);
        let doorbell = self.doorbell()?;
        promise(env, call, |_, lease| Ok(NativeLease::new(lease, doorbell)))
    }

    #[napi]
    pub fn services(&self, service: String) -> Result<NativeSet> {
        let set = self.engine.services(&service).map_err(failure)?;
        Ok(NativeSet::new(set, self.doorbell()?))
    }

    /// Returns the counters by name, as JSON.
    #[napi]
    pub fn metrics(&self) -> Result<String> {
        let metrics = self.engine.metrics().map_err(failure)?;
        Ok(json::metrics(&metrics))
    }

    /// Returns the state of the connection, as JSON.
    #[napi]
    pub fn connection(&self) -> Result<String> {
        let now = self.engine.connection().map_err(failure)?;
        Ok(json::state(now.name(), now.error()))
    }

    /// Opens a feed of the states of the connection. It rings with the id `feed_id`.
    #[napi]
    pub fn connection_states(&self, feed_id: u32) -> Result<NativeStateFeed> {
        NativeStateFeed::new(&self.doorbell()?, feed_id, |mut callback| {
            let report = move |now: ConnectionState| callback(now.name(), now.error());
            self.engine.on_connection(report)
        })
    }

    /// Closes the client on a new thread, because closing blocks.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env, timeout_ms: Option<f64>) -> Result<Object<'env>> {
        let timeout = timeout_ms.map_or(Ok(CLOSE_TIMEOUT), |ms| duration("timeout", ms));
        let (timeout, engine) = (timeout.map_err(failure)?, self.engine.clone());
        let (mut deferred, promise) = Deferred::new(env)?;
        let close = move || deferred.settle(engine.close(timeout), |_, ()| Ok(()));
        let thread = thread::Builder::new().name("discover-close".to_owned());
        let cannot_start =
            |e| Error::caused_by(ErrorKind::Resource, "close: cannot start a thread", e);
        thread.spawn(close).map_err(|e| failure(cannot_start(e)))?;
        Ok(promise)
    }

    /// Closes the client and blocks until it is closed, for a process that is about to exit.
    #[napi]
    pub fn close_now(&self) -> Result<()> {
        self.engine.close(CLOSE_TIMEOUT).map_err(failure)
    }
}

impl NativeClient {
    fn doorbell(&self) -> Result<Arc<Doorbell>> {
        let closed = || Error::new(ErrorKind::Closed, "the client was closed");
        let attachment = self.attachment.as_ref().ok_or_else(closed);
        Ok(attachment.map_err(failure)?.doorbell())
    }
}

impl NativeRegistration {
    fn into_registration(self) -> embed::Result<Registration> {
        let mut registration = match (self.address, self.host, self.port) {
            (Some(address), None, None) => Registration::at(&self.service, &address)?,
            (None, None, Some(port)) => Registration::new(&self.service, port)?,
            (None, Some(host), Some(port)) => {
                Registration::new(&self.service, port)?.host(&host)?
            }
            _ => {
                return Err(Error::invalid(
                    "give either port (with or without host) or address",
                ));
            }
        };
        if let Some(id) = self.id {
            registration = registration.id(&id)?;
        }
        if let Some(attributes) = self.attributes {
            registration = registration.attributes(attributes)?;
        }
        if let Some(tags) = self.tags {
            registration = registration.tags(tags)?;
        }
        if let Some(ttl) = self.ttl_ms {
            registration = registration.ttl(duration("ttl", ttl)?)?;
        }
        Ok(match self.manual {
            true => registration.heartbeat(Heartbeat::Manual),
            false => registration,
        })
    }
}
