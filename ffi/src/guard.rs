//! What stands around every function: slots for what goes out, and the boundary that no panic crosses.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

use discover_core::embed::{Error, ErrorKind, Result};

use crate::error::discover_error;
use crate::given::given;
use crate::status::{DISCOVER_OK, discover_status};

/// A place of the caller's for a result. What was in it before may be anything.
pub(crate) type Slot<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// A call without a result but its status.
pub(crate) fn call(
    error: Slot<*mut discover_error>,
    body: impl FnOnce() -> Result<()>,
) -> discover_status {
    let failure = boundary(body).and_then(|done| done).err();
    let status = failure.as_ref().map_or(DISCOVER_OK, |e| e.kind().code());
    if let Some(slot) = error {
        slot.write(discover_error::give(failure.as_ref()));
    }
    status
}

/// A call that makes something for the caller to own. The slot holds NULL unless that succeeds.
pub(crate) fn make<T>(
    out: Slot<*mut T>,
    error: Slot<*mut discover_error>,
    body: impl FnOnce() -> Result<*mut T>,
) -> discover_status {
    let out = out.map(|out| out.write(ptr::null_mut()));
    call(error, || {
        let out = given(out, "out")?;
        *out = body()?;
        Ok(())
    })
}

/// A question that cannot fail. `None`, which is what becomes of a NULL, is answered `otherwise`.
pub(crate) fn read<T>(otherwise: T, body: impl FnOnce() -> Option<T>) -> T {
    boundary(body).ok().flatten().unwrap_or(otherwise)
}

/// Ends the life of something, if there is something.
pub(crate) fn release<T>(owned: Option<T>) {
    read((), || {
        drop(owned);
        Some(())
    });
}

/// Runs `body`. A panic in it, which is a bug of ours, becomes an error.
fn boundary<T>(body: impl FnOnce() -> T) -> Result<T> {
    quiet();
    #[cfg(feature = "inject-panic")]
    let body = crate::cue::before(body);
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let literal = panic.downcast_ref::<&str>().copied();
        let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it did not say what");
        Error::new(ErrorKind::Internal, format!("a bug in libdiscover: {text}"))
    })
}

/// A library does not print: a panic is told to the log, not to standard error.
fn quiet() {
    static ONCE: Once = Once::new();
    if !cfg!(test) {
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_what_it_said() {
        let mut error = MaybeUninit::uninit();
        let broken = || panic!("there is {}", "one");
        let status = call(Some(&mut error), broken);
        assert_eq!(status, ErrorKind::Internal.code());
        // SAFETY: the call has written it, and gives it to us.
        let error = unsafe { Box::from_raw(error.assume_init()) };
        let text = error.message.to_string_lossy();
        assert!(text.ends_with("there is one"), "{text}");
    }

    #[test]
    fn a_panic_in_a_question_is_answered_like_a_null() {
        assert_eq!(read(7, || [].first().copied()), 7);
        assert_eq!(read(7, || std::panic::panic_any(1)), 7);
    }

    #[test]
    fn a_failed_call_leaves_null() {
        let mut out = MaybeUninit::new(ptr::dangling_mut::<u8>());
        let refused = || Err(Error::invalid("no"));
        assert_eq!(make(Some(&mut out), None, refused), 2);
        // SAFETY: it was initialized above.
        assert!(unsafe { out.assume_init() }.is_null());
    }

    #[test]
    fn without_a_slot_nothing_is_made() {
        let unasked = || std::panic::panic_any("made although nobody can have it");
        assert_eq!(make::<u8>(None, None, unasked), 2);
    }
}
