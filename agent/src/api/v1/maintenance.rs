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
use crate::registry::reconcile::Known;
use crate::registry::state::{Mode, Whom};
use crate::registry::table::Keep;

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

/// Whom operators hold back.
pub async fn held_back(State(state): State<Arc<ApiState>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let all = state.registry.held_back();
    let all: Vec<Value> = all
        .iter()
        .map(|(whom, mode)| {
            let mode = match mode {
                Mode::Maintenance => "maintenance",
                Mode::Draining => "draining",
            };
            json!({ "mode": mode, "service": whom.service(), "id": whom.id() })
        })
        .collect();
    Ok(answer(json!({ "held": all }).to_string()))
}

/// Holds back, or lets go.
pub async fn hold(State(state): State<Arc<ApiState>>, Json(holding): Json<Holding>) -> Answer {
    let whom = Whom::new(holding.service.as_deref(), holding.id.as_deref())?;
    let mode = match holding.mode {
        Wanted::Maintenance => Some(Mode::Maintenance),
        Wanted::Draining => Some(Mode::Draining),
        Wanted::Off => None,
    };
    let count = state.registry.hold(whom, mode).await;
    Ok(answer(json!({ "instances": count }).to_string()))
}

fn known(known: &Known) -> Value {
    let instance = &known.instance;
    let kept = match known.keep {
        Keep::Beats => "heartbeats",
        Keep::Reports(_) => "reports",
        Keep::Check(_) => "agent",
    };
    let mut shown = json!({
        "state": known.state.name(),
        "note": known.note,
        "error": known.error,
        "since_ms": known.since.as_millis() as u64,
        "kept_by": kept,
    });
    let whole = json::value(instance);
    for name in ["service", "id", "address", "attributes", "tags"] {
        shown[name] = whole[name].clone();
    }
    shown
}
