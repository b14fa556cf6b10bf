//! What a set was at one moment.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::embed::{OfflineInstance, OfflineReason, Snapshot};

use crate::error::discover_error;
use crate::guard::{read, release};
use crate::instance::discover_instance;
use crate::status::name_of;

/// The whole truth of one moment: it never changes, and stays for as long as it is held, also when
/// the client is closed.
///
/// Release: discover_snapshot_free(). Threads: any number at once.
#[cfg_attr(not(cbindgen), repr(transparent))]
pub struct discover_snapshot(Snapshot);

impl discover_snapshot {
    /// For the caller to own: a counted reference as it is, nothing is copied.
    pub(crate) fn give(snapshot: Arc<Snapshot>) -> *mut discover_snapshot {
        Arc::into_raw(snapshot).cast_mut().cast()
    }
}

/// The registry told so as it happened: unregistered, or its TTL ran out.
pub const DISCOVER_DEPARTURE_REMOVED: i32 = 1;
/// It was not there any more when the registry could be read again.
pub const DISCOVER_DEPARTURE_MISSING: i32 = 2;

const NAMES: [&CStr; 2] = [c"removed", c"missing"];

fn number(departure: OfflineReason) -> i32 {
    match departure {
        OfflineReason::Removed => DISCOVER_DEPARTURE_REMOVED,
        OfflineReason::Missing => DISCOVER_DEPARTURE_MISSING,
    }
}

/// The name of a departure: "removed", "missing"; "unknown" for any other number.
///
/// departure  one of DISCOVER_DEPARTURE_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_departure_name(departure: i32) -> *const c_char {
    name_of(departure, &NAMES)
}

/// How many instances are online; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_online_count(snapshot: Option<&discover_snapshot>) -> usize {
    read(0, || Some(snapshot?.0.online().len()))
}

/// One of those online, oldest first; NULL from discover_snapshot_online_count() on.
///
/// snapshot  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_online(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> *const discover_instance {
    read(ptr::null(), || {
        Some(discover_instance::lend(snapshot?.0.online().get(index)?))
    })
}

/// How many of those recently gone are remembered; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_count(snapshot: Option<&discover_snapshot>) -> usize {
    read(0, || Some(snapshot?.0.offline().len()))
}

/// One of those recently gone, as it was last seen, in the order in which they went; NULL from
/// discover_snapshot_offline_count() on.
///
/// snapshot  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> *const discover_instance {
    read(ptr::null(), || {
        Some(discover_instance::lend(
            &departed(snapshot, index)?.instance,
        ))
    })
}

/// When its going was noticed, in milliseconds since 1970 UTC; 0 where discover_snapshot_offline()
/// is NULL.
///
/// snapshot  [in, borrowed]
/// index                     counted from 0
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_since_ms(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> i64 {
    read(0, || Some(milliseconds(departed(snapshot, index)?.at)))
}

/// How its going was noticed: one of DISCOVER_DEPARTURE_...; 0 where discover_snapshot_offline() is
/// NULL.
///
/// snapshot  [in, borrowed]
/// index                     counted from 0
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_offline_departure(
    snapshot: Option<&discover_snapshot>,
    index: usize,
) -> i32 {
    read(0, || Some(number(departed(snapshot, index)?.reason)))
}

/// The leader, which is the oldest instance online; NULL if there is none.
///
/// snapshot  [in, borrowed]
///
/// Returns [borrowed until the snapshot is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_leader(
    snapshot: Option<&discover_snapshot>,
) -> *const discover_instance {
    read(ptr::null(), || {
        Some(discover_instance::lend(snapshot?.0.leader()?))
    })
}

/// A number that grows with each change of the set, so that two snapshots are quickly compared; 0 for
/// NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_version(snapshot: Option<&discover_snapshot>) -> u64 {
    read(0, || Some(snapshot?.0.version()))
}

/// The registry's own revision; 0 before the first, where the registry has none, and for NULL. Never
/// lower within an epoch.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_revision(snapshot: Option<&discover_snapshot>) -> u64 {
    read(0, || Some(snapshot?.0.revision()))
}

/// Which history of the registry the revision belongs to: grows when the registry turns out to be
/// another than before, restored from a backup for instance; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_epoch(snapshot: Option<&discover_snapshot>) -> u64 {
    read(0, || Some(snapshot?.0.epoch()))
}

/// How many records of the service could not be read, and were left out; 0 for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_invalid_count(snapshot: Option<&discover_snapshot>) -> usize {
    read(0, || Some(snapshot?.0.invalid()))
}

/// Whether the set was ever received; false for NULL. Before that, nobody being online means nothing.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_is_ready(snapshot: Option<&discover_snapshot>) -> bool {
    read(false, || Some(snapshot?.0.is_ready()))
}

/// Whether this is what the registry has, as far as anybody can know; false for NULL.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_is_current(snapshot: Option<&discover_snapshot>) -> bool {
    read(false, || Some(snapshot?.0.is_current()))
}

/// Why the registry is lost; NULL if it is not.
///
/// snapshot  [in, borrowed]
///
/// Returns [owned]. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_take_fault(
    snapshot: Option<&discover_snapshot>,
) -> *mut discover_error {
    read(ptr::null_mut(), || {
        Some(discover_error::give(Some(&snapshot?.0.fault()?.error)))
    })
}

/// Since when the registry is lost, in milliseconds since 1970 UTC; 0 if it is not.
///
/// snapshot  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_snapshot_fault_since_ms(snapshot: Option<&discover_snapshot>) -> i64 {
    read(0, || Some(milliseconds(snapshot?.0.fault()?.since)))
}

/// Releases a snapshot, and with it the instances borrowed from it.
///
/// snapshot  [in, taken, optional]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_snapshot_free(snapshot: *mut discover_snapshot) {
    let snapshot: *const Snapshot = snapshot.cast();
    // SAFETY: not NULL, it is a reference that was given to the caller, who now gives it back.
    release((!snapshot.is_null()).then(|| unsafe { Arc::from_raw(snapshot) }));
}

fn departed(snapshot: Option<&discover_snapshot>, index: usize) -> Option<&OfflineInstance> {
    snapshot?.0.offline().get(index)
}

/// Since 1970 UTC.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departures_are_named_as_everywhere() {
        for departure in [OfflineReason::Removed, OfflineReason::Missing] {
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_departure_name(number(departure))) };
            assert_eq!(name.to_str(), Ok(departure.name()));
        }
    }
}
