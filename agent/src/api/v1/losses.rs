//! The stream of the registrations that one owner loses, by which a client of the agent learns at once what a heartbeat
//! would tell it later.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use discover_core::Error;
use futures_util::stream;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::net::peer::Peer;
use crate::registry::losses::Loss;

/// Interval of keepalive comments.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// `GET /v1/registrations/events?owner=…`: first `current` with the grants of the owner, then `lost` for each that ends
/// without its request.
///
/// # Errors
///
/// Fails if `owner` is missing, and with [`ErrorKind::Resource`](discover_core::ErrorKind::Resource) if the maximum number
/// of streams is open.
pub async fn events(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, Problem> {
    let query = Query::parse(query.as_deref().unwrap_or_default(), &["owner"])?;
    let owner = query.owner.filter(|owner| !owner.is_empty());
    let owner = owner.ok_or_else(|| {
        Error::invalid("owner is missing; set it to the owner of the registrations")
    })?;
    state.registry.check_owner(&owner)?;
    // A loss between the two is reported although its grant is missing in the list.
    let losses = state.registry.losses().subscribe(&owner);
    let grants = state.registry.grants_of(&owner);
    let grants: Vec<String> = grants.iter().map(|grant| format!("{grant:016x}")).collect();
    let first = format!("event: current\ndata: {}\n\n", json!({ "grants": grants }));
    let events = stream::unfold((Some(first), losses), |(first, mut losses)| async move {
        let text = match first {
            Some(first) => first,
            None => next(&mut losses).await?,
        };
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), (None, losses)))
    });
    let events = state.streams.admit(peer, Box::pin(events))?;
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Returns the next event or keepalive comment, or `None` if the client is too slow.
async fn next(losses: &mut broadcast::Receiver<Loss>) -> Option<String> {
    match timeout(KEEPALIVE_INTERVAL, losses.recv()).await {
        Err(_) => Some(": keepalive\n\n".to_owned()),
        Ok(loss) => loss.ok().map(|loss| event(&loss)),
    }
}

fn event(loss: &Loss) -> String {
    let (service, id) = &loss.key;
    let data = json!({
        "service": service.as_str(),
        "id": id,
        "grant": format!("{:016x}", loss.grant),
        "error": json::problem(&loss.error),
    });
    format!("event: lost\ndata: {data}\n\n")
}
