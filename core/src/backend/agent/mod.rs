//! Backend that uses the HTTP API of an agent, `discoverd`, usually on the same host.

mod api;
mod config;
mod connection;
mod loss_stream;
mod problem;
mod reducer;
mod sse;
mod view_limit;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::{self, BoxStream, StreamExt};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    Attributes, ConnectionState, Grant, Metrics, OnConflict, Registration, ServiceName,
    SharedAttributes, View,
};
use connection::{AgentConnection, CATALOG_LIMITS, CallLimits};
use loss_stream::LossStream;

pub use api::AgentApi;
pub(crate) use config::AgentConfig;

/// Backend of one client that goes through an agent.
pub(crate) struct AgentBackend {
    connection: Arc<AgentConnection>,
    /// Identifies the registrations of this client to the agent.
    owner: String,
    losses: LossStream,
    /// Attributes that registrations adopted in the agent, with the paths of their instances.
    adopted: broadcast::Sender<(String, Attributes)>,
}

/// Number of adoptions that a registration may lag behind. The next heartbeat repeats one that it missed.
const MAX_ADOPTED: usize = 64;

impl AgentBackend {
    pub(crate) fn new(config: AgentConfig) -> Result<AgentBackend> {
        let connection = AgentConnection::new(config)?;
        let owner = format!("{:016x}", fastrand::u64(..));
        Ok(AgentBackend {
            losses: LossStream::new(connection.clone(), owner.clone()),
            connection,
            owner,
            adopted: broadcast::Sender::new(MAX_ADOPTED),
        })
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
        let answer = self
            .connection
            .call(Method::PUT, &path(r), Some(&body))
            .await?;
        let grant = answer["grant"]
            .as_str()
            .and_then(|id| u64::from_str_radix(id, 16).ok());
        let ttl = answer["ttl_ms"].as_u64().map(Duration::from_millis);
        match (grant, ttl) {
            (Some(id), Some(ttl)) => Ok(Grant { id, ttl }),
            _ => {
                let text = format!("{}: the response has no grant", self.connection.peer());
                Err(Error::new(ErrorKind::Internal, text))
            }
        }
    }

    async fn own_address(&self) -> Result<IpAddr> {
        let status = self
            .connection
            .call(Method::GET, "/v1/status", None)
            .await?;
        let address = status["address"].as_str().and_then(|ip| ip.parse().ok());
        address.ok_or_else(|| {
            let peer = self.connection.peer();
            let cause = "the agent does not know the address of this host";
            let remedy = "set the host of the registration, or start the agent with --advertise";
            peer.refusal(ErrorKind::Unavailable, cause, remedy)
        })
    }
}

impl Backend for AgentBackend {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        let asked = self.connection.call(Method::GET, "/v1/status", None);
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
            let instance = path(r);
            let path = format!("{instance}/heartbeat");
            let body = json!({ "grant": hex(grant) });
            let limits = CallLimits::renewal(grant.ttl);
            let answer = self
                .connection
                .call_within(Method::POST, &path, Some(&body), limits)
                .await?;
            if let Ok(adopted) = Attributes::deserialize(&answer["adopted"]) {
                // Without a receiver, the registration has ended.
                let _ = self.adopted.send((instance, adopted));
            }
            Ok(())
        }
        .boxed()
    }

    /// Replaces the attributes. The agent has no request for an update without changes, so both use the same one. An agent
    /// of version 0.1 ignores the query option and always replaces them.
    fn update<'a>(
        &'a self,
        r: &'a Registration,
        grant: Grant,
        _: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let path = format!("{}?attributes=replace", path(r));
            let body = json!({ "grant": hex(grant), "attributes": r.attributes });
            self.connection
                .call(Method::PATCH, &path, Some(&body))
                .await?;
            Ok(())
        }
        .boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move {
            let path = format!("{}?grant={}", path(r), hex(grant));
            self.connection.call(Method::DELETE, &path, None).await?;
            Ok(())
        }
        .boxed()
    }

    /// Resolves when the agent reports the loss, and when it restarts, because a restarted agent may not know the
    /// registration.
    fn lease_lost<'a>(&'a self, _: &'a Registration, grant: Grant) -> BoxFuture<'a, Error> {
        let peer = self.connection.peer();
        let mut boot = self.connection.boot.subscribe();
        let restarted = async move {
            match boot.changed().await {
                Ok(()) => Error::new(ErrorKind::LeaseLost, format!("{peer}: the agent restarted")),
                Err(_) => pending().await,
            }
        };
        async move {
            tokio::select! {
                error = restarted => error,
                error = self.losses.wait(grant.id) => error,
            }
        }
        .boxed()
    }

    /// The agent reports what a registration adopted in the responses to its heartbeats.
    fn shared_attributes(&self, r: &Registration) -> BoxStream<'static, SharedAttributes> {
        let start = (self.adopted.subscribe(), path(r));
        stream::unfold(start, async |(mut adopted, own)| {
            loop {
                match adopted.recv().await {
                    Ok((path, attributes)) if path == own => {
                        let shared = SharedAttributes::Present(attributes);
                        return Some((shared, (adopted, own)));
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return pending().await,
                }
            }
        })
        .boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        watch::watch(self.connection.clone(), service.clone(), last)
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        async move {
            let answer = self
                .connection
                .call_within(Method::GET, "/v1/services", None, CATALOG_LIMITS)
                .await?;
            let services = answer["services"].as_array().into_iter().flatten();
            let names = services.filter_map(Value::as_str);
            names.map(ServiceName::new).collect()
        }
        .boxed()
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        let state = self.connection.state.subscribe();
        stream::unfold(state, |mut state| async move {
            state.changed().await.ok()?;
            let now = state.borrow_and_update().clone();
            Some((now, state))
        })
        .boxed()
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            reconnects: self.connection.restarts.load(Ordering::Relaxed),
            ..Metrics::default()
        }
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.own_address().boxed()
    }
}

/// Returns the path of an instance in the API.
fn path(r: &Registration) -> String {
    let id = r.instance_id();
    let id = utf8_percent_encode(&id, NON_ALPHANUMERIC);
    format!("/v1/services/{}/instances/{id}", r.service)
}

fn hex(grant: Grant) -> String {
    format!("{:016x}", grant.id)
}
