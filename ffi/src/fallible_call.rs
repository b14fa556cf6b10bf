//! Calls that return a status: they check arguments, catch panics and write the out parameters.

use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::Result;

use crate::args::Args;
use crate::boundary::catch_panic;
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

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::embed::{Error, ErrorKind};

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
