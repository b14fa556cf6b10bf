//! Error responses of the API: problem documents (RFC 9457) with the name of the error kind.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use discover_core::{Error, ErrorKind};
use serde_json::json;

/// An error response: a status and the error that the document describes.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    error: Error,
}

impl Problem {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Creates a response with a status other than that of the error kind.
    pub fn new(status: StatusCode, error: Error) -> Problem {
        Problem { status, error }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem {
            status: status_of(error.kind()),
            error,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let kind = self.error.kind();
        let document = json!({
            "type": format!("urn:libdiscover:error:{}", kind.name()),
            "title": kind.meaning(),
            "status": self.status.as_u16(),
            "kind": kind.name(),
            "retriable": kind.is_retriable(),
            "detail": self.error.report(),
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
        insert(header::CONTENT_TYPE, "application/problem+json");
        match self.status {
            StatusCode::UNAUTHORIZED => {
                insert(header::WWW_AUTHENTICATE, r#"Bearer realm="discoverd""#);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                insert(header::RETRY_AFTER, "1");
            }
            // The body is not read, so what follows on the connection cannot be told from it.
            StatusCode::LENGTH_REQUIRED | StatusCode::NOT_IMPLEMENTED => {
                insert(header::CONNECTION, "close");
            }
            _ => {}
        }
        response
    }
}

/// Returns the HTTP status of an error kind.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable | ErrorKind::Closed | ErrorKind::Resource => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::LeaseLost => StatusCode::GONE,
        ErrorKind::Replaced => StatusCode::CONFLICT,
        ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
