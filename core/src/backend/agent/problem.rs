//! Errors of the agent, from its problem documents (RFC 9457) and HTTP statuses. Pure.

use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::printable::printable_excerpt;

/// Maximum length of a reason that is shown, in characters.
const MAX_DETAIL_CHARS: usize = 1024;

/// Returns true if the JSON is a problem document of an agent.
pub(super) fn is_problem(document: &Value) -> bool {
    document["kind"].is_string() || document["detail"].is_string()
}

/// Returns the error that a problem document describes, of kind `default_kind` if it names no known kind.
pub(super) fn read(problem: &Value, default_kind: ErrorKind) -> Error {
    let kind = problem["kind"].as_str().and_then(|name| {
        let named = |kind: &&ErrorKind| kind.name() == name;
        ErrorKind::ALL.iter().find(named).copied()
    });
    let detail = problem["detail"].as_str();
    let text = detail.unwrap_or("the agent refused the request without a reason");
    let text = printable_excerpt(text, MAX_DETAIL_CHARS);
    Error::new(kind.unwrap_or(default_kind), text)
}

/// Returns the kind of error that an HTTP status stands for.
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
    fn every_kind_survives_a_problem_document() {
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

    #[test]
    fn a_reason_is_cut_and_control_characters_are_escaped() {
        let detail = format!("\u{1b}[2J\n{}", "x".repeat(5000));
        let text = read(&json!({ "detail": detail }), ErrorKind::Internal).to_string();
        assert!(text.starts_with("\\u{1b}[2J\\nxx"), "{text}");
        assert!(text.chars().count() < 1100);
    }
}
