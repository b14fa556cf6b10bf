//! Error responses of the API: problem documents (RFC 9457) with the name of the error kind.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use discover_core::{Error, ErrorKind};
use serde_json::json;

use crate::store::StoreFailure;

/// The component that refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusingComponent {
    Agent,
    Store,
}

impl RefusingComponent {
    fn of(error: &Error) -> RefusingComponent {
        match StoreFailure::is_cause_of(error) {
            true => RefusingComponent::Store,
            false => RefusingComponent::Agent,
        }
    }

    fn name(self) -> &'static str {
        match self {
            RefusingComponent::Agent => "agent",
            RefusingComponent::Store => "store",
        }
    }
}

/// Returns the title of a problem, which names the component that refused the request.
fn title(kind: ErrorKind, component: RefusingComponent) -> String {
    let reason = match (component, kind) {
        (RefusingComponent::Agent, ErrorKind::Internal) => "a bug",
        (_, ErrorKind::Internal) => "an internal error",
        (_, ErrorKind::InvalidArgument) => "an argument, option or name is not acceptable",
        (_, ErrorKind::Unsupported) => "it cannot do that",
        (RefusingComponent::Agent, ErrorKind::Unavailable) => "it cannot answer now",
        (_, ErrorKind::Unavailable) => "it cannot be reached or cannot answer now",
        (_, ErrorKind::Timeout) => "the time was not enough",
        (_, ErrorKind::PermissionDenied) => "missing or wrong credentials, or access denied",
        (_, ErrorKind::NotFound) => "the named object does not exist",
        (_, ErrorKind::LeaseLost) => "it no longer holds this registration",
        (_, ErrorKind::Replaced) => "another owner registered this instance id",
        (_, ErrorKind::Closed) => "it is stopping",
        (_, ErrorKind::Busy) => "too many requests",
        (RefusingComponent::Agent, ErrorKind::Resource) => "a limit is reached",
        (_, ErrorKind::Resource) => "out of memory, descriptors or space",
        (_, other) => other.meaning(),
    };
    match component {
        RefusingComponent::Agent => format!("The agent refused the request: {reason}"),
        RefusingComponent::Store => format!("The store refused the request or failed: {reason}"),
    }
}

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
        let component = RefusingComponent::of(&self.error);
        let document = json!({
            "type": format!("urn:libdiscover:error:{}", kind.name()),
            "title": title(kind, component),
            "component": component.name(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_names_the_component_that_refused() {
        let own = Error::new(ErrorKind::PermissionDenied, "the token is wrong");
        let of_store = StoreFailure::wrap(own.clone());
        assert_eq!(
            (of_store.kind(), of_store.report()),
            (own.kind(), "store: the token is wrong".to_owned())
        );
        for (error, component) in [(own, "agent"), (of_store, "store")] {
            let found = RefusingComponent::of(&error);
            assert_eq!(found.name(), component);
            for kind in ErrorKind::ALL {
                assert!(title(*kind, found).contains(&format!("The {component} refused")));
            }
        }
    }
}
