//! What a request says, checked: the place, the query, the body.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use discover_core::{Error, ErrorKind, ServiceName};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::registry::key::InstanceKey;

/// The largest body that is taken, in bytes: what the largest registration has in JSON.
const LONGEST: usize = 512 * 1024;
/// The longest id, in bytes: one has the length of a host and a port at most.
const LONGEST_ID: usize = 260;
/// How long a body may take to come.
const SLOWEST: Duration = Duration::from_secs(10);

/// `/v1/services/{service}…`
pub struct Service(pub ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for Service {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Service, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable())?;
        Ok(Service(ServiceName::new(&name)?))
    }
}

/// `/v1/services/{service}/instances/{id}…`
pub struct Place(pub InstanceKey);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place, Problem> {
        let Path((name, id)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable())?;
        let service = ServiceName::new(&name)?;
        if id.is_empty() || id.len() > LONGEST_ID {
            let n = id.len();
            let text = format!("id has {n} bytes; it must have 1 to {LONGEST_ID}");
            return Err(Error::invalid(text).into());
        }
        Ok(Place((service, id)))
    }
}

/// A body in JSON. A page of another origin cannot send one without asking first.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, Problem> {
        let form = request.headers().get(CONTENT_TYPE);
        let form = form.and_then(|form| form.to_str().ok()).unwrap_or_default();
        let form = form.split(';').next().unwrap_or_default().trim();
        if !form.eq_ignore_ascii_case("application/json") {
            let text = format!("the body is of type {form:?}; it must be application/json");
            let error = Error::invalid(text);
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        let body = whole(request).await?;
        // A list would be taken for the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Error::invalid("the body is no JSON object").into());
        }
        let value = serde_json::from_slice(&body)
            .map_err(|e| Error::invalid(format!("the body is not as it should be: {e}")))?;
        Ok(Json(value))
    }
}

async fn whole(request: Request) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let slow = |_| {
        let error = Error::new(
            ErrorKind::Timeout,
            format!("no whole body within {SLOWEST:?}"),
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, error)
    };
    let large = |_| {
        let text = format!("the body is cut short, or larger than {LONGEST} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Error::invalid(text))
    };
    let collected = timeout(SLOWEST, body).await.map_err(slow)?;
    Ok(collected.map_err(large)?.to_bytes())
}

fn unreadable() -> Problem {
    Error::invalid("the path is not UTF-8 after percent-decoding").into()
}
