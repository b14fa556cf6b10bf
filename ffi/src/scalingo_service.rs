//! Services as lists of hosts, in the terms of Scalingo's etcd-discovery.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::scalingo::Service;

use crate::args::c_string;
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::fallible_call::try_create;
use crate::scalingo_host::{discover_scalingo_host, write_url};
use crate::set::discover_set;
use crate::status::discover_status;

/// The instances of a set as the hosts of a service of Scalingo's etcd-discovery. It holds the hosts that
/// were online when it was created, and is immutable. Functions that return no status accept NULL and then
/// return NULL, 0 or false.
///
/// Release: discover_scalingo_service_free(). Threads: any number at once.
pub struct discover_scalingo_service {
    service: Service,
    name: CString,
    hosts: Vec<discover_scalingo_host>,
}

impl discover_scalingo_service {
    pub(crate) fn owned_ptr(service: Service) -> *mut discover_scalingo_service {
        let hosts = service.all().iter().cloned();
        Box::into_raw(Box::new(discover_scalingo_service {
            name: c_string(service.name()),
            hosts: hosts.map(discover_scalingo_host::new).collect(),
            service,
        }))
    }
}

/// Converts the instances of a set that are online to a service with hosts, which have URLs, ports by
/// scheme, and shards.
///
/// set  [in, borrowed]
///
/// Returns [owned], NULL for NULL and in a forked child. Release: discover_scalingo_service_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_from_set(
    set: Option<&discover_set>,
) -> *mut discover_scalingo_service {
    value_or(ptr::null_mut(), || {
        let set = set?.handle();
        let snapshot = set.snapshot().ok()?;
        let service = Service::from_snapshot(set.service(), &snapshot);
        Some(discover_scalingo_service::owned_ptr(service))
    })
}

/// Returns the service name.
///
/// service  [in, borrowed]
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_name(
    service: Option<&discover_scalingo_service>,
) -> *const c_char {
    value_or(ptr::null(), || Some(service?.name.as_ptr()))
}

/// Returns true if at least one host is public.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_is_public(
    service: Option<&discover_scalingo_service>,
) -> bool {
    value_or(false, || Some(service?.service.is_public()))
}

/// Returns true if at least one host is marked critical.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_is_critical(
    service: Option<&discover_scalingo_service>,
) -> bool {
    value_or(false, || Some(service?.service.is_critical()))
}

/// Returns the number of hosts.
///
/// service  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_host_count(
    service: Option<&discover_scalingo_service>,
) -> usize {
    value_or(0, || Some(service?.hosts.len()))
}

/// Returns a host, oldest first; NULL if the index is out of range. The first host is the leader.
///
/// service  [in, borrowed]
/// index                    from 0 to discover_scalingo_service_host_count() - 1
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_host(
    service: Option<&discover_scalingo_service>,
    index: usize,
) -> *const discover_scalingo_host {
    value_or(ptr::null(), || Some(&raw const *service?.hosts.get(index)?))
}

/// Returns a random healthy host; NULL if there is none.
///
/// A host qualifies unless its instance reports that it takes no calls. Suspect and degraded hosts are
/// returned only if there is no other.
///
/// service  [in, borrowed]
///
/// Returns [borrowed until the service is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_one(
    service: Option<&discover_scalingo_service>,
) -> *const discover_scalingo_host {
    value_or(ptr::null(), || {
        let service = service?;
        let one = service.service.one()?;
        let mut all = service.service.all().iter();
        let index = all.position(|host| ptr::eq(host, one))?;
        Some(&raw const *service.hosts.get(index)?)
    })
}

/// Creates a service with only the hosts of one shard.
///
/// service  [in, borrowed]
/// shard    [in, borrowed]         the shard name
/// out      [out, owned]           the narrower service, possibly empty; NULL on failure.
///                                 Release: discover_scalingo_service_free()
/// error    [out, owned, optional] the failure. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_service_shard(
    service: Option<&discover_scalingo_service>,
    shard: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_scalingo_service>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_scalingo_service_shard", out, error, |args| {
        let service = args.required(service, "service")?;
        // SAFETY: the header requires NUL-terminated strings.
        let shard = unsafe { args.text(shard, "shard") }?;
        Ok(discover_scalingo_service::owned_ptr(
            service.service.shard(shard),
        ))
    })
}

/// Formats the URL of a service: the public URL of its newest public host. Without a public host, and for
/// a service narrowed to one shard, it is the URL of a random healthy host.
///
/// service  [in, borrowed]
/// scheme   [in, borrowed]         for example "https"; "" for http if the host has it, else https
/// path     [in, borrowed]         appended after the port, for example "/status"; may be ""
/// out      [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error    [out, owned, optional] the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_NOT_FOUND if no host qualifies, DISCOVER_ERR_INVALID_ARGUMENT if the host has no
/// port for the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_service_url(
    service: Option<&discover_scalingo_service>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: the header requires NUL-terminated strings.
    unsafe {
        write_url(
            "discover_scalingo_service_url",
            scheme,
            path,
            out,
            error,
            |args, scheme, path| args.required(service, "service")?.service.url(scheme, path),
        )
    }
}

/// Releases a service.
///
/// service  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_service_free(service: Option<Box<discover_scalingo_service>>) {
    release(service);
}
