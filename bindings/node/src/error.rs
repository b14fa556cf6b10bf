//! Failures, as JavaScript gets them.

use discover_core::embed::{Error, ErrorKind};
use napi::Env;
use napi::bindgen_prelude::JsError;

/// A failure whose `code` is the name of its kind. `ts/errors.ts` makes a `DiscoverError` of it.
pub type Failure = napi::Error<&'static str>;
pub type Result<T> = std::result::Result<T, Failure>;

/// What the core refused.
pub fn failure(error: Error) -> Failure {
    Failure::new(error.kind().name(), error.report())
}

/// What Node refused.
pub fn broken(error: napi::Error) -> Failure {
    Failure::new(ErrorKind::Internal.name(), error.reason.clone())
}

/// The same for a promise, which takes only Node's own codes, or a JavaScript error as it is.
pub fn rejection(env: Env, error: Error) -> napi::Error {
    napi::Error::from(JsError::from(failure(error)).into_unknown(env))
}
