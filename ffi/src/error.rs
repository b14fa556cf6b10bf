//! Error objects.

use std::ffi::{CString, c_char};
use std::ptr;

use discover_core::embed::{Error, ErrorKind};

use crate::args::c_string;
use crate::boundary::{release, value_or};
use crate::status::{DISCOVER_OK, discover_status};

/// A failure: a status for the program and a message for people.
///
/// Release: discover_error_free(). Threads: one at a time.
pub struct discover_error {
    kind: ErrorKind,
    pub(crate) message: CString,
}

impl discover_error {
    pub(crate) fn new(error: &Error) -> discover_error {
        discover_error {
            kind: error.kind(),
            message: c_string(&error.report()),
        }
    }

    /// A pointer to an error that the caller owns; NULL without an error.
    pub(crate) fn owned_ptr(error: Option<&Error>) -> *mut discover_error {
        let object = |error| Box::into_raw(Box::new(discover_error::new(error)));
        error.map_or(ptr::null_mut(), object)
    }
}

/// Returns the status of the failed call; DISCOVER_OK for NULL.
///
/// error  [in, borrowed, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_status(error: Option<&discover_error>) -> discover_status {
    value_or(DISCOVER_OK, || Some(error?.kind.code()))
}

/// Returns the message: the operation, the object and the cause, with underlying causes after colons; ""
/// for NULL. It never contains a password or token.
///
/// error  [in, borrowed, optional]
///
/// Returns [borrowed until the error is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_message(error: Option<&discover_error>) -> *const c_char {
    value_or(c"".as_ptr(), || Some(error?.message.as_ptr()))
}

/// Returns true if the same call with the same arguments may succeed later; false for NULL.
///
/// error  [in, borrowed, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_is_retriable(error: Option<&discover_error>) -> bool {
    value_or(false, || Some(error?.kind.is_retriable()))
}

/// Releases an error.
///
/// error  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_free(error: Option<Box<discover_error>>) {
    release(error);
}
