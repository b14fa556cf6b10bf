//! All services in one stream of events, for those who look at everything: a browser has only a few
//! connections. It begins whole each time, so it needs no ids.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
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
use crate::service_cache::CachedService;

/// The least time between two messages: what changes meanwhile is told at once.
const PACE: Duration = Duration::from_millis(200);
/// How often the store is asked for the names of all services.
const NAMES: Duration = Duration::from_secs(2);
/// How often it says at least something.
const SIGN: Duration = Duration::from_secs(2);

/// The stream.
pub async fn events(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, Problem> {
    Query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let told = Told {
        state: state.clone(),
        followed: BTreeMap::new(),
        named: None,
        said: None,
        current: false,
    };
    let events = stream::unfold(told, |mut told| async move {
        let bytes = told.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), told))
    });
    let events = state.streams.admit(Box::pin(events))?;
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let form = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, form);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Told {
    state: Arc<ApiState>,
    followed: BTreeMap<ServiceName, (Arc<CachedService>, Cursor)>,
    /// When the names were asked for last.
    named: Option<Instant>,
    /// When something was said last.
    said: Option<Instant>,
    /// Whether all that was there at the beginning has been told.
    current: bool,
}

impl Told {
    /// None once the agent closes.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let mut text = String::new();
            match self.said {
                None => text.push_str("event: reset\ndata: {}\n\n"),
                Some(_) => sleep(PACE).await,
            }
            if self.named.is_none_or(|at| at.elapsed() >= NAMES) {
                self.name(&mut text).await?;
                self.named = Some(Instant::now());
            }
            for (service, (_, cursor)) in &mut self.followed {
                tell(&mut text, service, cursor);
            }
            let heard = |(kept, _): &(Arc<CachedService>, Cursor)| {
                let now = kept.set.snapshot();
                now.is_ready() || now.fault().is_some()
            };
            if !self.current && self.said.is_some() && self.followed.values().all(heard) {
                self.current = true;
                text.push_str("event: current\ndata: {}\n\n");
            }
            if text.is_empty() && self.said.is_some_and(|at| at.elapsed() >= SIGN) {
                text.push_str(": still here\n\n");
            }
            if !text.is_empty() {
                self.said = Some(Instant::now());
                return Some(Bytes::from(text));
            }
        }
    }

    /// Follows all services that there are, and lets go of those that are gone and empty.
    async fn name(&mut self, text: &mut String) -> Option<()> {
        // However many look, the store is asked once.
        let state = &self.state;
        let names = state.catalog.get_or_fetch(NAMES, || state.services()).await;
        let names = match names {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) => {
                let _ = write!(text, "event: error\ndata: {}\n\n", json::problem(&error));
                return Some(());
            }
        };
        self.followed.retain(|service, (kept, _)| {
            let stays = names.contains(service) || !kept.set.snapshot().online().is_empty();
            if !stays {
                let data = json!({ "service": service.as_str() });
                let _ = write!(text, "event: gone\ndata: {data}\n\n");
            }
            stays
        });
        for name in names {
            if !self.followed.contains_key(&name) {
                // Too many are left out; the limit is there for a reason.
                let Ok(kept) = self.state.service_cache.open(&name) else {
                    break;
                };
                let cursor = kept.set.cursor();
                self.followed.insert(name, (kept, cursor));
            }
        }
        Some(())
    }
}

/// What changed in one service, and how it is then.
fn tell(text: &mut String, service: &ServiceName, cursor: &mut Cursor) {
    let events = cursor.drain();
    if events.is_empty() {
        return;
    }
    for event in &events {
        if let Event::Up(of) | Event::Update(of) | Event::Down(of) = event {
            let (kind, data) = (event.kind(), json::instance(of));
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
