//! Handlers that change registrations: register, heartbeat, update, unregister.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use discover_core::{Attributes, Error, OnConflict, Registration};
use serde::Deserialize;
use serde_json::json;

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::extract::{InstancePath, Json};
use crate::api::v1::query::{self, AttributeUpdate, Query};
use crate::health::check::{Check, CheckDefinition, HealthSource};
use crate::net::peer::{Authentication, Peer};
use crate::net::quota::QuotaPermit;
use crate::registry::attribute_change::AttributeChange;
use crate::registry::entry::LivenessSource;
use crate::registry::state::Health;
use crate::registry::{DEFAULT_TTL, RegistrationRequest};

/// `Accept` header of version 0.1 of the library.
const LIBRARY_0_1_ACCEPT: &str = "application/json, text/event-stream";
/// Maximum size of a health check, in bytes.
const MAX_CHECK_BYTES: usize = 16 * 1024;

type ApiResult = Result<Response<Body>, Problem>;

/// The body of a registration. All fields are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegisterRequest {
    address: Option<String>,
    attributes: Attributes,
    tags: Vec<String>,
    ttl_ms: Option<u64>,
    claim: RequestedClaim,
    owner: String,
    check: Option<CheckDefinition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RequestedClaim {
    #[default]
    #[serde(rename = "take_over")]
    Replace,
    #[serde(rename = "put_back")]
    RestoreOnly,
}

/// The body of a heartbeat.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatRequest {
    grant: Option<String>,
    health: Option<Health>,
}

/// The body of an update.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    grant: Option<String>,
    /// Values of attributes, or null to remove one.
    attributes: BTreeMap<String, Option<String>>,
}

/// `PUT …/instances/{id}`: registers an instance.
pub async fn register(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    Extension(authentication): Extension<Authentication>,
    InstancePath((service, id)): InstancePath,
    Json(body): Json<RegisterRequest>,
) -> ApiResult {
    let check = body.check;
    let asked = RegistrationRequest {
        service: service.clone(),
        address: body.address.unwrap_or_else(|| id.clone()),
        id,
        attributes: body.attributes,
        tags: body.tags,
        ttl: body.ttl_ms.map_or(DEFAULT_TTL, Duration::from_millis),
        on_conflict: match body.claim {
            RequestedClaim::Replace => OnConflict::Replace,
            RequestedClaim::RestoreOnly => OnConflict::RestoreOnly,
        },
        owner: body.owner,
        peer: Some(peer),
        liveness: LivenessSource::Heartbeats,
        heartbeat_interval: None,
        health: Health::Passing,
        is_deferred: false,
    };
    let (asked, watch) = match check {
        Some(check) => add_check(&state, (peer, authentication), asked, &check)?,
        None => (asked, None),
    };
    let health = asked.health;
    // A task of its own completes the registration even if the client disconnects.
    let registry = state.registry.clone();
    let checks = state.checks.clone();
    let granted = tokio::spawn(async move {
        let granted = registry.register(asked).await?;
        if let Some((check, permit)) = watch {
            let key = (service, granted.id.clone());
            checks.start(key, granted.grant, check, health, Some(permit));
        }
        Ok::<_, Error>(granted)
    });
    let granted = granted.await.map_err(task_failed)??;
    let text = json!({
        "grant": format!("{:016x}", granted.grant),
        "ttl_ms": granted.ttl.as_millis() as u64,
        "id": granted.id,
        "address": granted.address,
        "state": granted.state.name(),
    });
    Ok(json_response(&text))
}

/// `POST …/heartbeat`: renews a registration and sets the health that the instance reports.
pub async fn heartbeat(
    State(state): State<Arc<ApiState>>,
    InstancePath(key): InstancePath,
    Json(request): Json<HeartbeatRequest>,
) -> ApiResult {
    let grant = parse_grant(request.grant)?;
    let adopted = state
        .registry
        .heartbeat(&key, grant, request.health)
        .await?;
    match adopted.is_empty() {
        true => Ok(no_content()),
        false => Ok(json_response(&json!({ "adopted": adopted }))),
    }
}

/// `PATCH …/instances/{id}`: merges attributes into those of an instance (RFC 7396), or replaces them.
pub async fn update(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    InstancePath(key): InstancePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(request): Json<UpdateRequest>,
) -> ApiResult {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["attributes"])?;
    let grant = parse_grant(request.grant)?;
    let given = request.attributes.iter();
    let given = given.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    let given: Attributes = given.collect();
    // Invalid attributes are refused before the grant is checked.
    Registration::new(key.0.as_str(), 1)?.attributes(given.clone())?;
    let replaces = query
        .attribute_update
        .is_some_and(|mode| mode == AttributeUpdate::Replace);
    let change = match replaces || is_library_0_1(&headers) {
        true => AttributeChange::Replace(given),
        false => AttributeChange::Merge(request.attributes),
    };
    state
        .registry
        .update(Some(peer), &key, grant, change)
        .await?;
    Ok(no_content())
}

/// Returns true for requests of version 0.1 of the library, which sends all attributes without the query option. It is the
/// only client that accepts an event stream as the response to an update.
fn is_library_0_1(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    accept.is_some_and(|accept| accept == LIBRARY_0_1_ACCEPT)
}

/// `DELETE …/instances/{id}`: unregisters an instance.
pub async fn unregister(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    InstancePath(key): InstancePath,
    RawQuery(query): RawQuery,
) -> ApiResult {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["grant"])?;
    let registry = state.registry.clone();
    let removed =
        tokio::spawn(async move { registry.unregister(Some(peer), &key, query.grant).await });
    removed.await.map_err(task_failed)??;
    Ok(no_content())
}

/// Adds the health check of a registration: one that the agent makes, with its permit, or reports of the instance.
fn add_check(
    state: &ApiState,
    (peer, authentication): (Peer, Authentication),
    mut asked: RegistrationRequest,
    check: &CheckDefinition,
) -> discover_core::Result<(RegistrationRequest, Option<(Check, QuotaPermit)>)> {
    let registration = state.registry.registration(&asked)?;
    state.check_policy.admit(check, authentication)?;
    let instance = registration.instance(0);
    let reach = state.check_policy.target_policy(peer);
    asked.health = check.initial();
    match check.resolve(instance.host(), instance.port(), reach)? {
        HealthSource::Agent(resolved) => {
            check_size(&resolved)?;
            asked.liveness = LivenessSource::AgentCheck(check.critical_ttl());
            let key = (asked.service.clone(), registration.instance_id());
            let permit = state.checks.admit(&key, peer)?;
            Ok((asked, Some((resolved, permit))))
        }
        HealthSource::Reports(every) => {
            asked.liveness = LivenessSource::HealthReports(check.critical_ttl());
            asked.heartbeat_interval = Some(every);
            Ok((asked, None))
        }
    }
}

/// Refuses a check whose texts are long.
fn check_size(check: &Check) -> discover_core::Result<()> {
    let size = serde_json::to_vec(check).map_or(usize::MAX, |text| text.len());
    if size > MAX_CHECK_BYTES {
        let text = format!("check has {size} bytes; the limit is {MAX_CHECK_BYTES}");
        return Err(Error::invalid(text));
    }
    Ok(())
}

fn parse_grant(text: Option<String>) -> discover_core::Result<Option<u64>> {
    text.as_deref().map(query::grant).transpose()
}

fn json_response(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    let media_type = HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn task_failed(error: tokio::task::JoinError) -> discover_core::Error {
    let text = "internal error: the task of the request panicked";
    discover_core::Error::caused_by(discover_core::ErrorKind::Internal, text, error)
}
