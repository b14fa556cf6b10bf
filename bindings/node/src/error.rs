//! Conversion of errors into JavaScript exceptions and rejections.

use discover_core::embed::{Error, ErrorKind};
use napi::Env;
use napi::bindgen_prelude::JsError;

/// A failure whose `code` is the name of its kind. `ts/errors.ts` converts it into a `DiscoverError`.
pub type Failure = napi::Error<&'static str>;
pub type Result<T> = std::result::Result<T, Failure>;

/// Converts an error of the core.
pub fn failure(error: Error) -> Failure {
    Failure::new(error.kind().name(), error.report())
}

/// Converts an error of Node-API, which is internal.
pub fn internal_error(error: napi::Error) -> Failure {
    Failure::new(ErrorKind::Internal.name(), error.reason.clone())
}

/// Converts an error of the core for the rejection of a promise, which accepts only Node's own codes or a
/// JavaScript error object.
pub fn rejection(env: Env, error: Error) -> napi::Error {
    napi::Error::from(JsError::from(failure(error)).into_unknown(env))
}
