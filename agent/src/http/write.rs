//! What changes something: register, heartbeat, change, unregister.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{self, RawQuery};
use axum::http::{HeaderValue, Response, StatusCode, header};
use discover_core::{Attributes, Claim};
use serde::Deserialize;
use serde_json::json;

use crate::app::Agent;
use crate::health::Declared;
use crate::health::machine::State;
use crate::http::extract::{Json, Place};
use crate::http::problem::Problem;
use crate::http::query::{self, Query};
use crate::registry::{Asked, DEFAULT_TTL};

type Answer = Result<Response<Body>, Problem>;

/// The body of a registration. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registering {
    address: Option<String>,
    attributes: Attributes,
    tags: Vec<String>,
    ttl_ms: Option<u64>,
    claim: Wanted,
    owner: String,
    check: Option<Declared>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    #[default]
    TakeOver,
    PutBack,
}

/// The body of what concerns a registration that is there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    grant: Option<String>,
}

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    grant: Option<String>,
    attributes: Attributes,
}

/// The body of what an operator says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    grant: Option<String>,
    state: Option<State>,
}

/// Makes an instance visible.
pub async fn register(
    extract::State(agent): extract::State<Arc<Agent>>,
    Place((service, id)): Place,
    Json(body): Json<Registering>,
) -> Answer {
    let asked = Asked {
        service,
        address: body.address.unwrap_or_else(|| id.clone()),
        id,
        attributes: body.attributes,
        tags: body.tags,
        ttl: body.ttl_ms.map_or(DEFAULT_TTL, Duration::from_millis),
        claim: match body.claim {
            Wanted::TakeOver => Claim::TakeOver,
            Wanted::PutBack => Claim::PutBack,
        },
        owner: body.owner,
        check: body
            .check
            .map(|check| check.read(agent.allows_exec))
            .transpose()?,
        ours: false,
    };
    // To the end, though whoever asked may be gone: half a registration helps nobody.
    let registry = agent.registry.clone();
    let granted = tokio::spawn(async move { registry.register(asked).await });
    let granted = granted.await.map_err(crashed)??;
    let text = json!({
        "grant": format!("{:016x}", granted.grant),
        "ttl_ms": granted.ttl.as_millis() as u64,
        "id": granted.id,
        "address": granted.address,
    });
    let mut response = Response::new(Body::from(text.to_string()));
    let form = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    Ok(response)
}

/// Says that the instance lives.
pub async fn heartbeat(
    extract::State(agent): extract::State<Arc<Agent>>,
    Place(key): Place,
    Json(about): Json<About>,
) -> Answer {
    agent.registry.heartbeat(&key, grant(about.grant)?)?;
    Ok(done())
}

/// Replaces the attributes.
pub async fn update(
    extract::State(agent): extract::State<Arc<Agent>>,
    Place(key): Place,
    Json(changed): Json<Changed>,
) -> Answer {
    let grant = grant(changed.grant)?;
    agent
        .registry
        .update(&key, grant, changed.attributes)
        .await?;
    Ok(done())
}

/// Says how an instance is, whatever its check says; or lets its check say it again.
pub async fn health(
    extract::State(agent): extract::State<Arc<Agent>>,
    Place(key): Place,
    Json(put): Json<Put>,
) -> Answer {
    let grant = grant(put.grant)?;
    agent.registry.put(&key, grant, put.state).await?;
    Ok(done())
}

/// Takes an instance away.
pub async fn unregister(
    extract::State(agent): extract::State<Arc<Agent>>,
    Place(key): Place,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["grant"])?;
    let registry = agent.registry.clone();
    let removed = tokio::spawn(async move { registry.unregister(&key, query.grant).await });
    removed.await.map_err(crashed)??;
    Ok(done())
}

fn grant(text: Option<String>) -> discover_core::Result<Option<u64>> {
    text.as_deref().map(query::grant).transpose()
}

fn done() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn crashed(error: tokio::task::JoinError) -> discover_core::Error {
    let text = "a bug in the agent ended the call";
    discover_core::Error::caused_by(discover_core::Kind::Internal, text, error)
}
