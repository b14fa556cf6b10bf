//! Snapshots: the contents of a set at one moment.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{OfflineInstance, OfflineReason, Snapshot};

use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::instance::discover_instance;
use crate::status::constant_name;

/// The contents of a set at one moment. A snapshot is immutable and stays valid until it is released, even
/// after the client is closed.
///
/// Release: discover_snapshot_free(). Threads: any number at once.
#[cfg_attr(not(cbindgen), repr(transparent))]
pub struct discover_snapshot(Snapshot);

impl discover_snapshot {
    /// A counted reference that the caller owns. No data is copied.
    pub(crate) fn owned_ptr(snapshot: Arc<Snapshot>) -> *mut discover_snapshot {
        Arc::into_raw(snapshot).cast_mut().cast()
    }
}

/// The registry reported the removal as it happened: the instance was unregistered, or its TTL expired.
pub const DISCOVER_OFFLINE_REASON_REMOVED: i32 = 1;
/// The instance was missing when the registry could be read again after a loss of the connection.
pub const DISCOVER_OFFLINE_REASON_MISSING: i32 = 2;

const OFFLINE_REASON_NAMES: [&CStr; 2] = [c"removed", c"missing"];

fn reason_code(reason: OfflineReason) -> i32 {
    match reason {
        OfflineReason::Removed => DISCOVER_OFFLINE_REASON_REMOVED,
        OfflineReason::Missing => DISCOVER_OFFLINE_REASON_MISSING,
    }
}

/// Returns the name of an offline reason: "removed", "missing"; "unknown" for any other number.
///
/// reason  one of DISCOVER_OFFLINE_REASON_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_offline_reason_name(reason: i32) -> *const c_char {
    constant_name(reason, &OFFLINE_REASON_NAMES)
}

/// Returns the number of instances online; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_online_count(snapshot: Option<&discover_snapshot>) -> usize {
    value_or(0, || Some(snapshot?.0.online().len()))
}

/// Returns an instance that is online, oldest first; NULL if the index is out of range.
///
/// snapshot  [in, borrowed]
/// index                     from 0 to discover_snapshot_online_count() - 1
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_online(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> *const discover_instance {
    value_or(ptr::null(), || {
        Some(discover_instance::borrowed_ptr(
            snapshot?.0.online().get(index)?,
        ))
    })
}

/// Returns the number of instances that recently went offline; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_count(snapshot: Option<&discover_snapshot>) -> usize {
    value_or(0, || Some(snapshot?.0.offline().len()))
}

/// Returns the last known state of an instance that recently went offline, in the order of going offline;
/// NULL if the index is out of range.
///
/// snapshot  [in, borrowed]
/// index                     from 0 to discover_snapshot_offline_count() - 1
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> *const discover_instance {
    value_or(ptr::null(), || {
        Some(discover_instance::borrowed_ptr(
            &offline_instance(snapshot, index)?.instance,
        ))
    })
}

/// Returns when the client noticed that an instance went offline, in milliseconds since 1970 UTC; 0 if the
/// index is out of range.
///
/// snapshot  [in, borrowed]
/// index                     from 0 to discover_snapshot_offline_count() - 1
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_at_ms(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> i64 {
    value_or(0, || Some(unix_ms(offline_instance(snapshot, index)?.at)))
}

/// Returns how the client noticed that an instance went offline: one of DISCOVER_OFFLINE_REASON_...; 0 if
/// the index is out of range.
///
/// snapshot  [in, borrowed]
/// index                     from 0 to discover_snapshot_offline_count() - 1
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_reason(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> i32 {
    value_or(0, || {
        Some(reason_code(offline_instance(snapshot, index)?.reason))
    })
}

/// Returns the leader, which is the oldest instance online; NULL if there is none.
///
/// snapshot  [in, borrowed]
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_leader(
    snapshot: Option<&discover_snapshot>,
) -> *const discover_instance {
    value_or(ptr::null(), || {
        Some(discover_instance::borrowed_ptr(snapshot?.0.leader()?))
    })
}

/// Returns the version of the set, which grows with each change, so that two snapshots can be compared
/// quickly; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_version(snapshot: Option<&discover_snapshot>) -> u64 {
    value_or(0, || Some(snapshot?.0.version()))
}

/// Returns the registry's own revision, which never decreases within an epoch; 0 before the first read, for
/// registries without revisions, and for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_revision(snapshot: Option<&discover_snapshot>) -> u64 {
    value_or(0, || Some(snapshot?.0.revision()))
}

/// Returns the epoch of the registry, to which the revision belongs; 0 for NULL. The epoch grows when the
/// registry has another history than before, for example after it was restored from a backup.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_epoch(snapshot: Option<&discover_snapshot>) -> u64 {
    value_or(0, || Some(snapshot?.0.epoch()))
}

/// Returns the number of malformed records of the service, which are left out of the set; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_invalid_count(snapshot: Option<&discover_snapshot>) -> usize {
    value_or(0, || Some(snapshot?.0.invalid()))
}

/// Returns true if the set has been received at least once; false for NULL. Before that, an empty set means
/// nothing.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_is_ready(snapshot: Option<&discover_snapshot>) -> bool {
    value_or(false, || Some(snapshot?.0.is_ready()))
}

/// Returns true if the snapshot matches the registry, as far as the client knows; false for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_is_current(snapshot: Option<&discover_snapshot>) -> bool {
    value_or(false, || Some(snapshot?.0.is_current()))
}

/// Returns why the connection to the registry is lost; NULL if it is not lost.
///
/// snapshot  [in, borrowed]
///
/// Returns [owned]. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_take_fault(
    snapshot: Option<&discover_snapshot>,
) -> *mut discover_error {
    value_or(ptr::null_mut(), || {
        Some(discover_error::owned_ptr(Some(&snapshot?.0.fault()?.error)))
    })
}

/// Returns since when the connection to the registry is lost, in milliseconds since 1970 UTC; 0 if it is
/// not lost.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_fault_since_ms(snapshot: Option<&discover_snapshot>) -> i64 {
    value_or(0, || Some(unix_ms(snapshot?.0.fault()?.since)))
}

/// Releases a snapshot, and with it the instances borrowed from it.
///
/// snapshot  [in, taken, optional]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_snapshot_free(snapshot: *mut discover_snapshot) {
    let snapshot: *const Snapshot = snapshot.cast();
    // SAFETY: if not NULL, it is a counted reference that the caller owned and now returns.
    release((!snapshot.is_null()).then(|| unsafe { Arc::from_raw(snapshot) }));
}

fn offline_instance(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> Option<&OfflineInstance> {
    snapshot?.0.offline().get(index)
}

/// Milliseconds since 1970 UTC.
fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_reasons_are_have_the_names_of_the_core() {
        for reason in [OfflineReason::Removed, OfflineReason::Missing] {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_offline_reason_name(reason_code(reason))) };
            assert_eq!(name.to_str(), Ok(reason.name()));
        }
    }
}
