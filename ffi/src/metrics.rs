//! Counters: names by number, values by name, so that a new one changes nothing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use discover_core::embed::{Error, Metrics};

use crate::client::discover_client;
use crate::error::discover_error;
use crate::given::{c_string, given, text};
use crate::guard::{call, read};
use crate::status::discover_status;

fn names() -> &'static [CString] {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let all = Metrics::default().fields();
        all.into_iter().map(|(name, _)| c_string(name)).collect()
    })
}

/// How many counters a client has.
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_metric_count() -> usize {
    read(0, || Some(names().len()))
}

/// The name of a counter; NULL from discover_metric_count() on. All but the last only grow.
///
///   "reconnects"  connections to the registry made after the first
///   "relists"     whole lists read after the first of each service
///   "resyncs"     times the registry turned out to have another history than before: restored, or wiped
///   "duplicates"  changes that the registry sent again, and that were dropped
///   "mismatches"  comparisons with a list that showed that a change had not been told
///   "invalid"     records that could not be read, each time one came
///   "restored"    registrations put back after they were lost
///   "lag_ms"      how old what the sets show may be at most, in milliseconds: since the registry last
///                 gave a sign of life; 0 where nothing can be lost on the way, and while nothing is
///                 followed
///
/// A later version may bring new ones, and moves none.
///
/// index  counted from 0
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_metric_name(index: usize) -> *const c_char {
    read(ptr::null(), || Some(names().get(index)?.as_ptr()))
}

/// The value of a counter of a client, since it was opened. It never waits.
///
/// client  [in, borrowed]
/// name    [in, borrowed]          one of discover_metric_name()
/// value   [out]                   0 on failure
/// error   [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_metric(
    client: Option<&discover_client>,
    name: *const c_char,
    value: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let value = value.map(|value| value.write(0));
    call(error, || {
        let value = given(value, "value")?;
        let metrics = given(client, "client")?.engine().metrics()?;
        // SAFETY: a string of the caller's.
        let name = unsafe { text(name, "name") }?;
        let mut fields = metrics.fields().into_iter();
        let found = fields.find(|(own, _)| *own == name);
        let unknown = || Error::invalid(format!("no metric is called {name:?}"));
        *value = found.ok_or_else(unknown)?.1;
        Ok(())
    })
}
