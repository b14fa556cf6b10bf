//! The event stream of all services, for clients that show everything: a browser opens only a few connections. Each
//! stream begins with the full state, so its events have no ids to resume from.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use discover_core::{Cursor, ErrorKind, Event, ServiceName};
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::json;
use crate::api::v1::query::Query;
use crate::net::peer::Peer;
use crate::service_cache::CachedService;

/// Minimum time between two messages. Changes in the meantime are sent together.
const MIN_MESSAGE_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which the store is asked for the names of all services.
const CATALOG_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of keepalive comments on a stream without changes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// `GET /v1/events`: the event stream of all services.
///
/// # Errors
///
/// Fails with [`ErrorKind::Resource`] if the maximum number of streams is open.
pub async fn events(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, Problem> {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let events = AllEventsStream {
        state: state.clone(),
        peer,
        watched: BTreeMap::new(),
        listed_at: None,
        sent_at: None,
        is_current: false,
    };
    let events = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), events))
    });
    let events = state.streams.admit(peer, Box::pin(events))?;
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct AllEventsStream {
    state: Arc<ApiState>,
    peer: Peer,
    watched: BTreeMap<ServiceName, (Arc<CachedService>, Cursor)>,
    /// The time of the last request for the names of all services.
    listed_at: Option<Instant>,
    /// The time of the last message.
    sent_at: Option<Instant>,
    /// Whether the event `current` was sent, which follows the full state.
    is_current: bool,
}

impl AllEventsStream {
    /// Returns the next message, or `None` once the client of the store is closed.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let mut text = String::new();
            match self.sent_at {
                None => text.push_str("event: reset\ndata: {}\n\n"),
                Some(_) => sleep(MIN_MESSAGE_INTERVAL).await,
            }
            if self
                .listed_at
                .is_none_or(|at| at.elapsed() >= CATALOG_INTERVAL)
            {
                self.update_watched(&mut text).await?;
                self.listed_at = Some(Instant::now());
            }
            for (service, (cached, cursor)) in &mut self.watched {
                write_changes(&mut text, service, cached, cursor);
            }
            let is_known = |(cached, _): &(Arc<CachedService>, Cursor)| {
                let now = cached.set.snapshot();
                now.is_ready() || now.fault().is_some()
            };
            if !self.is_current && self.sent_at.is_some() && self.watched.values().all(is_known) {
                self.is_current = true;
                text.push_str("event: current\ndata: {}\n\n");
            }
            let is_silent = |at: Instant| at.elapsed() >= KEEPALIVE_INTERVAL;
            if text.is_empty() && self.sent_at.is_some_and(is_silent) {
                text.push_str(": keepalive\n\n");
            }
            if !text.is_empty() {
                self.sent_at = Some(Instant::now());
                return Some(Bytes::from(text));
            }
        }
    }

    /// Watches all services of the catalog. Ends the watch of a service that is not in the catalog and has no
    /// instance online. Returns `None` if the client of the store is closed.
    async fn update_watched(&mut self, text: &mut String) -> Option<()> {
        // All streams share one request to the store.
        let state = &self.state;
        let names = state
            .catalog
            .get_or_fetch(CATALOG_INTERVAL, || state.services())
            .await;
        let names = match names {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) => {
                let _ = write!(text, "event: error\ndata: {}\n\n", json::problem(&error));
                return Some(());
            }
        };
        self.watched.retain(|service, (cached, _)| {
            let stays = names.contains(service) || !cached.set.snapshot().online().is_empty();
            if !stays {
                let data = json!({ "service": service.as_str() });
                let _ = write!(text, "event: gone\ndata: {data}\n\n");
            }
            stays
        });
        for name in names {
            if !self.watched.contains_key(&name) {
                // Services beyond the limit of watched services are left out.
                let Ok(cached) = self.state.service_cache.open(&name, Some(self.peer)) else {
                    break;
                };
                let cursor = cached.set.cursor();
                self.watched.insert(name, (cached, cursor));
            }
        }
        Some(())
    }
}

/// Writes the changes of one service, and its state after them.
fn write_changes(
    text: &mut String,
    service: &ServiceName,
    cached: &CachedService,
    cursor: &mut Cursor,
) {
    let events = cursor.drain();
    if events.is_empty() {
        return;
    }
    for event in &events {
        if let Event::Up(instance) | Event::Update(instance) | Event::Down(instance) = event {
            let (kind, data) = (event.kind(), json::instance(cached, instance));
            // Writing to a string does not fail.
            let _ = write!(text, "event: {kind}\ndata: {data}\n\n");
        }
    }
    let now = cursor.seen();
    let data = json!({
        "service": service.as_str(),
        "state": now.state().name(),
        "leader": now.leader().map(|leader| leader.id()),
        "error": now.fault().map(|fault| json::problem(&fault.error)),
    });
    let _ = write!(text, "event: service\ndata: {data}\n\n");
}
