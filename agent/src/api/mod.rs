//! The API under `/v1`: JSON, problem documents, server-sent events.

mod auth;
mod metrics;
pub mod problem;
pub mod server;
pub mod sse;
mod ui;
pub mod v1;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use discover_core::{Error, ErrorKind};
use tokio::time::sleep;

use crate::runtime::lifecycle::Agent;
use problem::Problem;
use server::Phase;
use v1::{all_events, maintenance, read, write};

pub use auth::AccessPolicy;
pub use metrics::Gauges;

/// The description of the API that programs read.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// Tells one run of the agent from the next.
const BOOT: HeaderName = HeaderName::from_static("discoverd-boot");

/// How long what is under way is given when the agent hands over.
const GRACE: Duration = Duration::from_secs(1);

/// The whole API, behind a guard that looks at each request before anything else does.
pub fn router(agent: Arc<Agent>, guard: Arc<AccessPolicy>) -> Router {
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
        .route(
            "/v1/maintenance",
            get(maintenance::held_back).put(maintenance::hold),
        )
        .route("/", get(ui::page))
        .route("/v1/status", get(read::status))
        .route("/v1/health", get(read::health))
        .route("/v1/metrics", get(metrics::metrics))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/openapi.json", get(read::openapi))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(guard, auth::check))
        .layer(from_fn_with_state(agent.clone(), mark))
        .with_state(agent)
}

async fn nothing_here() -> Problem {
    let text = "there is nothing here; the API is described by /v1/openapi.json";
    Error::new(ErrorKind::NotFound, text).into()
}

async fn not_so() -> Problem {
    let text = "this method does nothing here; the API is described by /v1/openapi.json";
    let error = Error::new(ErrorKind::InvalidArgument, text);
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// Says with each answer which run of the agent gave it, and counts.
async fn mark(
    State(agent): State<Arc<Agent>>,
    request: Request,
    next: Next,
) -> Response<axum::body::Body> {
    let mut phase = agent.phase.subscribe();
    // Whoever waits for a change would be cut off when the agent hands over.
    let handed_over = async {
        if phase.wait_for(|p| *p == Phase::HandingOver).await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(GRACE).await;
    };
    let mut response = tokio::select! {
        response = next.run(request) => response,
        () = handed_over => {
            let text = "the agent hands over to its next run; ask again";
            Problem::from(Error::new(ErrorKind::Unavailable, text)).into_response()
        }
    };
    agent.gauges.answered(response.status().as_u16());
    if let Ok(boot) = HeaderValue::from_str(&agent.boot) {
        response.headers_mut().insert(BOOT, boot);
    }
    response
}
