//! Errors as objects.

use std::ffi::{CString, c_char};
use std::ptr;

use discover_core::embed::{Error, ErrorKind};

use crate::given::c_string;
use crate::guard::{read, release};
use crate::status::{DISCOVER_OK, discover_status};

/// Why a call failed: a status to act on, and a message to read.
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

    /// For the caller to own; NULL where there is no error.
    pub(crate) fn give(error: Option<&Error>) -> *mut discover_error {
        let object = |error| Box::into_raw(Box::new(discover_error::new(error)));
        error.map_or(ptr::null_mut(), object)
    }
}

/// The status that the call returned; DISCOVER_OK for NULL.
///
/// error  [in, borrowed, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_status(error: Option<&discover_error>) -> discover_status {
    read(DISCOVER_OK, || Some(error?.kind.code()))
}

/// What was wrong, where, what would be right, and the causes after colons; "" for NULL. It never
/// holds a password or token.
///
/// error  [in, borrowed, optional]
///
/// Returns [borrowed until the error is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_message(error: Option<&discover_error>) -> *const c_char {
    read(c"".as_ptr(), || Some(error?.message.as_ptr()))
}

/// Whether the same call may succeed later, its arguments unchanged; false for NULL.
///
/// error  [in, borrowed, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_is_retriable(error: Option<&discover_error>) -> bool {
    read(false, || Some(error?.kind.is_retriable()))
}

/// Releases an error.
///
/// error  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_error_free(error: Option<Box<discover_error>>) {
    release(error);
}
