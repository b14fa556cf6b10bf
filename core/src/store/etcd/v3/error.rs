//! Errors of the crate etcd-client as errors of this library, with messages that people can act on.

use etcd_client::Error as EtcdError;

use crate::error::{Error, ErrorKind};
use crate::printable::printable_excerpt;
use crate::store::etcd::config::{EtcdConfig, MAX_SERVER_TEXT_CHARS};
use crate::transport::network_error::{Peer, Phase};

/// Translates an error of a request on an established connection. `keys` names what the request accesses;
/// it is empty where permissions do not matter.
pub(super) fn request_error(config: &EtcdConfig, keys: &str, error: &EtcdError) -> Error {
    translate(config, &config.peer(None), Phase::Established, keys, error)
}

/// Translates an error of the first requests to an endpoint.
pub(super) fn connect_error(
    config: &EtcdConfig,
    endpoint: &str,
    keys: &str,
    error: &EtcdError,
) -> Error {
    let peer = config.peer(Some(endpoint));
    translate(config, &peer, Phase::Opening, keys, error)
}

fn translate(
    config: &EtcdConfig,
    peer: &Peer,
    phase: Phase,
    keys: &str,
    error: &EtcdError,
) -> Error {
    let kind = kind_of(error);
    let status = match error {
        EtcdError::GRpcStatus(status) => status,
        EtcdError::TransportError(error) => return peer.error(kind, phase, error),
        EtcdError::IoError(error) => return peer.error(kind, phase, error),
        error => {
            let text = printable_excerpt(&error.to_string(), MAX_SERVER_TEXT_CHARS);
            return Error::new(kind, format!("{peer}: {text}"));
        }
    };
    if let Some(source) = std::error::Error::source(status) {
        return peer.error(kind, phase, source);
    }
    let text = status.message();
    if text.contains("grpc-status header missing") || text.contains("unknown service") {
        return peer.wrong_protocol(kind);
    }
    let name = config.user.as_ref().map(|(name, _)| name);
    match text {
        _ if text.contains("permission denied") => config.no_permission(
            peer,
            keys,
            "grant it with etcdctl role grant-permission, or use another user",
        ),
        _ if text.contains("user name is empty") => peer.refusal(
            kind,
            "the server requires a login",
            "set the options user and password, or write USER:PASSWORD@ in the URL",
        ),
        _ if text.contains("authentication failed") => {
            let user = name.map(String::as_str).unwrap_or_default();
            let cause = format!("the server refused the login of user {user:?}");
            peer.refusal(kind, &cause, "check the user name and the password")
        }
        _ if text.contains("authentication is not enabled") => peer.refusal(
            kind,
            "a login is given, but the server has authentication disabled",
            "remove user and password from the URL, or run etcdctl auth enable",
        ),
        "" => Error::new(kind, format!("{peer}: {}", status.code().description())),
        text => {
            let text = text.strip_prefix("etcdserver: ").unwrap_or(text);
            let text = printable_excerpt(text, MAX_SERVER_TEXT_CHARS);
            Error::new(kind, format!("{peer}: {text}"))
        }
    }
}

/// Returns the kind of an error. Streams fail with many codes when a connection breaks, so an error that is
/// not known to be final counts as an unavailable store.
fn kind_of(error: &EtcdError) -> ErrorKind {
    match error {
        EtcdError::GRpcStatus(status) => match (status.code() as i32, status.message()) {
            // A token that expired, or precedes a change of the permissions: a new connection logs in again.
            (_, text) if text.contains("invalid auth token") => ErrorKind::Unavailable,
            (_, text) if text.contains("revision of auth store is old") => ErrorKind::Unavailable,
            (_, text) if text.contains("authentication") || text.contains("user name") => {
                ErrorKind::PermissionDenied
            }
            // Codes of the gRPC protocol.
            (7 | 16, _) => ErrorKind::PermissionDenied,
            (5, text) if text.contains("lease") => ErrorKind::LeaseLost,
            (4, _) => ErrorKind::Timeout,
            (8, _) => ErrorKind::Resource,
            (3 | 11, _) => ErrorKind::InvalidArgument,
            (12, _) => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        },
        EtcdError::LeaseKeepAliveError(_) => ErrorKind::LeaseLost,
        EtcdError::InvalidArgs(_)
        | EtcdError::InvalidUri(_)
        | EtcdError::InvalidMetadataValue(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Unavailable,
    }
}
