//! Why the agent refused, from its problem documents. Pure.

use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// The error that a problem document tells; of `otherwise` where it names no kind that we know.
pub(super) fn read(problem: &Value, otherwise: ErrorKind) -> Error {
    let kind = problem["kind"].as_str().and_then(|name| {
        let named = |kind: &&ErrorKind| kind.name() == name;
        ErrorKind::ALL.iter().find(named).copied()
    });
    let detail = problem["detail"].as_str();
    let text = detail.unwrap_or("the agent refused without a reason");
    Error::new(kind.unwrap_or(otherwise), text)
}

/// What an HTTP status means where there is no more to go by.
pub(super) fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        400..=499 => ErrorKind::InvalidArgument,
        501 => ErrorKind::Unsupported,
        502 | 503 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for kind in ErrorKind::ALL {
            let error = read(
                &json!({"kind": kind.name(), "detail": "why"}),
                ErrorKind::Internal,
            );
            assert_eq!((error.kind(), error.to_string()), (*kind, "why".to_owned()));
        }
        assert_eq!(
            read(&json!({"kind": "new"}), ErrorKind::Timeout).kind(),
            ErrorKind::Timeout
        );
        assert_eq!(read(&json!(3), kind_of(503)).kind(), ErrorKind::Unavailable);
    }
}
