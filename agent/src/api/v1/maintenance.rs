//! Handlers of maintenance mode, and the list of the registrations of this agent.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::extract::Json;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::api::v1::read::json_response;
use crate::net::peer::Peer;
use crate::registry::entry::LivenessSource;
use crate::registry::reconcile::RegistrationStatus;
use crate::registry::state::{InstanceSelector, MaintenanceMode};

type ApiResult = Result<Response<Body>, Problem>;

/// The body of a change of the maintenance mode. Without `service` and `id`, it applies to all registrations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    mode: RequestedMode,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RequestedMode {
    Maintenance,
    Draining,
    Off,
}

/// `GET /v1/registrations`: all registrations of this agent, including the ones that are not published.
pub async fn registrations(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> ApiResult {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let all: Vec<Value> = state.registry.list().iter().map(registration).collect();
    Ok(json_response(json!({ "registrations": all }).to_string()))
}

/// `GET /v1/maintenance`: the modes that are in effect.
pub async fn modes(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> ApiResult {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let all = state.registry.maintenance_rules();
    let all: Vec<Value> = all
        .iter()
        .map(|(whom, mode)| {
            json!({ "mode": mode.name(), "service": whom.service(), "id": whom.id() })
        })
        .collect();
    Ok(json_response(json!({ "held": all }).to_string()))
}

/// `PUT /v1/maintenance`: switches maintenance or draining mode on or off.
pub async fn set_mode(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    Json(request): Json<MaintenanceRequest>,
) -> ApiResult {
    let whom = InstanceSelector::new(request.service.as_deref(), request.id.as_deref())?;
    let mode = match request.mode {
        RequestedMode::Maintenance => Some(MaintenanceMode::Maintenance),
        RequestedMode::Draining => Some(MaintenanceMode::Draining),
        RequestedMode::Off => None,
    };
    let count = state.registry.set_maintenance(whom, mode, peer).await?;
    Ok(json_response(json!({ "instances": count }).to_string()))
}

fn registration(known: &RegistrationStatus) -> Value {
    let instance = &known.instance;
    let kept_by = match known.liveness {
        LivenessSource::Heartbeats => "heartbeats",
        LivenessSource::HealthReports(_) => "reports",
        LivenessSource::AgentCheck(_) => "agent",
    };
    let mut document = json!({
        "state": known.state.name(),
        "note": known.note,
        "error": known.error,
        "since_ms": known.health_age.as_millis() as u64,
        "kept_by": kept_by,
    });
    let fields = json::value(instance);
    for name in ["service", "id", "address", "attributes", "tags"] {
        document[name] = fields[name].clone();
    }
    document
}
