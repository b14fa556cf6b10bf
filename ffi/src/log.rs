//! Log records, passed to a callback of the program.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use discover_core::embed::{Level, LogSink, Result, set_log};

use crate::args::{Args, c_string};
use crate::error::discover_error;
use crate::event::{UserData, discover_destroy_fn};
use crate::fallible_call::try_call;
use crate::status::{constant_name, discover_status};

/// A fault of the library itself.
pub const DISCOVER_LEVEL_ERROR: i32 = 1;
/// A problem that the library is handling.
pub const DISCOVER_LEVEL_WARN: i32 = 2;
/// Normal operation: connections and registrations.
pub const DISCOVER_LEVEL_INFO: i32 = 3;
/// Details for finding a fault.
pub const DISCOVER_LEVEL_DEBUG: i32 = 4;
/// Everything.
pub const DISCOVER_LEVEL_TRACE: i32 = 5;

const LEVEL_NAMES: [&CStr; 5] = [c"error", c"warn", c"info", c"debug", c"trace"];

/// A callback for log records: the level (one of DISCOVER_LEVEL_...), the part of the library that logs,
/// and the text. Both strings are borrowed until the callback returns.
pub type discover_log_fn = Option<
    unsafe extern "C" fn(
        level: i32,
        target: *const c_char,
        text: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// Returns the name of a log level: "error", "warn", "info", "debug", "trace"; "unknown" for any other
/// number.
///
/// level  one of DISCOVER_LEVEL_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_level_name(level: i32) -> *const c_char {
    constant_name(level, &LEVEL_NAMES)
}

/// Sets the log callback of the process, replacing any previous one. It receives the records of this level
/// and of more severe ones.
///
/// When the call returns DISCOVER_OK, the previous callback has returned from its last call and its destroy
/// function has been called, unless discover_log_set() is called from inside that callback.
///
/// level                              one of DISCOVER_LEVEL_...
/// on_record                          called on a thread of its own, one record at a time; must not
///                                    throw or longjmp; NULL for no log. If it is too slow, records
///                                    are dropped
/// user_data  [in, taken, optional]   passed to on_record, and finally to destroy
/// destroy                            called exactly once, whatever the result: on failure, or without
///                                    on_record, before the call returns; otherwise on the thread of
///                                    on_record after its last call; may be NULL
/// error      [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown level, DISCOVER_ERR_RESOURCE if the log thread
/// cannot be started.
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_log_set(
    level: i32,
    on_record: discover_log_fn,
    user_data: *mut c_void,
    destroy: discover_destroy_fn,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // Created before anything can fail, because dropping it calls destroy.
    let user_data = UserData::new(user_data, destroy);
    try_call("discover_log_set", error, |args| {
        let level = parse_level(args, level)?;
        let sink = on_record.map(|on_record| -> Box<dyn LogSink> {
            Box::new(LogCallback {
                on_record,
                user_data,
            })
        });
        set_log(level, sink)
    })
}

struct LogCallback {
    on_record: unsafe extern "C" fn(i32, *const c_char, *const c_char, *mut c_void),
    user_data: UserData,
}

impl LogSink for LogCallback {
    fn record(&mut self, level: Level, target: &str, text: &str) {
        let (target, text) = (c_string(target), c_string(text));
        let user_data = self.user_data.get();
        // SAFETY: the callback and its argument come from the caller.
        unsafe { (self.on_record)(level_code(level), target.as_ptr(), text.as_ptr(), user_data) };
    }
}

fn level_code(level: Level) -> i32 {
    match level {
        Level::ERROR => DISCOVER_LEVEL_ERROR,
        Level::WARN => DISCOVER_LEVEL_WARN,
        Level::INFO => DISCOVER_LEVEL_INFO,
        Level::DEBUG => DISCOVER_LEVEL_DEBUG,
        Level::TRACE => DISCOVER_LEVEL_TRACE,
    }
}

fn parse_level(args: Args, level: i32) -> Result<Level> {
    let all = [
        Level::ERROR,
        Level::WARN,
        Level::INFO,
        Level::DEBUG,
        Level::TRACE,
    ];
    let known = all.into_iter().find(|known| level_code(*known) == level);
    known.ok_or_else(|| {
        args.invalid(format_args!(
            "level {level} is not one of DISCOVER_LEVEL_..."
        ))
    })
}
