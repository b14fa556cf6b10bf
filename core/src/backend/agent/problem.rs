//! Why the agent refused, from its problem documents. Pure.

use serde_json::Value;

use crate::error::{Error, Kind};

/// The error that a problem document tells; of `otherwise` where it names no kind that we know.
pub(super) fn read(problem: &Value, otherwise: Kind) -> Error {
    let kind = problem["kind"].as_str().and_then(|name| {
        let named = |kind: &&Kind| kind.name() == name;
        Kind::ALL.iter().find(named).copied()
    });
    let detail = problem["detail"].as_str();
    let text = detail.unwrap_or("the agent refused without a reason");
    Error::new(kind.unwrap_or(otherwise), text)
}

/// What an HTTP status means where there is no more to go by.
pub(super) fn kind_of(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::PermissionDenied,
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        400..=499 => Kind::InvalidArgument,
        501 => Kind::Unsupported,
        502 | 503 => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for kind in Kind::ALL {
            let error = read(
                &json!({"kind": kind.name(), "detail": "why"}),
                Kind::Internal,
            );
            assert_eq!((error.kind(), error.to_string()), (*kind, "why".to_owned()));
        }
        assert_eq!(
            read(&json!({"kind": "new"}), Kind::Timeout).kind(),
            Kind::Timeout
        );
        assert_eq!(read(&json!(3), kind_of(503)).kind(), Kind::Unavailable);
    }
}
