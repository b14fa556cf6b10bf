//! The boundary around every exported function: out parameters are written, and no panic unwinds into C.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

use discover_core::embed::{Error, ErrorKind, Result};

use crate::args::Args;
use crate::error::discover_error;
use crate::status::{DISCOVER_OK, discover_status};

/// An out parameter. Its previous contents may be uninitialized.
pub(crate) type OutParam<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Runs a call that returns only a status and writes its error, or NULL, to `error`.
pub(crate) fn try_call(
    function: &'static str,
    error: OutParam<*mut discover_error>,
    body: impl FnOnce(Args) -> Result<()>,
) -> discover_status {
    let failure = catch_panic(|| body(Args::of(function)))
        .and_then(|result| result)
        .err();
    let status = failure.as_ref().map_or(DISCOVER_OK, |e| e.kind().code());
    if let Some(slot) = error {
        slot.write(discover_error::owned_ptr(failure.as_ref()));
    }
    status
}

/// Runs a call that creates an object for the caller to own. On failure `out` holds NULL.
pub(crate) fn try_create<T>(
    function: &'static str,
    out: OutParam<*mut T>,
    error: OutParam<*mut discover_error>,
    body: impl FnOnce(Args) -> Result<*mut T>,
) -> discover_status {
    let out = out.map(|out| out.write(ptr::null_mut()));
    try_call(function, error, |args| {
        let out = args.required(out, "out")?;
        *out = body(args)?;
        Ok(())
    })
}

/// Runs a call that cannot fail. Returns `default` for `None`, which a NULL argument leads to, and after a
/// panic.
pub(crate) fn value_or<T>(default: T, body: impl FnOnce() -> Option<T>) -> T {
    catch_panic(body).ok().flatten().unwrap_or(default)
}

/// Drops an object that the caller owned; does nothing for `None`.
pub(crate) fn release<T>(owned: Option<T>) {
    value_or((), || {
        drop(owned);
        Some(())
    });
}

/// Runs `body`. A panic in it, which is a bug of the library, becomes an error.
fn catch_panic<T>(body: impl FnOnce() -> T) -> Result<T> {
    route_panics_to_log();
    #[cfg(feature = "inject-panic")]
    let body = crate::panic_injection::wrap(body);
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let literal = panic.downcast_ref::<&str>().copied();
        let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("panic without a message");
        Error::new(ErrorKind::Internal, format!("a bug in libdiscover: {text}"))
    })
}

/// Sends panic messages to the log instead of standard error, because a library does not print.
fn route_panics_to_log() {
    static ONCE: Once = Once::new();
    if !cfg!(test) {
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let mut error = MaybeUninit::uninit();
        let panics = |_: Args| panic!("there is {}", "one");
        let status = try_call("discover_test", Some(&mut error), panics);
        assert_eq!(status, ErrorKind::Internal.code());
        // SAFETY: the call wrote it, and this test owns it.
        let error = unsafe { Box::from_raw(error.assume_init()) };
        let text = error.message.to_string_lossy();
        assert!(text.ends_with("there is one"), "{text}");
    }

    #[test]
    fn a_panic_in_an_infallible_call_returns_the_default() {
        assert_eq!(value_or(7, || [].first().copied()), 7);
        assert_eq!(value_or(7, || std::panic::panic_any(1)), 7);
    }

    #[test]
    fn a_failed_call_writes_null() {
        let mut out = MaybeUninit::new(ptr::dangling_mut::<u8>());
        let fails = |_: Args| Err(Error::invalid("no"));
        assert_eq!(try_create("discover_test", Some(&mut out), None, fails), 2);
        // SAFETY: it was initialized above.
        assert!(unsafe { out.assume_init() }.is_null());
    }

    #[test]
    fn without_an_out_parameter_no_object_is_created() {
        let unreachable = |_: Args| std::panic::panic_any("created without an owner");
        assert_eq!(
            try_create::<u8>("discover_test", None, None, unreachable),
            2
        );
    }
}
