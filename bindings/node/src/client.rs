//! The way in: connect, register, follow services, close.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use discover_core::embed::{
    self, Attributes, CLOSE_TIMEOUT, ConnectionState, Engine, Error, ErrorKind, Heartbeat,
    Registration,
};
use napi::Env;
use napi::bindgen_prelude::{Function, Object};
use napi_derive::napi;

use crate::door::{Attached, Door};
use crate::error::{Result, failure};
use crate::json;
use crate::lease::NativeLease;
use crate::promise::{Deferred, promise};
use crate::set::NativeSet;
use crate::states::NativeStates;

#[napi]
pub struct NativeClient {
    engine: Arc<Engine>,
    /// From `attach` to `detach`.
    attached: Option<Attached>,
}

/// What to register. The units are in the names.
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

/// Opens the registry at `url`, or where the environment says.
#[napi(ts_return_type = "Promise<NativeClient>")]
pub fn connect(env: &Env, url: Option<String>) -> Result<Object<'_>> {
    promise(env, Engine::open(url.as_deref()), |_, engine| {
        Ok(NativeClient {
            engine: Arc::new(engine),
            attached: None,
        })
    })
}

#[napi]
impl NativeClient {
    /// To be called once, and first: from here on `ring` is called with the numbers of the feeds that
    /// have news, and the end of this environment closes the client.
    #[napi(ts_args_type = "ring: (feeds: number[]) => void")]
    pub fn attach(&mut self, env: &Env, ring: Function<'_, Vec<u32>, ()>) -> Result<()> {
        self.attached = Some(Attached::new(env, &self.engine, &ring)?);
        Ok(())
    }

    /// To be called last, when it is closed.
    #[napi]
    pub fn detach(&mut self, env: &Env) -> Result<()> {
        self.attached.take().map_or(Ok(()), |it| it.end(env))
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
        let registration = registration.read().map_err(failure)?;
        let timeout = timeout_ms.map(duration).transpose().map_err(failure)?;
        let call = self.engine.register(registration, timeout);
        let door = self.door()?;
        promise(env, call, |_, lease| Ok(NativeLease::new(lease, door)))
    }

    #[napi]
    pub fn services(&self, service: String) -> Result<NativeSet> {
        let set = self.engine.services(&service).map_err(failure)?;
        Ok(NativeSet::new(set, self.door()?))
    }

    /// The counters by name, as JSON.
    #[napi]
    pub fn metrics(&self) -> Result<String> {
        let metrics = self.engine.metrics().map_err(failure)?;
        Ok(json::metrics(&metrics))
    }

    /// How the connection fares, as JSON.
    #[napi]
    pub fn connection(&self) -> Result<String> {
        let now = self.engine.connection().map_err(failure)?;
        Ok(json::condition(now.name(), now.error()))
    }

    /// The same at each change, rung as `number`.
    #[napi]
    pub fn connection_states(&self, number: u32) -> Result<NativeStates> {
        NativeStates::new(&self.door()?, number, |mut tell| {
            let told = move |now: ConnectionState| tell(now.name(), now.error());
            self.engine.on_connection(told)
        })
    }

    /// Closes on a thread of its own, for it waits.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env, timeout_ms: Option<f64>) -> Result<Object<'env>> {
        let timeout = timeout_ms.map_or(Ok(CLOSE_TIMEOUT), duration);
        let (timeout, engine) = (timeout.map_err(failure)?, self.engine.clone());
        let (mut deferred, promise) = Deferred::new(env)?;
        let work = move || deferred.settle(engine.close(timeout), |_, ()| Ok(()));
        let started = thread::Builder::new().name("discover-end".to_owned());
        let refused =
            |e| Error::caused_by(ErrorKind::Resource, "cannot start a thread to close in", e);
        started.spawn(work).map_err(|e| failure(refused(e)))?;
        Ok(promise)
    }

    /// Closes at once and waits: for a process that is about to exit.
    #[napi]
    pub fn close_now(&self) -> Result<()> {
        self.engine.close(CLOSE_TIMEOUT).map_err(failure)
    }
}

impl NativeClient {
    fn door(&self) -> Result<Arc<Door>> {
        let unattached = || Error::new(ErrorKind::Closed, "the client was closed");
        let attached = self.attached.as_ref().ok_or_else(unattached);
        Ok(attached.map_err(failure)?.door())
    }
}

impl NativeRegistration {
    fn read(self) -> embed::Result<Registration> {
        let mut registration = match (self.address, self.host, self.port) {
            (Some(address), None, None) => Registration::at(&self.service, &address)?,
            (None, None, Some(port)) => Registration::new(&self.service, port)?,
            (None, Some(host), Some(port)) => {
                Registration::new(&self.service, port)?.host(&host)?
            }
            _ => {
                return Err(Error::invalid(
                    "give a port, with a host or without, or an address",
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
            registration = registration.ttl(duration(ttl)?)?;
        }
        Ok(match self.manual {
            true => registration.heartbeat(Heartbeat::Manual),
            false => registration,
        })
    }
}

/// A time in milliseconds, as JavaScript counts.
pub fn duration(ms: f64) -> embed::Result<Duration> {
    Duration::try_from_secs_f64(ms / 1000.0).map_err(|_| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("{ms} ms is not a duration"),
        )
    })
}
