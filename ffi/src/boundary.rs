//! The panic boundary around every exported function: no panic unwinds into C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use discover_core::embed::{Error, ErrorKind, Result};

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
pub(crate) fn catch_panic<T>(body: impl FnOnce() -> T) -> Result<T> {
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
    fn a_panic_in_an_infallible_call_returns_the_default() {
        assert_eq!(value_or(7, || [].first().copied()), 7);
        assert_eq!(value_or(7, || std::panic::panic_any(1)), 7);
    }
}
