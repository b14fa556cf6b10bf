//! Log records of the core, for `util.debuglog`.

use discover_core::embed::{Level, LogSink, set_log};
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;

use crate::error::{Result, broken, failure};

type Record = FnArgs<(String, String, String)>;
/// Never keeps the process alive. What does not fit the queue is dropped.
type Tell = ThreadsafeFunction<Record, (), Record, Status, false, true, 1024>;

struct JsLog(Tell);

impl LogSink for JsLog {
    fn record(&mut self, level: Level, target: &str, text: &str) {
        let level = level.as_str().to_lowercase();
        let record = (level, target.to_owned(), text.to_owned()).into();
        let _ = self.0.call(record, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Has `tell` called with each record until `unset_log` or the end of this environment.
#[napi(ts_args_type = "tell: (level: string, target: string, text: string) => void")]
pub fn set_log_to(env: &Env, tell: Function<'_, Record, ()>) -> Result<()> {
    let tell = tell
        .build_threadsafe_function::<Record>()
        .weak::<true>()
        .max_queue_size::<1024>()
        .build()
        .map_err(broken)?;
    // Asked for after the function was made, so done before it ends.
    env.add_env_cleanup_hook((), |()| drop(unset_log()))
        .map_err(broken)?;
    set_log(Level::DEBUG, Some(Box::new(JsLog(tell)))).map_err(failure)
}

#[napi]
pub fn unset_log() -> Result<()> {
    set_log(Level::DEBUG, None).map_err(failure)
}
