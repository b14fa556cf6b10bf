//! Status codes, which have the numbers and names of the core's error kinds. The constants in the header are
//! generated from the same table.

use std::ffi::{CStr, c_char};

use discover_core::embed::ErrorKind;

use crate::boundary::value_or;

/// The result of a call: DISCOVER_OK or one of DISCOVER_ERR_...
///
/// Numbers never change and are never reused. A later version may add numbers, so treat an unknown number
/// as a failure.
pub type discover_status = i32;

/// Success. The header declares it before the table of errors.
pub(crate) const DISCOVER_OK: discover_status = 0;

/// Returns the name of a status: "ok", "timeout", "lease_lost" and so on; "unknown" for any other number.
///
/// status  one of DISCOVER_OK and DISCOVER_ERR_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_status_name(status: discover_status) -> *const c_char {
    if status == DISCOVER_OK {
        return c"ok".as_ptr();
    }
    value_or(UNKNOWN_NAME.as_ptr(), || {
        Some(STATUS_NAMES[kind_index(status)?].as_ptr().cast())
    })
}

/// Returns true if the same call with the same arguments may succeed later.
///
/// status  one of DISCOVER_OK and DISCOVER_ERR_...
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_status_is_retriable(status: discover_status) -> bool {
    value_or(false, || {
        Some(ErrorKind::ALL[kind_index(status)?].is_retriable())
    })
}

/// The name of an unknown number.
const UNKNOWN_NAME: &CStr = c"unknown";

/// The name of a constant; `names` belong to the numbers 1, 2, 3 and so on.
pub(crate) fn constant_name(number: i32, names: &[&'static CStr]) -> *const c_char {
    value_or(UNKNOWN_NAME.as_ptr(), || {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        Some(names.get(at)?.as_ptr())
    })
}

/// The index of a status in the table of error kinds.
fn kind_index(status: discover_status) -> Option<usize> {
    ErrorKind::ALL.iter().position(|kind| kind.code() == status)
}

/// The size of a name of an error kind, with its NUL; longer than any of them.
const MAX_NAME_BYTES: usize = 32;

/// The NUL-terminated names of all error kinds, in their order, computed at compile time.
static STATUS_NAMES: [[u8; MAX_NAME_BYTES]; ErrorKind::ALL.len()] = {
    let mut names = [[0; MAX_NAME_BYTES]; ErrorKind::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        let name = ErrorKind::ALL[at].name().as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            names[at][byte] = name[byte];
            byte += 1;
        }
        at += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_name_and_retriability() {
        for kind in ErrorKind::ALL {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_status_name(kind.code())) };
            assert_eq!(name.to_str(), Ok(kind.name()));
            assert_eq!(
                discover_status_is_retriable(kind.code()),
                kind.is_retriable()
            );
        }
    }
}
