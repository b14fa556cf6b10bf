//! Extractors that validate the path and the body of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use discover_core::{Error, ErrorKind, ServiceName};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::v1::unique_names::UniqueNames;
use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits};
use crate::registry::key::{InstanceKey, MAX_ID_BYTES};

/// Maximum size of a body, in bytes. The largest registration fits.
const MAX_BODY_BYTES: usize = 512 * 1024;
/// Maximum size of all bodies that are being received, in bytes.
const MAX_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Limit on the time to receive a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The service of the path `/v1/services/{service}…`.
pub struct ServicePath(pub ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for ServicePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<ServicePath, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid_path())?;
        Ok(ServicePath(ServiceName::new(&name)?))
    }
}

/// The instance of the path `/v1/services/{service}/instances/{id}…`.
pub struct InstancePath(pub InstanceKey);

impl<S: Send + Sync> FromRequestParts<S> for InstancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InstancePath, Problem> {
        let Path((name, id)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid_path())?;
        let service = ServiceName::new(&name)?;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            let n = id.len();
            let text = format!("id has {n} bytes; it must have 1 to {MAX_ID_BYTES}");
            return Err(Error::invalid(text).into());
        }
        Ok(InstancePath((service, id)))
    }
}

/// A body that is a JSON object. The media type must be `application/json`, which a browser lets pages of other
/// origins send only with permission (CORS preflight).
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Json<T>, Problem> {
        let media_type = request.headers().get(CONTENT_TYPE);
        let media_type = media_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let text = format!("the Content-Type is {media_type:?}; it must be application/json");
            let error = Error::invalid(text);
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        let peer = request.extensions().get::<Peer>().copied();
        let size = request.body().size_hint().exact();
        let size = size.map_or(MAX_BODY_BYTES, |size| size as usize);
        let admit = |peer| state.bodies.admit(peer, size.min(MAX_BODY_BYTES), None);
        let _permit = peer.map(admit).transpose()?;
        let body = read_body(request).await?;
        // serde also accepts an array with the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Error::invalid("the body must be a JSON object").into());
        }
        let invalid = |e| Error::invalid(format!("invalid body: {e}"));
        serde_json::from_slice::<UniqueNames>(&body).map_err(invalid)?;
        let value = serde_json::from_slice(&body).map_err(invalid)?;
        Ok(Json(value))
    }
}

/// Returns the limit on the bodies that are being received.
pub fn body_quota() -> Arc<Quota> {
    let limits = QuotaLimits {
        count: None,
        bytes: Some((MAX_BODIES_BYTES, None)),
    };
    Quota::new("request bodies", limits)
}

async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let slow = |_| {
        let error = Error::new(
            ErrorKind::Timeout,
            format!("the body did not arrive within {BODY_TIMEOUT:?}"),
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, error)
    };
    let large = |_| {
        let text = format!("the body is incomplete or larger than {MAX_BODY_BYTES} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Error::invalid(text))
    };
    let collected = timeout(BODY_TIMEOUT, body).await.map_err(slow)?;
    Ok(collected.map_err(large)?.to_bytes())
}

fn invalid_path() -> Problem {
    Error::invalid("the path is not UTF-8 after percent-decoding").into()
}
