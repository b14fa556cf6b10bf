//! Promises of asynchronous calls.

use std::convert::Infallible;

use discover_core::embed::{self, Error, ErrorKind, Pending};
use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};

use crate::error::{Result, failure, internal_error, rejection};

type Resolver<J> = Box<dyn FnOnce(Env) -> napi::Result<J>>;

/// A promise that any thread can settle. Dropping it rejects the promise, because a promise that is never
/// settled would keep the process alive.
pub struct Deferred<J: ToNapiValue + 'static>(Option<JsDeferred<J, Resolver<J>>>);

impl<J: ToNapiValue + 'static> Deferred<J> {
    pub fn new(env: &Env) -> Result<(Deferred<J>, Object<'_>)> {
        let (deferred, promise) = env.create_deferred().map_err(internal_error)?;
        Ok((Deferred(Some(deferred)), promise))
    }

    /// Settles the promise; `convert` runs on the JavaScript thread.
    pub fn settle<T: 'static>(
        &mut self,
        result: embed::Result<T>,
        convert: impl FnOnce(Env, T) -> napi::Result<J> + 'static,
    ) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(Box::new(move |env| match result {
                Ok(value) => convert(env, value),
                Err(error) => Err(rejection(env, error)),
            }));
        }
    }
}

impl<J: ToNapiValue + 'static> Drop for Deferred<J> {
    fn drop(&mut self) {
        let closed = Error::new(ErrorKind::Closed, "the client was closed");
        self.settle(Err(closed), |_, never: Infallible| match never {});
    }
}

/// Starts a call and returns a promise of its result.
pub fn promise<'env, T, J>(
    env: &'env Env,
    call: embed::Result<Pending<T>>,
    convert: impl FnOnce(Env, T) -> napi::Result<J> + Send + 'static,
) -> Result<Object<'env>>
where
    T: Send + 'static,
    J: ToNapiValue + 'static,
{
    let call = call.map_err(failure)?;
    let (mut deferred, promise) = Deferred::new(env)?;
    // If the client is closed, the call does not start and drops the deferred, which rejects the promise.
    let _ = call.then(move |result| deferred.settle(result, convert));
    Ok(promise)
}
