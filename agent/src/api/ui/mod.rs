//! The web page of the agent: one file, with a content security policy that lets it load nothing else.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("index.html");

/// `GET /`: the page.
pub async fn page() -> Response<Body> {
    static POLICY: OnceLock<String> = OnceLock::new();
    let policy = POLICY.get_or_init(|| security_policy(PAGE));
    let mut response = Response::new(Body::from(PAGE));
    let headers = response.headers_mut();
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(header::CONTENT_TYPE, "text/html; charset=utf-8");
    insert(header::CACHE_CONTROL, "no-cache");
    insert(header::CONTENT_SECURITY_POLICY, policy);
    insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    insert(header::X_FRAME_OPTIONS, "DENY");
    insert(header::REFERRER_POLICY, "no-referrer");
    response
}

/// Returns the content security policy: the scripts and styles of the page are allowed by their hashes, and
/// connections are allowed to this agent only.
fn security_policy(page: &str) -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hashes(page, "script"),
        hashes(page, "style"),
    )
}

fn hashes(page: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = page.split(&open).skip(1);
    let hash = |part: &str| {
        let inner = part.split(&close).next().unwrap_or_default();
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inner)))
    };
    parts.map(hash).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_each_script_and_style_by_its_hash() {
        let policy = security_policy("<style>a</style><script>b</script><script>c</script>");
        assert!(policy.contains("style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"));
        assert_eq!(policy.matches("sha256-").count(), 3);
        assert!(!policy.contains("unsafe"));
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for external in ["src=\"http", "href=\"http", "url(http", "@import", "//cdn"] {
            assert!(!PAGE.contains(external), "{external}");
        }
        assert!(
            !PAGE.contains(" style=\""),
            "the policy refuses inline style attributes"
        );
        assert!(
            !PAGE.contains("innerHTML"),
            "text of the store must not become HTML"
        );
    }
}
