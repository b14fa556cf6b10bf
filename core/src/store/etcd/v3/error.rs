//! Errors of the crate etcd-client as errors of this library, with messages that people can act on.

use etcd_client::Error as EtcdError;
use tonic::{Code, Status};

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
    if let Some(fault) = login_fault(status) {
        return fault.explain(config, peer, keys, kind);
    }
    match text {
        "" => Error::new(kind, format!("{peer}: {}", status.code().description())),
        text => {
            let text = text.strip_prefix(ETCD_PREFIX).unwrap_or(text);
            let text = printable_excerpt(text, MAX_SERVER_TEXT_CHARS);
            Error::new(kind, format!("{peer}: {text}"))
        }
    }
}

/// What etcd reports about a login or its permissions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LoginFault {
    /// The token has expired, or is unknown to this member.
    InvalidToken,
    /// The token precedes a change of users, roles or permissions.
    OutdatedToken,
    NoLogin,
    WrongPassword,
    AuthenticationDisabled,
    PermissionDenied,
}

const ETCD_PREFIX: &str = "etcdserver: ";
const INVALID_TOKEN: &str = "invalid auth token";
const OUTDATED_TOKEN: &str = "revision of auth store is old";
const NO_LOGIN: &str = "user name is empty";
const PERMISSION_DENIED: &str = "permission denied";

/// The ends of the texts with which etcd refuses a watch because of its login. Old versions report an expired token as
/// a lack of permission.
pub(super) const LOGIN_REFUSALS: [&str; 4] =
    [INVALID_TOKEN, OUTDATED_TOKEN, NO_LOGIN, PERMISSION_DENIED];

/// Classifies a status by its code; by etcd's exact text where the code has many meanings, or was lost in a proxy.
fn login_fault(status: &Status) -> Option<LoginFault> {
    let text = status.message();
    let text = text.strip_prefix(ETCD_PREFIX).unwrap_or(text);
    match (status.code(), text) {
        (Code::PermissionDenied, _) | (Code::Unknown, PERMISSION_DENIED) => {
            Some(LoginFault::PermissionDenied)
        }
        (Code::Unauthenticated | Code::Unknown, INVALID_TOKEN) => Some(LoginFault::InvalidToken),
        (Code::InvalidArgument | Code::Unknown, OUTDATED_TOKEN) => Some(LoginFault::OutdatedToken),
        (Code::InvalidArgument | Code::Unknown, NO_LOGIN) => Some(LoginFault::NoLogin),
        (
            Code::InvalidArgument | Code::Unauthenticated | Code::Unknown,
            "authentication failed, invalid user ID or password",
        ) => Some(LoginFault::WrongPassword),
        (Code::FailedPrecondition | Code::Unknown, "authentication is not enabled") => {
            Some(LoginFault::AuthenticationDisabled)
        }
        _ => None,
    }
}

impl LoginFault {
    fn of(error: &EtcdError) -> Option<LoginFault> {
        match error {
            EtcdError::GRpcStatus(status) => login_fault(status),
            _ => None,
        }
    }

    fn kind(self) -> ErrorKind {
        match self {
            LoginFault::InvalidToken | LoginFault::OutdatedToken => ErrorKind::Unavailable,
            _ => ErrorKind::PermissionDenied,
        }
    }

    fn explain(self, config: &EtcdConfig, peer: &Peer, keys: &str, kind: ErrorKind) -> Error {
        match self {
            LoginFault::PermissionDenied => config.no_permission(
                peer,
                keys,
                "grant it with etcdctl role grant-permission, or use another user",
            ),
            LoginFault::NoLogin => peer.refusal(
                kind,
                "the server requires a login",
                "set the options user and password, or write USER:PASSWORD@ in the URL",
            ),
            LoginFault::WrongPassword => {
                let name = config.user.as_ref().map(|(name, _)| name.as_str());
                let user = name.unwrap_or_default();
                let cause = format!("the server refused the login of user {user:?}");
                peer.refusal(kind, &cause, "check the user name and the password")
            }
            LoginFault::InvalidToken
            | LoginFault::OutdatedToken
            | LoginFault::AuthenticationDisabled => peer.refusal(
                kind,
                "the server refused a new login as outdated",
                "check that its users and permissions are not being changed all the time",
            ),
        }
    }
}

/// Returns true if a new login may help: the server does not accept the token, or requires one since authentication was
/// enabled.
pub(super) fn is_outdated_login(error: &EtcdError) -> bool {
    matches!(
        LoginFault::of(error),
        Some(LoginFault::InvalidToken | LoginFault::OutdatedToken | LoginFault::NoLogin)
    )
}

pub(super) fn is_permission_denied(error: &EtcdError) -> bool {
    LoginFault::of(error) == Some(LoginFault::PermissionDenied)
}

pub(super) fn is_authentication_disabled(error: &EtcdError) -> bool {
    LoginFault::of(error) == Some(LoginFault::AuthenticationDisabled)
}

/// Returns the kind of an error. Streams fail with many codes when a connection breaks, so an error that is
/// not known to be final counts as an unavailable store.
fn kind_of(error: &EtcdError) -> ErrorKind {
    if let Some(fault) = LoginFault::of(error) {
        return fault.kind();
    }
    match error {
        EtcdError::GRpcStatus(status) => match status.code() {
            Code::Unauthenticated => ErrorKind::PermissionDenied,
            Code::NotFound if status.message().contains("lease") => ErrorKind::LeaseLost,
            Code::DeadlineExceeded => ErrorKind::Timeout,
            Code::ResourceExhausted => ErrorKind::Resource,
            Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
            Code::Unimplemented => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        },
        EtcdError::LeaseKeepAliveError(_) => ErrorKind::LeaseLost,
        EtcdError::InvalidArgs(_)
        | EtcdError::InvalidUri(_)
        | EtcdError::InvalidMetadataValue(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Unavailable,
    }
}
