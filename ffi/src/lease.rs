//! Leases: registrations that the library keeps alive.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::{LeaseHandle, Standing};

use crate::args::{c_string, timeout_from_ms};
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::fallible_call::try_call;
use crate::instance::discover_instance;
use crate::status::{constant_name, discover_status};

/// A registration that the library keeps alive until it is released, its client is closed or the process
/// exits.
///
/// Release: discover_lease_release(). Threads: any number at once; release once.
pub struct discover_lease {
    lease: LeaseHandle,
    service: CString,
    id: CString,
    address: CString,
}

impl discover_lease {
    pub(crate) fn owned_ptr(lease: LeaseHandle) -> *mut discover_lease {
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

/// The instance is registered, as far as the client knows.
pub const DISCOVER_STANDING_LIVE: i32 = 1;
/// The registry has not received a heartbeat for a whole TTL, so other clients may not see the instance.
/// The library is restoring it.
pub const DISCOVER_STANDING_LAPSED: i32 = 2;
/// Another owner has registered the same id. The library does not restore the instance.
pub const DISCOVER_STANDING_REPLACED: i32 = 3;
/// The instance is unregistered.
pub const DISCOVER_STANDING_RELEASED: i32 = 4;

const STANDING_NAMES: [&CStr; 4] = [c"live", c"lapsed", c"replaced", c"released"];

pub(crate) fn standing_code(standing: &Standing) -> i32 {
    match standing {
        Standing::Live => DISCOVER_STANDING_LIVE,
        Standing::Lapsed(_) => DISCOVER_STANDING_LAPSED,
        Standing::Replaced(_) => DISCOVER_STANDING_REPLACED,
        Standing::Released => DISCOVER_STANDING_RELEASED,
    }
}

/// Returns the name of a standing: "live", "lapsed", "replaced", "released"; "unknown" for any other
/// number.
///
/// standing  one of DISCOVER_STANDING_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_standing_name(standing: i32) -> *const c_char {
    constant_name(standing, &STANDING_NAMES)
}

/// Sends a heartbeat now. A lapsed instance is restored.
///
/// The library sends heartbeats by itself, unless the registration was set to manual heartbeats; then this
/// function must be called within each TTL.
///
/// lease       [in, borrowed]
/// timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT; the
///                                     heartbeat continues in the background afterwards
/// error       [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_TIMEOUT or DISCOVER_ERR_UNAVAILABLE if the registry does not answer,
/// DISCOVER_ERR_REPLACED if another owner has registered the id, DISCOVER_ERR_CLOSED if the lease is
/// unregistered or its client is closed.
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_heartbeat(
    lease: Option<&discover_lease>,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_lease_heartbeat", error, |args| {
        let pending = args.required(lease, "lease")?.lease.heartbeat()?;
        pending
            .within(timeout_from_ms(timeout_ms), "heartbeat")
            .wait()
    })
}

/// Replaces all attributes of the instance.
///
/// On failure the old attributes stay in effect; after DISCOVER_ERR_TIMEOUT either may be in effect.
///
/// lease       [in, borrowed]
/// names       [in, borrowed, optional]  count names; may be NULL if count is 0
/// values      [in, borrowed, optional]  count values, in the order of names; may be NULL if count is 0
/// count                                 the number of attributes
/// timeout_ms                            how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT
/// error       [out, owned, optional]    the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an attribute that is not acceptable, DISCOVER_ERR_TIMEOUT or
/// DISCOVER_ERR_UNAVAILABLE if the registry does not answer, DISCOVER_ERR_CLOSED if the lease is
/// unregistered or its client is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_lease_update(
    lease: Option<&discover_lease>,
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_lease_update", error, |args| {
        let lease = args.required(lease, "lease")?;
        // SAFETY: the header requires arrays of `count` NUL-terminated strings.
        let attributes = unsafe { args.attributes(names, values, count) }?;
        let pending = lease.lease.update(attributes)?;
        pending.within(timeout_from_ms(timeout_ms), "update").wait()
    })
}

/// Unregisters the instance; other clients see it go offline at once. A call that fails is repeated in the background
/// until the registry confirms it; a further call tries again at once, and succeeds if the instance is not registered
/// any more. The lease still needs its release.
///
/// lease       [in, borrowed]
/// timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT; the
///                                     call continues in the background afterwards
/// error       [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_TIMEOUT or DISCOVER_ERR_UNAVAILABLE if the registry does not answer,
/// DISCOVER_ERR_CLOSED if the client is closed.
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_unregister(
    lease: Option<&discover_lease>,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_lease_unregister", error, |args| {
        let pending = args.required(lease, "lease")?.lease.unregister()?;
        pending
            .within(timeout_from_ms(timeout_ms), "unregister")
            .wait()
    })
}

/// Returns the service name; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_service(lease: Option<&discover_lease>) -> *const c_char {
    value_or(ptr::null(), || Some(lease?.service.as_ptr()))
}

/// Returns the id of the registered instance; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_id(lease: Option<&discover_lease>) -> *const c_char {
    value_or(ptr::null(), || Some(lease?.id.as_ptr()))
}

/// Returns the address of the registered instance as host:port, with IPv6 in brackets; NULL for NULL.
///
/// lease  [in, borrowed]
///
/// Returns [borrowed until the lease is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_address(lease: Option<&discover_lease>) -> *const c_char {
    value_or(ptr::null(), || Some(lease?.address.as_ptr()))
}

/// Returns the instance as other clients see it, except for the revision at which it came online; NULL for
/// NULL and in a forked child.
///
/// Its attributes are those last registered or updated, merged with attributes that all registrations of
/// the service share (the credentials with layout=scalingo). discover_lease_on_standing() reports when
/// shared attributes change.
///
/// lease  [in, borrowed]
///
/// Returns [owned]. Release: discover_instance_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_instance(
    lease: Option<&discover_lease>,
) -> *mut discover_instance {
    value_or(ptr::null_mut(), || {
        Some(discover_instance::owned_ptr(lease?.lease.instance().ok()?))
    })
}

/// Returns the current standing of the registration: one of DISCOVER_STANDING_...; 0 for NULL and in a
/// forked child. The call does not block.
///
/// lease   [in, borrowed]
/// reason  [out, owned, optional]  why the registration is lapsed or replaced, else NULL.
///                                 Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_standing(
    lease: Option<&discover_lease>,
    reason: Option<&mut MaybeUninit<*mut discover_error>>,
) -> i32 {
    let mut code = 0;
    try_call("discover_lease_standing", reason, |args| {
        let now = args.required(lease, "lease")?.lease.standing()?;
        code = standing_code(&now);
        now.error().map_or(Ok(()), |error| Err(error.clone()))
    });
    code
}

/// Unregisters the instance in the background and releases the lease. The call does not block.
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
    fn standings_are_have_the_names_of_the_core() {
        let error = Error::new(ErrorKind::LeaseLost, "lost");
        let all = [
            Standing::Live,
            Standing::Lapsed(error.clone()),
            Standing::Replaced(error),
            Standing::Released,
        ];
        for standing in all {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_standing_name(standing_code(&standing))) };
            assert_eq!(name.to_str(), Ok(standing.name()));
        }
    }
}
