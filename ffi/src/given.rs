//! Checks of what callers give. What is wrong is named as it is in the header.

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use discover_core::embed::{Attributes, Error, Result};

/// A timeout that never comes.
pub const DISCOVER_NO_TIMEOUT: u32 = u32::MAX;

/// What must not be NULL.
pub(crate) fn given<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| Error::invalid(format!("{name} is NULL")))
}

/// Whether a string is this one; NULL is none.
///
/// # Safety
/// `string` is NULL, or ends with a NUL.
pub(crate) unsafe fn is(string: *const c_char, known: &CStr) -> bool {
    // SAFETY: where it is not NULL, it ends with a NUL.
    !string.is_null() && unsafe { CStr::from_ptr(string) } == known
}

/// A string that must not be NULL.
///
/// # Safety
/// `string` is NULL, or ends with a NUL and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(string: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: promised by the caller.
    let text = unsafe { optional_text(string, name) }?;
    given(text, name)
}

/// A string that may be NULL.
///
/// # Safety
/// `string` is NULL, or ends with a NUL and stays as it is for `'a`.
pub(crate) unsafe fn optional_text<'a>(
    string: *const c_char,
    name: &str,
) -> Result<Option<&'a str>> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not NULL, so it ends with a NUL.
    let bytes = unsafe { CStr::from_ptr(string) };
    let text = bytes.to_str().map_err(|e| {
        let at = e.valid_up_to();
        Error::invalid(format!("{name} is not UTF-8 at byte {at}"))
    })?;
    Ok(Some(text))
}

/// An array of strings, none of them NULL. It may itself be NULL if it is empty.
///
/// # Safety
/// `array` is NULL or has `count` strings, each NULL or ending with a NUL, that stay as they are for
/// `'a`.
pub(crate) unsafe fn texts<'a>(
    array: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    given((!array.is_null()).then_some(()), name)?;
    // SAFETY: it is not NULL, so it has that many.
    let strings = unsafe { std::slice::from_raw_parts(array, count) };
    let one = |(at, string): (usize, &*const c_char)| {
        // SAFETY: promised by the caller.
        unsafe { text(*string, &format!("{name}[{at}]")) }
    };
    strings.iter().enumerate().map(one).collect()
}

/// A time to wait, unless it is for as long as it takes.
pub(crate) fn timeout(timeout_ms: u32) -> Option<Duration> {
    (timeout_ms != DISCOVER_NO_TIMEOUT).then(|| Duration::from_millis(timeout_ms.into()))
}

/// The string for C. One that holds a NUL, which no C program could see beyond, ends there.
pub(crate) fn c_string(text: &str) -> CString {
    let seen = text.split('\0').next().unwrap_or_default();
    CString::new(seen).unwrap_or_default()
}

/// Attributes as two arrays of strings.
///
/// # Safety
/// As for [`texts`], for both arrays.
pub(crate) unsafe fn attributes(
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
) -> Result<Attributes> {
    // SAFETY: promised by the caller.
    let (names, values) = unsafe {
        (
            texts(names, count, "names")?,
            texts(values, count, "values")?,
        )
    };
    let pairs = names.into_iter().zip(values);
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
