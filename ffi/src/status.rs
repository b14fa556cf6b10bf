//! Status codes. Their numbers and names are those of the core's error kinds; the constants in the
//! header are made from the same table.

use std::ffi::{CStr, c_char};

use discover_core::embed::ErrorKind;

use crate::guard::read;

/// How a call ended: DISCOVER_OK, or a number of DISCOVER_ERR_... .
///
/// Numbers never change and are never used again. A later version may bring new ones, so treat a
/// number that you do not know as a failure.
pub type discover_status = i32;

/// Success; in the header it stands before the table.
pub(crate) const DISCOVER_OK: discover_status = 0;

/// The name of a status: "ok", "timeout", "lease_lost", ...; "unknown" for any other number.
///
/// status  one of DISCOVER_OK and DISCOVER_ERR_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_status_name(status: discover_status) -> *const c_char {
    if status == DISCOVER_OK {
        return c"ok".as_ptr();
    }
    read(UNKNOWN.as_ptr(), || {
        Some(NAMES[kind(status)?].as_ptr().cast())
    })
}

/// Whether the same call may succeed later, its arguments unchanged.
///
/// status  one of DISCOVER_OK and DISCOVER_ERR_...
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_status_is_retriable(status: discover_status) -> bool {
    read(false, || Some(ErrorKind::ALL[kind(status)?].is_retriable()))
}

/// The name of what has none.
const UNKNOWN: &CStr = c"unknown";

/// The name of a constant: `names` are those of 1, 2, 3...
pub(crate) fn name_of(number: i32, names: &[&'static CStr]) -> *const c_char {
    read(UNKNOWN.as_ptr(), || {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        Some(names.get(at)?.as_ptr())
    })
}

/// Where in the table of kinds a status is.
fn kind(status: discover_status) -> Option<usize> {
    ErrorKind::ALL.iter().position(|kind| kind.code() == status)
}

/// Longer than any name of a kind.
const ROOM: usize = 32;

/// The names of all kinds, in their order, each followed by a NUL; made by the compiler.
static NAMES: [[u8; ROOM]; ErrorKind::ALL.len()] = {
    let mut names = [[0; ROOM]; ErrorKind::ALL.len()];
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
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_status_name(kind.code())) };
            assert_eq!(name.to_str(), Ok(kind.name()));
            assert_eq!(
                discover_status_is_retriable(kind.code()),
                kind.is_retriable()
            );
        }
    }
}
