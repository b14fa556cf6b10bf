//! A registration that is kept alive.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::{LeaseHandle, Standing};

use crate::error::discover_error;
use crate::given::{attributes, c_string, given, timeout};
use crate::guard::{call, read, release};
use crate::instance::discover_instance;
use crate::status::{discover_status, name_of};

/// A registration that is kept alive until it is released, its client is closed or the process dies.
///
/// Release: discover_lease_release(). Threads: any number at once; release once.
pub struct discover_lease {
    lease: LeaseHandle,
    service: CString,
    id: CString,
    address: CString,
}

impl discover_lease {
    pub(crate) fn give(lease: LeaseHandle) -> *mut discover_lease {
        Box::into_raw(Box::new(discover_lease {
            service: c_string(lease.service().as_str()),
            id: c_string(&lease.id()),
            address: c_string(&lease.address()),
            lease,
        }))
    }

    pub(crate) fn handle(&self) -> &LeaseHandle {
        &self.lease
    }
}

/// The instance is present, as far as is known.
pub const DISCOVER_STANDING_LIVE: i32 = 1;
/// The registry has not heard of the instance for a whole TTL, so others may not see it. It is being
/// put back.
pub const DISCOVER_STANDING_LAPSED: i32 = 2;
/// Another owner has taken over the id. It is left alone.
pub const DISCOVER_STANDING_REPLACED: i32 = 3;
/// Unregistered.
pub const DISCOVER_STANDING_RELEASED: i32 = 4;

const NAMES: [&CStr; 4] = [c"live", c"lapsed", c"replaced", c"released"];

pub(crate) fn number(standing: &Standing) -> i32 {
    match standing {
        Standing::Live => DISCOVER_STANDING_LIVE,
        Standing::Lapsed(_) => DISCOVER_STANDING_LAPSED,
        Standing::Replaced(_) => DISCOVER_STANDING_REPLACED,
        Standing::Released => DISCOVER_STANDING_RELEASED,
    }
}

/// The name of a standing: "live", "lapsed", "replaced", "released"; "unknown" for any other number.
///
/// standing  one of DISCOVER_STANDING_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_standing_name(standing: i32) -> *const c_char {
    name_of(standing, &NAMES)
}

/// Says "I am alive" now. The library does it by itself, unless the registration was set to manual
/// heartbeats; then this must happen within each TTL. An instance that had lapsed is put back.
///
/// lease       [in, borrowed]
/// timeout_ms                          when to stop waiting, or DISCOVER_NO_TIMEOUT;
///                                     the library goes on
/// error       [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_heartbeat(
    lease: Option<&discover_lease>,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let pending = given(lease, "lease")?.lease.heartbeat()?;
        pending.within(timeout(timeout_ms), "heartbeat").wait()
    })
}

/// Replaces all attributes. When it fails, the old ones hold; after DISCOVER_ERR_TIMEOUT it is not
/// known which.
///
/// lease       [in, borrowed]
/// names       [in, borrowed, optional]  count names; may be NULL if count is 0
/// values      [in, borrowed, optional]  count values, in the order of the names
/// count                                 how many
/// timeout_ms                            when to stop waiting, or DISCOVER_NO_TIMEOUT
/// error       [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_lease_update(
    lease: Option<&discover_lease>,
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let lease = given(lease, "lease")?;
        // SAFETY: arrays of strings of the caller's.
        let attributes = unsafe { attributes(names, values, count) }?;
        let pending = lease.lease.update(attributes)?;
        pending.within(timeout(timeout_ms), "update").wait()
    })
}

/// Takes the instance away; others see it go at once. Doing it again is no error. The lease still needs
/// its release.
///
/// lease       [in, borrowed]
/// timeout_ms                          when to stop waiting, or DISCOVER_NO_TIMEOUT;
///                                     the library goes on
/// error       [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_unregister(
    lease: Option<&discover_lease>,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let pending = given(lease, "lease")?.lease.unregister()?;
        pending.within(timeout(timeout_ms), "unregister").wait()
    })
}

/// The service; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_service(lease: Option<&discover_lease>) -> *const c_char {
    read(ptr::null(), || Some(lease?.service.as_ptr()))
}

/// The id under which others see the instance; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_id(lease: Option<&discover_lease>) -> *const c_char {
    read(ptr::null(), || Some(lease?.id.as_ptr()))
}

/// The address under which others see the instance: host:port, IPv6 in brackets; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_address(lease: Option<&discover_lease>) -> *const c_char {
    read(ptr::null(), || Some(lease?.address.as_ptr()))
}

/// The instance as others see it, but for when it came online. Its attributes are those registered or
/// updated, with what was taken over since from what the service says to all of its registrations (with
/// layout=scalingo the credentials); discover_lease_on_standing() tells that. NULL for NULL and in a
/// forked child.
///
/// lease  [in, borrowed]
///
/// Returns [owned]. Release: discover_instance_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_instance(
    lease: Option<&discover_lease>,
) -> *mut discover_instance {
    read(ptr::null_mut(), || {
        Some(discover_instance::give(lease?.lease.instance().ok()?))
    })
}

/// How the registration stands: one of DISCOVER_STANDING_...; 0 for NULL and in a forked child.
///
/// lease   [in, borrowed]
/// reason  [out, owned, optional]  why it is lapsed or replaced, else NULL.
///                                 Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_standing(
    lease: Option<&discover_lease>,
    reason: Option<&mut MaybeUninit<*mut discover_error>>,
) -> i32 {
    let mut standing = 0;
    call(reason, || {
        let now = given(lease, "lease")?.lease.standing()?;
        standing = number(&now);
        now.error().map_or(Ok(()), |error| Err(error.clone()))
    });
    standing
}

/// Unregisters, without waiting for the registry, and releases the lease.
///
/// lease  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_release(lease: Option<Box<discover_lease>>) {
    release(lease);
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::embed::{Error, ErrorKind};

    #[test]
    fn standings_are_named_as_everywhere() {
        let error = Error::new(ErrorKind::LeaseLost, "gone");
        let all = [
            Standing::Live,
            Standing::Lapsed(error.clone()),
            Standing::Replaced(error),
            Standing::Released,
        ];
        for standing in all {
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_standing_name(number(&standing))) };
            assert_eq!(name.to_str(), Ok(standing.name()));
        }
    }
}
