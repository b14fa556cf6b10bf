//! The resource `/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use discover_core::{Error, ErrorKind};

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::runtime::exposition::MetricsFormat;

/// `GET /metrics`: the metrics of all components.
///
/// # Errors
///
/// Fails with [`ErrorKind::Internal`] if a component fails to write its metrics.
pub async fn metrics(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = MetricsFormat::negotiate(accept.unwrap_or_default());
    let text = state.exposition.encode(format);
    let text =
        text.map_err(|e| Error::caused_by(ErrorKind::Internal, "cannot encode the metrics", e))?;
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static(format.content_type());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}
