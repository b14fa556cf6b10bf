//! Counters of a client. Names are read by index and values by name, so that new counters break nothing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use discover_core::embed::Metrics;

use crate::args::c_string;
use crate::boundary::value_or;
use crate::client::discover_client;
use crate::error::discover_error;
use crate::fallible_call::try_call;
use crate::status::discover_status;

fn metric_names() -> &'static [CString] {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let all = Metrics::default().fields();
        all.into_iter().map(|(name, _)| c_string(name)).collect()
    })
}

/// Returns the number of counters of a client.
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_metric_count() -> usize {
    value_or(0, || Some(metric_names().len()))
}

/// Returns the name of a counter; NULL if the index is out of range. All counters except lag_ms only grow.
///
///   "reconnects"  connections to the registry after the first one
///   "relists"     complete reads of a service after the first one of each service
///   "resyncs"     detected changes of the registry's history: it was restored or wiped
///   "duplicates"  changes that the registry sent again and that were dropped
///   "mismatches"  comparisons with a complete read that revealed a missed change
///   "invalid"     malformed records, counted each time one was received
///   "restored"    registrations restored after they were lost
///   "lag_ms"      maximum age of what the sets show, in milliseconds: the time since the registry last
///                 sent a progress response; 0 for registries that cannot lose a change, and while
///                 nothing is watched
///
/// A later version may add counters and never renumbers them.
///
/// index  from 0 to discover_metric_count() - 1
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_metric_name(index: usize) -> *const c_char {
    value_or(ptr::null(), || Some(metric_names().get(index)?.as_ptr()))
}

/// Reads the value of a counter since the client was opened. The call does not block.
///
/// client  [in, borrowed]
/// name    [in, borrowed]          one of discover_metric_name()
/// value   [out]                   the value; 0 on failure
/// error   [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_metric(
    client: Option<&discover_client>,
    name: *const c_char,
    value: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let value = value.map(|value| value.write(0));
    try_call("discover_client_metric", error, |args| {
        let value = args.required(value, "value")?;
        let metrics = args.required(client, "client")?.engine().metrics()?;
        // SAFETY: the header requires NUL-terminated strings.
        let name = unsafe { args.text(name, "name") }?;
        let mut fields = metrics.fields().into_iter();
        let found = fields.find(|(field, _)| *field == name);
        let unknown = || {
            args.invalid(format_args!(
                "no metric is named {name:?}; discover_metric_name() lists the names"
            ))
        };
        *value = found.ok_or_else(unknown)?.1;
        Ok(())
    })
}
