//! A service as Scalingo's etcd-discovery knows it: its hosts.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::Service;

use crate::error::discover_error;
use crate::given::{c_string, given, text};
use crate::guard::{make, read, release};
use crate::host::{discover_host, url};
use crate::status::discover_status;

/// The instances of a set as the hosts of a service of etcd-discovery: those that were online when it was
/// asked for. It never changes. Each function but those that return a status takes NULL, and then returns
/// NULL, 0 or false.
///
/// Release: discover_service_free(). Threads: any number at once.
pub struct discover_service {
    service: Service,
    name: CString,
    hosts: Vec<discover_host>,
}

impl discover_service {
    pub(crate) fn give(service: Service) -> *mut discover_service {
        let hosts = service.all().iter().cloned();
        Box::into_raw(Box::new(discover_service {
            name: c_string(service.name()),
            hosts: hosts.map(discover_host::new).collect(),
            service,
        }))
    }
}

/// What it is called.
///
/// service  [in, borrowed]
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_name(service: Option<&discover_service>) -> *const c_char {
    read(ptr::null(), || Some(service?.name.as_ptr()))
}

/// Whether the public finds it: any host is public.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_is_public(service: Option<&discover_service>) -> bool {
    read(false, || Some(service?.service.is_public()))
}

/// Whether it must not be missing: any host is critical.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_is_critical(service: Option<&discover_service>) -> bool {
    read(false, || Some(service?.service.is_critical()))
}

/// How many hosts it has.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_host_count(service: Option<&discover_service>) -> usize {
    read(0, || Some(service?.hosts.len()))
}

/// A host, oldest first: the first is the leader. NULL from discover_service_host_count() on.
///
/// service  [in, borrowed]
/// index                    counted from 0
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_host(
    service: Option<&discover_service>,
    index: usize,
) -> *const discover_host {
    read(ptr::null(), || Some(&raw const *service?.hosts.get(index)?))
}

/// Any host at random, of those that are fit for calls; NULL if there is none.
///
/// service  [in, borrowed]
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_one(service: Option<&discover_service>) -> *const discover_host {
    read(ptr::null(), || {
        let service = service?;
        let one = service.service.one()?;
        let mut all = service.service.all().iter();
        let index = all.position(|host| ptr::eq(host, one))?;
        Some(&raw const *service.hosts.get(index)?)
    })
}

/// The same with the hosts of one shard alone.
///
/// service  [in, borrowed]
/// shard    [in, borrowed]         its name
/// out      [out, owned]           the narrower service; NULL on failure. Release:
///                                 discover_service_free()
/// error    [out, owned, optional] why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_service_shard(
    service: Option<&discover_service>,
    shard: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_service>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        let service = given(service, "service")?;
        // SAFETY: a string of the caller's.
        let shard = unsafe { text(shard, "shard") }?;
        Ok(discover_service::give(service.service.shard(shard)))
    })
}

/// Where it is found: at the public address that the last of its public hosts brought; where there is
/// none, or it is that of one shard, at that of any one host. DISCOVER_ERR_NOT_FOUND without a host.
///
/// service  [in, borrowed]
/// scheme   [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
/// path     [in, borrowed]         what follows the port, as in "/status"; may be ""
/// out      [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error    [out, owned, optional] why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_service_url(
    service: Option<&discover_service>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: strings of the caller's.
    unsafe {
        url(scheme, path, out, error, |scheme, path| {
            given(service, "service")?.service.url(scheme, path)
        })
    }
}

/// Releases a service.
///
/// service  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_service_free(service: Option<Box<discover_service>>) {
    release(service);
}
