//! The version of the loaded library, for comparison with the header that a program was compiled with.

use std::ffi::c_char;

/// Returns the version of the loaded library in the form of DISCOVER_VERSION_NUMBER, which is the version
/// of the header.
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_version_number() -> u32 {
    const {
        let major = number(env!("CARGO_PKG_VERSION_MAJOR"));
        let minor = number(env!("CARGO_PKG_VERSION_MINOR"));
        let patch = number(env!("CARGO_PKG_VERSION_PATCH"));
        major * 1_000_000 + minor * 1_000 + patch
    }
}

/// Returns the version of the loaded library as text, for example "1.2.3".
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => 0,
    }
}
