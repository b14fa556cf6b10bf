//! What the v2 API answers, in its own words.

use hyper::StatusCode;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::printable::printable_excerpt;
use crate::store::etcd::config::{EtcdConfig, MAX_SERVER_TEXT_CHARS};
use crate::transport::network_error::Peer;

pub(super) const KEY_NOT_FOUND: u32 = 100;
pub(super) const COMPARE_FAILED: u32 = 101;
const NOT_A_FILE: u32 = 102;
pub(super) const EXISTS: u32 = 105;
const UNAUTHORIZED: u32 = 110;
/// The events that a watch asks for are not kept any more.
pub(super) const EVENTS_CLEARED: u32 = 401;

/// Body of a successful response or of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct KeysResponse {
    pub(super) action: String,
    pub(super) node: Option<KeyTree>,
    pub(super) prev_node: Option<KeyTree>,
}

/// A key, or a directory with its content.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct KeyTree {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) dir: bool,
    /// Remaining TTL in seconds; `None` for a persistent key.
    pub(super) ttl: Option<i64>,
    pub(super) nodes: Option<Vec<KeyTree>>,
    pub(super) modified_index: u64,
    pub(super) created_index: u64,
}

/// Body of an error response.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ApiError {
    #[serde(rename = "errorCode")]
    pub(super) code: u32,
    message: String,
    cause: String,
    pub(super) index: u64,
}

pub(super) type ApiResult = Result<KeysResponse, ApiError>;

impl KeysResponse {
    /// Returns true if the event deleted or expired something.
    pub(super) fn is_removal(&self) -> bool {
        ["delete", "expire", "compareAndDelete"].contains(&self.action.as_str())
    }
}

impl ApiError {
    /// Returns the kind of the refusal.
    pub(super) fn kind(&self) -> ErrorKind {
        match self.code {
            UNAUTHORIZED => ErrorKind::PermissionDenied,
            KEY_NOT_FOUND => ErrorKind::NotFound,
            NOT_A_FILE | 103..=109 | 200..=299 => ErrorKind::InvalidArgument,
            _ => ErrorKind::Unavailable,
        }
    }

    /// Returns the refusal as an error of a request to an endpoint, or to any, about `key`.
    pub(super) fn error(&self, config: &EtcdConfig, endpoint: Option<&str>, key: &str) -> Error {
        let peer = config.peer(endpoint);
        match (self.code, config.proves_who_we_are()) {
            (UNAUTHORIZED, false) => peer.refusal(
                ErrorKind::PermissionDenied,
                "the server requires a login",
                "set the options user and password, or write USER:PASSWORD@ in the URL",
            ),
            // The v2 API uses the same response for a wrong password and for a missing permission.
            (UNAUTHORIZED, true) => {
                let remedy = "check the user name, the password and the roles of the user";
                config.no_permission(&peer, key, remedy)
            }
            (code, _) => {
                let shown = |text: &str| printable_excerpt(text, MAX_SERVER_TEXT_CHARS);
                let (message, cause) = (shown(&self.message), shown(&self.cause));
                let text = format!("{peer}: {message} ({cause}, error {code})");
                Error::new(self.kind(), text)
            }
        }
    }
}

/// Reads a response. An empty body is a response without contents; a body that is not of this API is an error.
pub(super) fn parse(peer: &Peer, status: StatusCode, body: &[u8]) -> Result<ApiResult> {
    if status.is_success() {
        if body.trim_ascii().is_empty() {
            return Ok(Ok(KeysResponse::default()));
        }
        let parsed = serde_json::from_slice(body);
        return match parsed {
            Ok(reply) => Ok(Ok(reply)),
            Err(_) => Err(peer.wrong_protocol(ErrorKind::Unavailable)),
        };
    }
    let refusal: ApiError = serde_json::from_slice(body).unwrap_or_default();
    match status {
        _ if refusal.code > 0 => Ok(Err(refusal)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Err(ApiError {
            code: UNAUTHORIZED,
            message: "not allowed".to_owned(),
            ..refusal
        })),
        StatusCode::NOT_FOUND => Err(peer.refusal(
            ErrorKind::Unsupported,
            "the server does not offer etcd's v2 API",
            "start etcd with --enable-v2, or write etcd:// for etcd v3; for an agent write discoverd://",
        )),
        _ if status.is_redirection() => Err(peer.refusal(
            ErrorKind::Unsupported,
            "the server redirected the request, as etcd before 2.0 does",
            "use the address of the leader, or a newer etcd",
        )),
        // Go's HTTP server answers so if it expects TLS.
        StatusCode::BAD_REQUEST if body.starts_with(b"Client sent an HTTP request to an HTTPS") => {
            let remedy = peer.toggle_tls;
            Err(peer.refusal(ErrorKind::Unavailable, "the server requires TLS", remedy))
        }
        _ => {
            let text = format!("{peer}: the server answered HTTP {}", status.as_u16());
            Err(Error::new(ErrorKind::Unavailable, text))
        }
    }
}

/// Returns true if the server supports refreshing a key without an event: version 2.3 and later.
pub(super) fn supports_refresh(version: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Version {
        etcdserver: String,
        // The version that all members support.
        etcdcluster: Option<String>,
    }
    let Ok(Version {
        etcdserver,
        etcdcluster,
    }) = serde_json::from_slice(version)
    else {
        return false;
    };
    let known = |text: &str| {
        let mut parts = text.split('.').map_while(|part| part.parse::<u32>().ok());
        Some((parts.next()?, parts.next()?) >= (2, 3))
    };
    // A cluster that is starting does not know its version yet.
    let cluster = etcdcluster.as_deref().and_then(known);
    cluster.or_else(|| known(&etcdserver)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EtcdConfig {
        EtcdConfig::read(&crate::url::Url::parse("etcd2://h/root").unwrap(), false).unwrap()
    }

    fn read(status: StatusCode, body: &[u8]) -> Result<ApiResult> {
        super::parse(&config().peer(None), status, body)
    }

    #[test]
    fn a_response_is_parsed_and_a_foreign_one_is_named() {
        let get = br#"{"action":"get","node":{"key":"/a","dir":true,"nodes":[{"key":"/a/b",
            "value":"x","ttl":18,"modifiedIndex":7,"createdIndex":4}],"modifiedIndex":4}}"#;
        let reply = read(StatusCode::OK, get).unwrap().unwrap();
        let beneath = reply.node.unwrap().nodes.unwrap();
        assert_eq!(
            (beneath[0].created_index, beneath[0].ttl, beneath[0].dir),
            (4, Some(18), false)
        );
        let empty = read(StatusCode::OK, b"\n").unwrap().unwrap();
        assert!(empty.node.is_none());
        let refused =
            br#"{"errorCode":101,"message":"Compare failed","cause":"[1 != 7]","index":7}"#;
        let refused = read(StatusCode::PRECONDITION_FAILED, refused).unwrap();
        assert_eq!(refused.unwrap_err().code, COMPARE_FAILED);
        let page = read(StatusCode::NOT_FOUND, b"404 page not found").unwrap_err();
        assert_eq!(page.kind(), ErrorKind::Unsupported);
        assert!(page.to_string().contains("--enable-v2"), "{page}");
        let html = read(StatusCode::OK, b"<html>").unwrap_err();
        assert_eq!(html.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_text_of_a_refusal_is_cut_and_escaped() {
        let long = "x".repeat(5000);
        let body = format!(r#"{{"errorCode":300,"message":"\u001b[2J\n{long}","cause":"{long}"}}"#);
        let refused = read(StatusCode::BAD_REQUEST, body.as_bytes()).unwrap();
        let text = refused
            .unwrap_err()
            .error(&config(), None, "/a")
            .to_string();
        assert!(
            text.contains(r"\u{1b}[2J\nxx") && text.len() < 2000,
            "{text}"
        );
    }

    #[test]
    fn only_new_enough_clusters_refresh() {
        for (version, new) in [
            (r#"{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}"#, true),
            (r#"{"etcdserver":"2.3.0","etcdcluster":"2.2.0"}"#, false),
            (
                r#"{"etcdserver":"2.3.8","etcdcluster":"not_decided"}"#,
                true,
            ),
            (r#"{"etcdserver":"2.2.5"}"#, false),
            ("etcd 0.4.9", false),
        ] {
            assert_eq!(supports_refresh(version.as_bytes()), new, "{version}");
        }
    }

    /// Any response is either an error or a tree whose nodes have valid keys.
    #[test]
    fn fuzz_mutated_responses() {
        use crate::mutate::{mutated, seeds};
        use crate::store::etcd::v2::decode::leaves;
        use crate::store::etcd::v2::key_index::KeyIndex;
        let config = config();
        let answers = mutated(seeds("answer"));
        crate::prove::check_property(file!(), 3000, answers, |(status, body)| {
            let status = status.parse().ok();
            let status = status.and_then(|code: u16| StatusCode::from_u16(code).ok());
            supports_refresh(&body);
            let Ok(answer) = read(status.unwrap_or(StatusCode::OK), &body) else {
                return Ok(());
            };
            let Ok(reply) = answer else { return Ok(()) };
            let mut known = KeyIndex::default();
            for tree in [reply.node, reply.prev_node] {
                for node in known.replace(1, leaves(&config, tree)) {
                    if crate::kv::Key::new(node.key.as_str()).is_err() {
                        return Err(format!("no key: {node:?}"));
                    }
                    known.delete(&node.key);
                }
            }
            Ok(())
        });
    }
}
