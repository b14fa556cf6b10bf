//! What this agent answers for, and what operators hold back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::extract::Json;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::api::v1::read::answer;
use crate::registry::reconcile::RegistrationStatus;
use crate::registry::state::{InstanceSelector, MaintenanceMode};
use crate::registry::table::LivenessSource;

type Answer = Result<Response<Body>, Problem>;

/// Who is held back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    mode: Wanted,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    Maintenance,
    Draining,
    Off,
}

/// All that is registered here, seen by others or not.
pub async fn registrations(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> Answer {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let all: Vec<Value> = state.registry.list().iter().map(known).collect();
    Ok(answer(json!({ "registrations": all }).to_string()))
}

/// InstanceSelector operators hold back.
pub async fn held_back(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let all = state.registry.maintenance_rules();
    let all: Vec<Value> = all
        .iter()
        .map(|(whom, mode)| {
            let mode = match mode {
                MaintenanceMode::Maintenance => "maintenance",
                MaintenanceMode::Draining => "draining",
            };
            json!({ "mode": mode, "service": whom.service(), "id": whom.id() })
        })
        .collect();
    Ok(answer(json!({ "held": all }).to_string()))
}

/// Holds back, or lets go.
pub async fn hold(State(state): State<Arc<ApiState>>, Json(holding): Json<Holding>) -> Answer {
    let whom = InstanceSelector::new(holding.service.as_deref(), holding.id.as_deref())?;
    let mode = match holding.mode {
        Wanted::Maintenance => Some(MaintenanceMode::Maintenance),
        Wanted::Draining => Some(MaintenanceMode::Draining),
        Wanted::Off => None,
    };
    let count = state.registry.set_maintenance(whom, mode).await;
    Ok(answer(json!({ "instances": count }).to_string()))
}

fn known(known: &RegistrationStatus) -> Value {
    let instance = &known.instance;
    let kept = match known.liveness {
        LivenessSource::Heartbeats => "heartbeats",
        LivenessSource::HealthReports(_) => "reports",
        LivenessSource::AgentCheck(_) => "agent",
    };
    let mut shown = json!({
        "state": known.state.name(),
        "note": known.note,
        "error": known.error,
        "since_ms": known.health_age.as_millis() as u64,
        "kept_by": kept,
    });
    let whole = json::value(instance);
    for name in ["service", "id", "address", "attributes", "tags"] {
        shown[name] = whole[name].clone();
    }
    shown
}
