//! What changes something: register, heartbeat, change, unregister.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use discover_core::{Attributes, Error, OnConflict, Registration};
use serde::Deserialize;
use serde_json::json;

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::extract::{Json, Place};
use crate::api::v1::query::{self, Query};
use crate::health::check::{CheckDefinition, HealthSource};
use crate::net::peer::Peer;
use crate::registry::state::Health;
use crate::registry::table::LivenessSource;
use crate::registry::{DEFAULT_TTL, RegisterRequest};

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
    check: Option<CheckDefinition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    #[default]
    #[serde(rename = "take_over")]
    Replace,
    #[serde(rename = "put_back")]
    RestoreOnly,
}

/// The body of a heartbeat.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beat {
    grant: Option<String>,
    health: Option<Health>,
}

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    grant: Option<String>,
    attributes: Attributes,
}

/// Makes an instance visible.
pub async fn register(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    Place((service, id)): Place,
    Json(body): Json<Registering>,
) -> Answer {
    let check = body.check;
    let asked = RegisterRequest {
        service: service.clone(),
        address: body.address.unwrap_or_else(|| id.clone()),
        id,
        attributes: body.attributes,
        tags: body.tags,
        ttl: body.ttl_ms.map_or(DEFAULT_TTL, Duration::from_millis),
        on_conflict: match body.claim {
            Wanted::Replace => OnConflict::Replace,
            Wanted::RestoreOnly => OnConflict::RestoreOnly,
        },
        owner: body.owner,
        liveness: LivenessSource::Heartbeats,
        heartbeat_interval: None,
        health: Health::Passing,
        is_deferred: false,
    };
    let (asked, watch) = match check {
        Some(check) => checked(&state, peer, asked, &check)?,
        None => (asked, None),
    };
    let health = asked.health;
    // To the end, though whoever asked may be gone: half a registration helps nobody.
    let registry = state.registry.clone();
    let checks = state.checks.clone();
    let granted = tokio::spawn(async move {
        let granted = registry.register(asked).await?;
        if let Some(HealthSource::Agent(check)) = watch {
            checks.start((service, granted.id.clone()), granted.grant, check, health);
        }
        Ok::<_, Error>(granted)
    });
    let granted = granted.await.map_err(crashed)??;
    let text = json!({
        "grant": format!("{:016x}", granted.grant),
        "ttl_ms": granted.ttl.as_millis() as u64,
        "id": granted.id,
        "address": granted.address,
        "state": granted.state.name(),
    });
    let mut response = Response::new(Body::from(text.to_string()));
    let form = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    Ok(response)
}

/// Says that the instance lives.
pub async fn heartbeat(
    State(state): State<Arc<ApiState>>,
    Place(key): Place,
    Json(beat): Json<Beat>,
) -> Answer {
    let grant = grant(beat.grant)?;
    state.registry.heartbeat(&key, grant, beat.health).await?;
    Ok(done())
}

/// Replaces the attributes.
pub async fn update(
    State(state): State<Arc<ApiState>>,
    Place(key): Place,
    Json(changed): Json<Changed>,
) -> Answer {
    let grant = grant(changed.grant)?;
    // What nobody may have is refused whoever holds it, and if nobody does.
    Registration::new(key.0.as_str(), 1)?.attributes(changed.attributes.clone())?;
    state
        .registry
        .update(&key, grant, changed.attributes)
        .await?;
    Ok(done())
}

/// Takes an instance away.
pub async fn unregister(
    State(state): State<Arc<ApiState>>,
    Place(key): Place,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["grant"])?;
    let registry = state.registry.clone();
    let removed = tokio::spawn(async move { registry.unregister(&key, query.grant).await });
    removed.await.map_err(crashed)??;
    Ok(done())
}

/// With what says that it lives: a check of ours, or its own word.
fn checked(
    state: &ApiState,
    peer: Peer,
    mut asked: RegisterRequest,
    check: &CheckDefinition,
) -> discover_core::Result<(RegisterRequest, Option<HealthSource>)> {
    let registration = state.registry.registration(&asked)?;
    // Whoever registers again is looked at in place of itself.
    let key = (asked.service.clone(), registration.instance_id());
    state
        .check_policy
        .admit(check, state.checks.count_except(&key))?;
    let instance = registration.instance(0);
    let reach = state.check_policy.target_policy(peer);
    let watch = check.resolve(instance.host(), instance.port(), reach)?;
    (asked.liveness, asked.heartbeat_interval) = match watch {
        HealthSource::Agent(_) => (LivenessSource::AgentCheck(check.critical_ttl()), None),
        HealthSource::Reports(every) => (
            LivenessSource::HealthReports(check.critical_ttl()),
            Some(every),
        ),
    };
    asked.health = check.initial();
    Ok((asked, Some(watch)))
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
    discover_core::Error::caused_by(discover_core::ErrorKind::Internal, text, error)
}
