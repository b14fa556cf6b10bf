//! Clients: opening, registering, watching and closing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use discover_core::embed::{Engine, ErrorKind};

use crate::args::{c_string, timeout_from_ms};
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::fallible_call::{try_call, try_create};
use crate::lease::discover_lease;
use crate::registration::discover_registration;
use crate::set::discover_set;
use crate::status::discover_status;

/// A connection to one registry.
///
/// A client starts two threads: one for I/O and timers, one that runs callbacks.
///
/// Release: discover_client_close(). Threads: any number at once.
pub struct discover_client {
    engine: Engine,
    url: CString,
}

impl discover_client {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Opens a client for the registry at a URL and starts its threads.
///
/// The call blocks until the registry answers, at most for the URL's connect_timeout (5 seconds by
/// default, at most 1 hour). With lazy=true in the URL it returns without contacting the registry.
///
/// url    [in, borrowed, optional]  the registry, for example "local://" or "etcd://host:2379?ttl=10s";
///                                  NULL for the environment variable DISCOVER_URL, else "local://"
/// out    [out, owned]              the client; NULL on failure. Release: discover_client_close()
/// error  [out, owned, optional]    the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed URL, DISCOVER_ERR_UNSUPPORTED for a backend that
/// this build does not contain, DISCOVER_ERR_UNAVAILABLE or DISCOVER_ERR_TIMEOUT if the registry does not
/// answer, DISCOVER_ERR_PERMISSION_DENIED if it rejects the login, DISCOVER_ERR_RESOURCE if threads or
/// descriptors are exhausted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_open(
    url: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_client>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_client_open", out, error, |args| {
        // SAFETY: the header requires NUL-terminated strings.
        let url = unsafe { args.optional_text(url, "url") }?;
        let engine = Engine::open(url)?.wait()?;
        let url = c_string(&engine.url()?);
        Ok(Box::into_raw(Box::new(discover_client { engine, url })))
    })
}

/// Returns the URL of the registry, with its secrets masked; NULL for NULL.
///
/// client  [in, borrowed]
///
/// Returns [borrowed until the client is closed].
#[unsafe(no_mangle)]
pub extern "C" fn discover_client_url(client: Option<&discover_client>) -> *const c_char {
    value_or(ptr::null(), || Some(client?.url.as_ptr()))
}

/// Registers an instance and keeps it alive until the lease is released, the client is closed or the
/// process exits. When the call returns DISCOVER_OK, other clients see the instance.
///
/// client        [in, borrowed]
/// registration  [in, borrowed]          the instance; it may be changed and used again afterwards
/// timeout_ms                            how long to retry, in milliseconds; DISCOVER_NO_TIMEOUT for the
///                                       URL's connect_timeout
/// out           [out, owned]            the lease; NULL on failure. Release: discover_lease_release()
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT if the registry's layout cannot represent the instance,
/// DISCOVER_ERR_UNAVAILABLE or DISCOVER_ERR_TIMEOUT if the registry does not answer in time,
/// DISCOVER_ERR_PERMISSION_DENIED if it refuses the write, DISCOVER_ERR_CLOSED if another thread closes the
/// client during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_register(
    client: *const discover_client,
    registration: Option<&discover_registration>,
    timeout_ms: u32,
    out: Option<&mut MaybeUninit<*mut discover_lease>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_client_register", out, error, |args| {
        // SAFETY: the client is open when the call begins. It is not accessed while the call blocks, when
        // another thread may close and free it.
        let engine = unsafe { client.as_ref() }.map(|client| &client.engine);
        let registration = args.required(registration, "registration")?.value();
        let pending = args
            .required(engine, "client")?
            .register(registration, timeout_from_ms(timeout_ms))?;
        Ok(discover_lease::owned_ptr(pending.wait()?))
    })
}

/// Opens the live set of the instances of a service.
///
/// The call does not block: the set is filled in the background, and discover_set_state() reports when it
/// is current. All sets of one service share one watch.
///
/// client   [in, borrowed]
/// service  [in, borrowed]          the service name: 1 to 128 characters of A-Z a-z 0-9 . _ -
/// out      [out, owned]            the set; NULL on failure. Release: discover_set_release()
/// error    [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed service name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_services(
    client: Option<&discover_client>,
    service: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_set>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_client_services", out, error, |args| {
        let client = args.required(client, "client")?;
        // SAFETY: the header requires NUL-terminated strings.
        let service = unsafe { args.text(service, "service") }?;
        Ok(discover_set::owned_ptr(client.engine.services(service)?))
    })
}

/// Closes a client: ends calls that block in other threads (with DISCOVER_ERR_CLOSED), releases all
/// leases, waits for callbacks, calls every destroy function and ends both threads.
///
/// Objects that the client created stay valid. Each still needs its own release, and sets and snapshots
/// can still be read.
///
/// The client is released whatever the status, including DISCOVER_ERR_TIMEOUT and DISCOVER_ERR_FORKED. The
/// only exception is DISCOVER_ERR_BUSY, which leaves the client open.
///
/// client      [in, taken, optional]   the client, not to be used by any later call; NULL does nothing
/// timeout_ms                          how long each of these steps may take, in milliseconds, or
///                                     DISCOVER_NO_TIMEOUT
/// error       [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_BUSY inside one of the client's own callbacks, DISCOVER_ERR_TIMEOUT if a callback
/// was still running or the registry did not answer (leases that could not be released expire with their
/// TTL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_close(
    client: *mut discover_client,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let owned = OwnedClient(client);
    try_call("discover_client_close", error, |_args| {
        // SAFETY: an open client, or NULL.
        let Some(open) = (unsafe { owned.0.as_ref() }) else {
            return Ok(());
        };
        let timeout = timeout_from_ms(timeout_ms).unwrap_or(Duration::MAX);
        let result = open.engine.close(timeout);
        if matches!(&result, Err(error) if error.kind() == ErrorKind::Busy) {
            owned.keep_open();
        }
        result
    })
}

/// A client that is freed when the call ends, even by a panic, unless it is kept open.
struct OwnedClient(*mut discover_client);

impl OwnedClient {
    fn keep_open(self) {
        std::mem::forget(self);
    }
}

impl Drop for OwnedClient {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it came from a box, and the caller no longer uses it.
            release(Some(unsafe { Box::from_raw(self.0) }));
        }
    }
}
