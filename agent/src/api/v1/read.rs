//! What may be asked without changing anything.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use discover_core::{ConnectionState, Error, ErrorKind, ServiceName, ServiceSet, Snapshot};
use serde_json::json;
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::api::sse;
use crate::api::state::ApiState;
use crate::api::v1::extract::Service;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::service_cache::CachedService;

/// The description of the API, for programs.
const OPENAPI: &str = include_str!("../../../openapi.json");

type Answer = Result<Response<Body>, Problem>;

/// How long a read waits for a set that was not open before.
const FIRST: Duration = Duration::from_secs(5);

/// The names of all services; of those known here, where the store cannot list them.
pub async fn services(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let names = state.services().await?;
    let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
    Ok(answer(json!({ "services": names }).to_string()))
}

/// One service: now, or once it is other than it was.
pub async fn service(
    State(state): State<Arc<ApiState>>,
    Service(service): Service,
    RawQuery(query): RawQuery,
) -> Answer {
    let allowed = ["attribute", "tag", "wait", "index"];
    let query = Query::parse(query.as_deref().unwrap_or_default(), &allowed)?;
    let kept = state.service_cache.open(&service)?;
    let set = narrowed(&kept, &query);
    let wait = query.wait.unwrap_or(Duration::ZERO);
    if let Some(index) = &query.index {
        // Nothing else happened in this time: that is an answer, too.
        let _ = timeout(wait, other_than(&kept, index)).await;
    }
    let now = ready(&set).await?;
    let index = kept.index(&now);
    let mut response = answer(json::set(service.as_str(), &now, &index));
    if let Ok(index) = HeaderValue::from_str(&index) {
        response.headers_mut().insert("discoverd-index", index);
    }
    Ok(response)
}

/// The oldest instance online.
pub async fn leader(
    State(state): State<Arc<ApiState>>,
    Service(service): Service,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["attribute", "tag"])?;
    let kept = state.service_cache.open(&service)?;
    let now = ready(&narrowed(&kept, &query)).await?;
    let none = || {
        Error::new(
            ErrorKind::NotFound,
            format!("{service} has no instance online"),
        )
    };
    let leader = now.leader().ok_or_else(none)?;
    Ok(answer(json::instance(leader).to_string()))
}

/// One service as a stream of events.
pub async fn events(
    State(state): State<Arc<ApiState>>,
    Service(service): Service,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["attribute", "tag"])?;
    let kept = state.service_cache.open(&service)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    // A filter makes states of its own, which are not kept.
    let is_whole = query.attributes.is_empty() && query.tags.is_empty();
    let part = (!is_whole).then(|| narrowed(&kept, &query));
    let seen = last
        .filter(|_| is_whole)
        .and_then(|last| kept.state_at(last));
    let stream = sse::stream(kept, part, seen);
    let stream = state.streams.admit(stream)?;
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    let form = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, form);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What this agent is, and how it fares.
pub async fn status(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> Answer {
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
    Ok(answer(text.to_string()))
}

/// Whether the agent can do its work.
pub async fn health(State(state): State<Arc<ApiState>>) -> Answer {
    let connection = state.client.connection();
    let mut response = answer(json!({ "connection": connection.name() }).to_string());
    if matches!(connection, ConnectionState::Lost(_)) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// Returns the description of the API.
pub async fn openapi() -> Response<Body> {
    answer(OPENAPI.to_owned())
}

fn narrowed(kept: &CachedService, query: &Query) -> ServiceSet {
    if query.attributes.is_empty() && query.tags.is_empty() {
        return kept.set.clone();
    }
    let attributes = query.attributes.clone();
    kept.set.filter(attributes, query.tags.iter().cloned())
}

/// Waits until the set is another than this index says.
async fn other_than(kept: &CachedService, index: &str) {
    let mut cursor = kept.set.cursor();
    while kept.index(&kept.set.snapshot()) == index {
        if !cursor.changed().await {
            return;
        }
    }
}

/// The set, once anything was heard of it.
async fn ready(set: &ServiceSet) -> Result<Arc<Snapshot>, Problem> {
    let now = set.snapshot();
    if now.is_ready() {
        return Ok(now);
    }
    set.wait(0, FIRST).await?;
    Ok(set.snapshot())
}

pub(super) fn answer(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    let form = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, form);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
