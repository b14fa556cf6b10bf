//! Handlers that read: services, events, status, health and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use discover_core::{ConnectionState, Error, ErrorKind, ServiceName, ServiceSet, Snapshot};
use serde_json::json;
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::api::sse;
use crate::api::state::ApiState;
use crate::api::v1::extract::ServicePath;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::net::peer::Peer;
use crate::runtime::exposition::MetricsFormat;
use crate::service_cache::CachedService;
use crate::store::StoreFailure;

/// The OpenAPI description of the API.
const OPENAPI: &str = include_str!("../../../openapi.json");

type ApiResult = Result<Response<Body>, Problem>;

/// Limit on the time that a read waits for the first state of a service that was not watched before.
const FIRST_STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /v1/services`: the names of all services. If the store cannot list them, the services that are registered
/// with this agent.
pub async fn services(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> ApiResult {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let names = state.services().await?;
    let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
    Ok(json_response(json!({ "services": names }).to_string()))
}

/// `GET /v1/services/{service}`: the instances of a service. With `index`, waits until the state differs from the
/// one with this index, up to the time `wait`.
pub async fn service(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    ServicePath(service): ServicePath,
    RawQuery(query): RawQuery,
) -> ApiResult {
    let allowed = ["attribute", "tag", "wait", "index"];
    let query = Query::parse(query.as_deref().unwrap_or_default(), &allowed)?;
    let cached = state.service_cache.open(&service, Some(peer))?;
    let set = filtered(&cached, &query);
    let wait = query.wait.unwrap_or(Duration::ZERO);
    if let Some(index) = &query.index {
        // The response is the same whether the state has changed or the time has passed.
        let _ = timeout(wait, until_other_than(&cached, index)).await;
    }
    let now = first_state(&set).await?;
    let index = cached.index(&now);
    let encode = || json::set(service.as_str(), &cached, &now, &index);
    let text = match is_filtered(&query) {
        true => Bytes::from(encode()),
        false => cached.document(&now, encode),
    };
    let mut response = json_response(text);
    if let Ok(index) = HeaderValue::from_str(&index) {
        response.headers_mut().insert("discoverd-index", index);
    }
    Ok(response)
}

/// `GET /v1/services/{service}/leader`: the leader, which is the oldest online instance.
pub async fn leader(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    ServicePath(service): ServicePath,
    RawQuery(query): RawQuery,
) -> ApiResult {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["attribute", "tag"])?;
    let cached = state.service_cache.open(&service, Some(peer))?;
    let now = first_state(&filtered(&cached, &query)).await?;
    let not_found = || {
        Error::new(
            ErrorKind::NotFound,
            format!("{service} has no instance online"),
        )
    };
    let leader = now.leader().ok_or_else(not_found)?;
    Ok(json_response(json::instance(&cached, leader).to_string()))
}

/// `GET /v1/services/{service}/events`: the event stream of a service.
pub async fn events(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    ServicePath(service): ServicePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["attribute", "tag"])?;
    let cached = state.service_cache.open(&service, Some(peer))?;
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    // The history contains only unfiltered states, so a filtered stream does not resume.
    let is_filtered = is_filtered(&query);
    let subset = is_filtered.then(|| filtered(&cached, &query));
    let sent = last_id
        .filter(|_| !is_filtered)
        .and_then(|last_id| cached.state_at(last_id));
    let stream = sse::stream(cached, subset, sent);
    let stream = state.streams.admit(peer, stream)?;
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET /v1/status`: the version of the agent, its store and its counters.
pub async fn status(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> ApiResult {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let connection = state.client.connection();
    let (registrations, _) = state.registry.counts();
    let text = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "boot": state.identity.boot,
        "store": state.client.uri().to_string(),
        "address": state.identity.address.to_string(),
        "uptime_ms": state.identity.start.elapsed().as_millis() as u64,
        "connection": connection.name(),
        "error": connection.error().map(json::problem),
        "registrations": registrations,
        "watched": state.service_cache.len(),
        "streams": state.streams.open(),
    });
    Ok(json_response(text.to_string()))
}

/// `GET /v1/health`: the state of the connection to the store. The status is 503 if the connection is lost.
pub async fn health(State(state): State<Arc<ApiState>>) -> ApiResult {
    let connection = state.client.connection();
    let mut response = json_response(json!({ "connection": connection.name() }).to_string());
    if matches!(connection, ConnectionState::Lost(_)) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// `GET /v1/metrics` and `GET /metrics`: the metrics of all components.
///
/// # Errors
///
/// Fails with [`ErrorKind::Internal`] if a component fails to write its metrics.
pub async fn metrics(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> ApiResult {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = MetricsFormat::negotiate(accept.unwrap_or_default());
    let text = state.exposition.encode(format);
    let text =
        text.map_err(|e| Error::caused_by(ErrorKind::Internal, "cannot encode the metrics", e))?;
    let mut response = Response::new(Body::from(text));
    let media_type = HeaderValue::from_static(format.content_type());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// `GET /v1/openapi.json`: the OpenAPI description of the API.
pub async fn openapi() -> Response<Body> {
    json_response(OPENAPI.to_owned())
}

fn is_filtered(query: &Query) -> bool {
    !query.attributes.is_empty() || !query.tags.is_empty()
}

fn filtered(cached: &CachedService, query: &Query) -> ServiceSet {
    if !is_filtered(query) {
        return cached.set.clone();
    }
    let attributes = query.attributes.clone();
    cached.set.filter(attributes, query.tags.iter().cloned())
}

/// Waits until the index of the set differs from `index`.
async fn until_other_than(cached: &CachedService, index: &str) {
    let mut cursor = cached.set.cursor();
    while cached.index(&cached.set.snapshot()) == index {
        if !cursor.changed().await {
            return;
        }
    }
}

/// Returns the current snapshot, after the store has reported a first one.
async fn first_state(set: &ServiceSet) -> Result<Arc<Snapshot>, Problem> {
    let now = set.snapshot();
    if now.is_ready() {
        return Ok(now);
    }
    let listed = set.wait(0, FIRST_STATE_TIMEOUT).await;
    listed.map_err(StoreFailure::wrap)?;
    Ok(set.snapshot())
}

pub(super) fn json_response(text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
