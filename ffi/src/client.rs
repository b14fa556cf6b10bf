//! The way in.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use discover_core::embed::{Engine, ErrorKind};

use crate::error::discover_error;
use crate::given::{c_string, given, optional_text, text, timeout};
use crate::guard::{call, make, read, release};
use crate::lease::discover_lease;
use crate::registration::discover_registration;
use crate::set::discover_set;
use crate::status::discover_status;

/// A connection to a registry. It has two threads of its own: one works, one runs your callbacks.
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

/// Opens a client for the registry at url, and starts its threads. Fails if the registry does not
/// answer within the URL's connect_timeout (5 seconds by default), unless the URL says lazy=true.
///
/// url    [in, borrowed, optional]  where the registry is: "local://", "etcd://host:2379?ttl=10s";
///                                  NULL for the environment's DISCOVER_URL, else "local://"
/// out    [out, owned]              the client; NULL on failure. Release: discover_client_close()
/// error  [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_open(
    url: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_client>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: a string of the caller's.
        let url = unsafe { optional_text(url, "url") }?;
        let engine = Engine::open(url)?.wait()?;
        let url = c_string(&engine.url()?);
        Ok(Box::into_raw(Box::new(discover_client { engine, url })))
    })
}

/// Where the registry is, secrets hidden; NULL for NULL.
///
/// client  [in, borrowed]
///
/// Returns [borrowed until the client is closed].
#[unsafe(no_mangle)]
pub extern "C" fn discover_client_url(client: Option<&discover_client>) -> *const c_char {
    read(ptr::null(), || Some(client?.url.as_ptr()))
}

/// Registers an instance and keeps it alive until the lease is released, the client is closed or the
/// process dies. When it returns DISCOVER_OK, others see the instance.
///
/// client        [in, borrowed]
/// registration  [in, borrowed]          may be changed and used again
/// timeout_ms                            when to give up, or DISCOVER_NO_TIMEOUT for the URL's
///                                       connect_timeout
/// out           [out, owned]            the lease; NULL on failure. Release: discover_lease_release()
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_register(
    client: *const discover_client,
    registration: Option<&discover_registration>,
    timeout_ms: u32,
    out: Option<&mut MaybeUninit<*mut discover_lease>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: it is open until the call waits, and is not looked at then: closing may free it.
        let engine = unsafe { client.as_ref() }.map(|client| &client.engine);
        let registration = given(registration, "registration")?.value();
        let pending = given(engine, "client")?.register(registration, timeout(timeout_ms))?;
        Ok(discover_lease::give(pending.wait()?))
    })
}

/// The live set of the instances of a service. It never waits: the set fills by itself, and says
/// whether it has. All sets of one service share one watch.
///
/// client   [in, borrowed]
/// service  [in, borrowed]          1 to 128 of A-Z a-z 0-9 . _ -
/// out      [out, owned]            the set; NULL on failure. Release: discover_set_release()
/// error    [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_services(
    client: Option<&discover_client>,
    service: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_set>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        let client = given(client, "client")?;
        // SAFETY: a string of the caller's.
        let service = unsafe { text(service, "service") }?;
        Ok(discover_set::give(client.engine.services(service)?))
    })
}

/// Closes a client: ends calls that are waiting in other threads (with DISCOVER_ERR_CLOSED), releases
/// all leases, waits for callbacks, runs every destroy, and ends both threads. What was made by the
/// client stays valid: each still needs its own release, and sets and snapshots can still be read.
///
/// The client is gone whatever the status, also after DISCOVER_ERR_TIMEOUT (a callback was still
/// running, or the registry did not answer: what could not be released goes with its TTL) and after
/// DISCOVER_ERR_FORKED. The one exception is DISCOVER_ERR_BUSY, inside one of the client's own
/// callbacks: it is then as open as before.
///
/// client      [in, taken, optional]   no other call may be made with it from now on; NULL does nothing
/// timeout_ms                          how long each of these steps may take, or DISCOVER_NO_TIMEOUT
/// error       [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_client_close(
    client: *mut discover_client,
    timeout_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let going = Going(client);
    call(error, || {
        // SAFETY: a client that is open, or NULL.
        let Some(open) = (unsafe { going.0.as_ref() }) else {
            return Ok(());
        };
        let timeout = timeout(timeout_ms).unwrap_or(Duration::MAX);
        let done = open.engine.close(timeout);
        if matches!(&done, Err(error) if error.kind() == ErrorKind::Busy) {
            going.stays();
        }
        done
    })
}

/// A client that is freed however its closing ends, by a bug of ours too.
struct Going(*mut discover_client);

impl Going {
    fn stays(self) {
        std::mem::forget(self);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it came from a box, and nobody else uses it any more.
            release(Some(unsafe { Box::from_raw(self.0) }));
        }
    }
}
