//! The HTTP API under `/v1`: JSON, problem documents and server-sent events.

mod auth;
mod authority;
mod connection;
pub mod metrics;
pub mod problem;
pub mod server;
pub mod sse;
pub mod state;
pub mod stream_limit;
mod ui;
pub mod unread;
pub mod v1;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use discover_core::{Error, ErrorKind};
use tokio::time::{Instant, sleep};

use crate::runtime::phase::until_handing_over;
use problem::Problem;
use state::ApiState;
use v1::{all_events, losses, maintenance, read, write};

pub use auth::AccessPolicy;

/// The response header with [`AgentIdentity::boot`](state::AgentIdentity::boot).
const BOOT_HEADER: HeaderName = HeaderName::from_static("discoverd-boot");

/// Time that requests get to finish when the agent hands over.
const HAND_OVER_GRACE_TIME: Duration = Duration::from_secs(1);
/// The route label of requests that match no route.
const UNKNOWN_ROUTE: &str = "unknown";

/// Creates the router of one listener. A request that the access policy refuses reaches no handler.
pub fn router(state: Arc<ApiState>, policy: Arc<AccessPolicy>) -> Router {
    Router::new()
        .route("/v1/services", get(read::services))
        .route("/v1/services/{service}", get(read::service))
        .route("/v1/services/{service}/leader", get(read::leader))
        .route("/v1/services/{service}/events", get(read::events))
        .route(
            "/v1/services/{service}/instances/{id}",
            put(write::register)
                .patch(write::update)
                .delete(write::unregister),
        )
        .route(
            "/v1/services/{service}/instances/{id}/heartbeat",
            post(write::heartbeat),
        )
        .route("/v1/events", get(all_events::events))
        .route("/v1/registrations", get(maintenance::registrations))
        .route("/v1/registrations/events", get(losses::events))
        .route(
            "/v1/maintenance",
            get(maintenance::modes).put(maintenance::set_mode),
        )
        .route("/", get(ui::page))
        .route("/v1/status", get(read::status))
        .route("/v1/health", get(read::health))
        .route("/v1/metrics", get(read::metrics))
        .route("/metrics", get(read::metrics))
        .route("/v1/openapi.json", get(read::openapi))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.unread.clone(), unread::limit))
        .layer(from_fn_with_state(policy, auth::check))
        .layer(from_fn_with_state(state.clone(), instrument))
        .with_state(state)
}

async fn not_found() -> Problem {
    let text = "no such resource; /v1/openapi.json describes the API";
    Error::new(ErrorKind::NotFound, text).into()
}

async fn method_not_allowed() -> Problem {
    let text = "the resource does not support this method; /v1/openapi.json describes the API";
    let error = Error::new(ErrorKind::InvalidArgument, text);
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// Adds the header [`BOOT_HEADER`] to each response and records the response in the metrics. When the agent hands
/// over, ends requests that wait for a change.
async fn instrument(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response<axum::body::Body> {
    let start = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut phase = state.phase.clone();
    let grace_expired = async {
        until_handing_over(&mut phase).await;
        sleep(HAND_OVER_GRACE_TIME).await;
    };
    let mut response = tokio::select! {
        response = next.run(request) => response,
        () = grace_expired => {
            let text = "the agent hands over to its next process; repeat the request";
            Problem::from(Error::new(ErrorKind::Unavailable, text)).into_response()
        }
    };
    let route = route.as_ref().map_or(UNKNOWN_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    let metrics = &state.http_metrics;
    metrics.record(
        known_method(method.as_str()),
        route,
        status,
        start.elapsed(),
    );
    if let Ok(boot) = HeaderValue::from_str(&state.identity.boot) {
        response.headers_mut().insert(BOOT_HEADER, boot);
    }
    response
}

/// Returns the method if the API uses it, otherwise `other`: clients must not be able to create metric series.
fn known_method(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE" => method,
        _ => "other",
    }
}
