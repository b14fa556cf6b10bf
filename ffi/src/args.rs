//! Checks of the arguments that C callers pass. Errors name the function and the argument as the header does.

use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::time::Duration;

use discover_core::embed::{Attributes, Error, Result};

/// No timeout: the call blocks until it has a result, or as the function states.
pub const DISCOVER_NO_TIMEOUT: u32 = u32::MAX;

/// Checks the arguments of one call.
#[derive(Clone, Copy)]
pub(crate) struct Args {
    /// The name of the function, for error messages.
    function: &'static str,
}

impl Args {
    pub(crate) fn of(function: &'static str) -> Args {
        Args { function }
    }

    /// An error that names the function.
    pub(crate) fn invalid(self, cause: impl Display) -> Error {
        Error::invalid(format!("{}: {cause}", self.function))
    }

    /// A value that must not be NULL.
    pub(crate) fn required<T>(self, value: Option<T>, name: &str) -> Result<T> {
        value.ok_or_else(|| self.invalid(format_args!("{name} is NULL")))
    }

    /// A string that must not be NULL.
    ///
    /// # Safety
    /// `string` is NULL, or NUL-terminated and unchanged for `'a`.
    pub(crate) unsafe fn text<'a>(self, string: *const c_char, name: &str) -> Result<&'a str> {
        // SAFETY: promised by the caller.
        let text = unsafe { self.optional_text(string, name) }?;
        self.required(text, name)
    }

    /// A string that may be NULL.
    ///
    /// # Safety
    /// `string` is NULL, or NUL-terminated and unchanged for `'a`.
    pub(crate) unsafe fn optional_text<'a>(
        self,
        string: *const c_char,
        name: &str,
    ) -> Result<Option<&'a str>> {
        if string.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL, so it is NUL-terminated.
        let bytes = unsafe { CStr::from_ptr(string) };
        let text = bytes.to_str().map_err(|error| {
            let offset = error.valid_up_to();
            self.invalid(format_args!("{name} is not UTF-8 at byte {offset}"))
        })?;
        Ok(Some(text))
    }

    /// An array of strings, none of them NULL. The array itself may be NULL if it is empty.
    ///
    /// # Safety
    /// `array` is NULL or has `count` strings, each NULL or NUL-terminated, and all unchanged for `'a`.
    pub(crate) unsafe fn text_array<'a>(
        self,
        array: *const *const c_char,
        count: usize,
        name: &str,
    ) -> Result<Vec<&'a str>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        self.required((!array.is_null()).then_some(()), name)?;
        // SAFETY: not NULL, so it has `count` elements.
        let strings = unsafe { std::slice::from_raw_parts(array, count) };
        let element = |(index, string): (usize, &*const c_char)| {
            // SAFETY: promised by the caller.
            unsafe { self.text(*string, &format!("{name}[{index}]")) }
        };
        strings.iter().enumerate().map(element).collect()
    }

    /// Attributes that are passed as an array of names and an array of values.
    ///
    /// # Safety
    /// As for [`Args::text_array`], for both arrays.
    pub(crate) unsafe fn attributes(
        self,
        names: *const *const c_char,
        values: *const *const c_char,
        count: usize,
    ) -> Result<Attributes> {
        // SAFETY: promised by the caller.
        let (names, values) = unsafe {
            (
                self.text_array(names, count, "names")?,
                self.text_array(values, count, "values")?,
            )
        };
        let pairs = names.into_iter().zip(values);
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// Returns true if a string equals `expected`; false for NULL.
///
/// # Safety
/// `string` is NULL or NUL-terminated.
pub(crate) unsafe fn equals(string: *const c_char, expected: &CStr) -> bool {
    // SAFETY: not NULL, so it is NUL-terminated.
    !string.is_null() && unsafe { CStr::from_ptr(string) } == expected
}

/// The duration of a timeout in milliseconds; `None` for `DISCOVER_NO_TIMEOUT`.
pub(crate) fn timeout_from_ms(timeout_ms: u32) -> Option<Duration> {
    (timeout_ms != DISCOVER_NO_TIMEOUT).then(|| Duration::from_millis(timeout_ms.into()))
}

/// The text as a C string, truncated at the first NUL, which a C program could not see beyond.
pub(crate) fn c_string(text: &str) -> CString {
    let visible = text.split('\0').next().unwrap_or_default();
    CString::new(visible).unwrap_or_default()
}
