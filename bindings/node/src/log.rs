//! Forwarding of the core's log records to `util.debuglog`.

use discover_core::embed::{Level, LogSink, set_log};
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;

use crate::error::{Result, failure, internal_error};

type LogRecord = FnArgs<(String, String, String)>;
/// A JavaScript callback that does not keep the process alive. If its queue is full, a record is dropped.
type LogCallback = ThreadsafeFunction<LogRecord, (), LogRecord, Status, false, true, 1024>;

struct JsLogSink(LogCallback);

impl LogSink for JsLogSink {
    fn record(&mut self, level: Level, target: &str, text: &str) {
        let level = level.as_str().to_lowercase();
        let record = (level, target.to_owned(), text.to_owned()).into();
        let _ = self.0.call(record, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Calls `callback` with each log record, until `unset_log` or the end of this environment.
#[napi(ts_args_type = "callback: (level: string, target: string, text: string) => void")]
pub fn set_log_to(env: &Env, callback: Function<'_, LogRecord, ()>) -> Result<()> {
    let callback = callback
        .build_threadsafe_function::<LogRecord>()
        .weak::<true>()
        .max_queue_size::<1024>()
        .build()
        .map_err(internal_error)?;
    // Node runs cleanup hooks in reverse order, so the log is unset before the callback is destroyed.
    env.add_env_cleanup_hook((), |()| drop(unset_log()))
        .map_err(internal_error)?;
    set_log(Level::DEBUG, Some(Box::new(JsLogSink(callback)))).map_err(failure)
}

#[napi]
pub fn unset_log() -> Result<()> {
    set_log(Level::DEBUG, None).map_err(failure)
}
