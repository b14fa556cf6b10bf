//! Through the agent on this host, `discoverd`: its HTTP API as a backend.

mod api;
mod config;
mod http_client;
mod problem;
mod reducer;
mod sse;
mod tls;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::{self, BoxStream, StreamExt};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ConnectionState, Grant, Metrics, OnConflict, Registration, ServiceName, View};
use http_client::HttpClient;

pub use api::AgentApi;
pub(crate) use config::Config;

/// See the module.
pub(crate) struct Agent {
    link: Arc<HttpClient>,
    /// Tells the agent which of its registrations are this client's.
    owner: String,
}

impl Agent {
    pub(crate) fn new(config: Config) -> Agent {
        Agent {
            link: HttpClient::new(config),
            owner: format!("{:016x}", fastrand::u64(..)),
        }
    }

    async fn put(&self, r: &Registration, claim: OnConflict) -> Result<Grant> {
        let claim = match claim {
            OnConflict::Replace => "take_over",
            OnConflict::RestoreOnly => "put_back",
        };
        let ttl = r.ttl.unwrap_or(Duration::from_secs(10));
        let body = json!({
            "address": r.address(),
            "attributes": r.attributes,
            "tags": r.tags,
            "ttl_ms": ttl.as_millis() as u64,
            "claim": claim,
            "owner": self.owner,
        });
        let answer = self.link.call(Method::PUT, &path(r), Some(&body)).await?;
        let grant = answer["grant"]
            .as_str()
            .and_then(|id| u64::from_str_radix(id, 16).ok());
        let ttl = answer["ttl_ms"].as_u64().map(Duration::from_millis);
        match (grant, ttl) {
            (Some(id), Some(ttl)) => Ok(Grant { id, ttl }),
            _ => Err(Error::new(ErrorKind::Internal, "the agent granted nothing")),
        }
    }

    async fn own_address(&self) -> Result<IpAddr> {
        let status = self.link.call(Method::GET, "/v1/status", None).await?;
        let address = status["address"].as_str().and_then(|ip| ip.parse().ok());
        address.ok_or_else(|| {
            let text = "the agent does not know this host's address; give a host, or start the \
                        agent with --advertise";
            Error::new(ErrorKind::Unavailable, text)
        })
    }
}

impl Backend for Agent {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        let asked = self.link.call(Method::GET, "/v1/status", None);
        asked.map(|answer| answer.map(drop)).boxed()
    }

    fn register<'a>(
        &'a self,
        r: &'a Registration,
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>> {
        self.put(r, claim).boxed()
    }

    fn heartbeat<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let path = format!("{}/heartbeat", path(r));
            let body = json!({ "grant": hex(grant) });
            self.link.call(Method::POST, &path, Some(&body)).await?;
            Ok(())
        }
        .boxed()
    }

    /// The agent has no word for what says nothing new, so it takes that for an update, too.
    fn update<'a>(
        &'a self,
        r: &'a Registration,
        grant: Grant,
        _: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let body = json!({ "grant": hex(grant), "attributes": r.attributes });
            self.link.call(Method::PATCH, &path(r), Some(&body)).await?;
            Ok(())
        }
        .boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let path = format!("{}?grant={}", path(r), hex(grant));
            self.link.call(Method::DELETE, &path, None).await?;
            Ok(())
        }
        .boxed()
    }

    /// An agent that was started again may know nothing of it; the rest it says in `heartbeat`.
    fn lease_lost<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Error> {
        let mut boot = self.link.boot.subscribe();
        async move {
            match boot.changed().await {
                Ok(()) => Error::new(ErrorKind::LeaseLost, "the agent was started again"),
                Err(_) => pending().await,
            }
        }
        .boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        watch::watch(self.link.clone(), service.clone(), last)
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        async move {
            let answer = self.link.call(Method::GET, "/v1/services", None).await?;
            let services = answer["services"].as_array().into_iter().flatten();
            let names = services.filter_map(Value::as_str);
            names.map(ServiceName::new).collect()
        }
        .boxed()
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        let state = self.link.state.subscribe();
        stream::unfold(state, |mut state| async move {
            state.changed().await.ok()?;
            let now = state.borrow_and_update().clone();
            Some((now, state))
        })
        .boxed()
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            reconnects: self.link.restarts.load(Ordering::Relaxed),
            ..Metrics::default()
        }
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.own_address().boxed()
    }
}

/// The place of an instance in the API.
fn path(r: &Registration) -> String {
    let id = r.instance_id();
    let id = utf8_percent_encode(&id, NON_ALPHANUMERIC);
    format!("/v1/services/{}/instances/{id}", r.service)
}

fn hex(grant: Grant) -> String {
    format!("{:016x}", grant.id)
}
