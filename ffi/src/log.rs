//! The library's log, for the program's own.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use discover_core::embed::{Error, Level, LogSink, Result, set_log};

use crate::error::discover_error;
use crate::event::{UserData, discover_destroy_fn};
use crate::given::c_string;
use crate::guard::call;
use crate::status::{discover_status, name_of};

/// Something is wrong with the library itself.
pub const DISCOVER_LEVEL_ERROR: i32 = 1;
/// Something is wrong, and the library is dealing with it.
pub const DISCOVER_LEVEL_WARN: i32 = 2;
/// What one wants to have read afterwards.
pub const DISCOVER_LEVEL_INFO: i32 = 3;
/// What helps to find a fault.
pub const DISCOVER_LEVEL_DEBUG: i32 = 4;
/// Everything.
pub const DISCOVER_LEVEL_TRACE: i32 = 5;

const NAMES: [&CStr; 5] = [c"error", c"warn", c"info", c"debug", c"trace"];

/// Is told a record: its level (one of DISCOVER_LEVEL_...), the part of the library that it comes from,
/// and its text. Both are borrowed until it returns.
pub type discover_log_fn = Option<
    unsafe extern "C" fn(
        level: i32,
        target: *const c_char,
        text: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// The name of a level: "error", "warn", "info", "debug", "trace"; "unknown" for any other number.
///
/// level  one of DISCOVER_LEVEL_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_level_name(level: i32) -> *const c_char {
    name_of(level, &NAMES)
}

/// Has the library's log records of this level and graver handed to on_record, in place of any function
/// before, or to nobody. There is one log for the whole process. When it returns DISCOVER_OK, the
/// function before has had its last call and its destroy, unless this is called from inside it.
///
/// level                              one of DISCOVER_LEVEL_...
/// on_record                          called on a thread of its own, one record at a time; must not
///                                    throw or longjmp; NULL for no log. If it is too slow, records
///                                    are dropped
/// user_data  [in, taken, optional]   handed to on_record, and to destroy in the end
/// destroy                            called exactly once, whatever the result: on failure, or without
///                                    on_record, before the call returns; otherwise on the thread of
///                                    on_record after its last call; may be NULL
/// error      [out, owned, optional]  why it failed. Release: discover_error_free()
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
    // Made before anything can fail: dropping it is what calls destroy.
    let user_data = UserData::new(user_data, destroy);
    call(error, || {
        let level = parse(level)?;
        let sink = on_record.map(|on_record| -> Box<dyn LogSink> {
            Box::new(Outlet {
                on_record,
                user_data,
            })
        });
        set_log(level, sink)
    })
}

struct Outlet {
    on_record: unsafe extern "C" fn(i32, *const c_char, *const c_char, *mut c_void),
    user_data: UserData,
}

impl LogSink for Outlet {
    fn record(&mut self, level: Level, target: &str, text: &str) {
        let (target, text) = (c_string(target), c_string(text));
        let user_data = self.user_data.get();
        // SAFETY: a function of the caller's, with the argument that came with it.
        unsafe { (self.on_record)(number(level), target.as_ptr(), text.as_ptr(), user_data) };
    }
}

fn number(level: Level) -> i32 {
    match level {
        Level::ERROR => DISCOVER_LEVEL_ERROR,
        Level::WARN => DISCOVER_LEVEL_WARN,
        Level::INFO => DISCOVER_LEVEL_INFO,
        Level::DEBUG => DISCOVER_LEVEL_DEBUG,
        Level::TRACE => DISCOVER_LEVEL_TRACE,
    }
}

fn parse(level: i32) -> Result<Level> {
    let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let known = all.into_iter().find(|known| number(*known) == level);
    known.ok_or_else(|| Error::invalid(format!("level {level} is none of DISCOVER_LEVEL_...")))
}
