//! Hosts of a service, in the terms of Scalingo's etcd-discovery.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::scalingo::Host;
use discover_core::embed::{Error, ErrorKind, Result};

use crate::args::{Args, c_string};
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::fallible_call::{OutParam, try_create};
use crate::instance::discover_instance;
use crate::status::discover_status;

/// An instance in the terms of Scalingo's etcd-discovery: its public and private addresses, ports and
/// credentials. It is immutable. Fields that the instance does not set are "", 0 or false.
///
/// Owned hosts come from discover_scalingo_host_from_instance(). Borrowed ones, which are const, belong to
/// a discover_scalingo_service. Functions that return no status accept NULL and then return NULL, 0 or
/// false.
///
/// Release: discover_scalingo_host_free(). Threads: any number at once.
pub struct discover_scalingo_host {
    host: Host,
    service: CString,
    uuid: CString,
    hostname: CString,
    private_hostname: CString,
    user: CString,
    password: CString,
    shard: CString,
    schemes: Vec<CString>,
    private_schemes: Vec<CString>,
}

impl discover_scalingo_host {
    pub(crate) fn new(host: Host) -> discover_scalingo_host {
        let schemes = |ports: &BTreeMap<String, u16>| ports.keys().map(|it| c_string(it)).collect();
        discover_scalingo_host {
            service: c_string(&host.service_name),
            uuid: c_string(&host.uuid),
            hostname: c_string(&host.hostname),
            private_hostname: c_string(&host.private_hostname),
            user: c_string(&host.user),
            password: c_string(&host.password),
            shard: c_string(&host.shard),
            schemes: schemes(&host.ports),
            private_schemes: schemes(&host.private_ports),
            host,
        }
    }
}

/// Converts an instance of any layout to a host.
///
/// instance  [in, borrowed]
///
/// Returns [owned], NULL for NULL. Release: discover_scalingo_host_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_from_instance(
    instance: Option<&discover_instance>,
) -> *mut discover_scalingo_host {
    value_or(ptr::null_mut(), || {
        let host = discover_scalingo_host::new(Host::from_instance(instance?.value()));
        Some(Box::into_raw(Box::new(host)))
    })
}

/// Returns the service name.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_service_name(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.service)
}

/// Returns the id of the instance, which is unique within the service.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_uuid(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.uuid)
}

/// Returns the public host name; without a public address the private one.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_hostname(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.hostname)
}

/// Returns the host name within the private network.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_private_hostname(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.private_hostname)
}

/// Returns the user name of the credentials, which all public hosts of a service share.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_user(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.user)
}

/// Returns the password of the credentials, which all public hosts of a service share.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_password(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.password)
}

/// Returns the name of the shard that the host serves.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_shard(
    host: Option<&discover_scalingo_host>,
) -> *const c_char {
    string_field(host, |it| &it.shard)
}

/// Returns true if the host is reachable from the public network.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_is_public(host: Option<&discover_scalingo_host>) -> bool {
    value_or(false, || Some(host?.host.is_public))
}

/// Returns true if the host is marked critical, which means that the service needs it.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_is_critical(
    host: Option<&discover_scalingo_host>,
) -> bool {
    value_or(false, || Some(host?.host.is_critical))
}

/// Returns the public port for a scheme; 0 if there is none.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]  for example "http"
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_host_port(
    host: Option<&discover_scalingo_host>,
    scheme: *const c_char,
) -> u16 {
    value_or(0, || {
        // SAFETY: the header requires NUL-terminated strings.
        let scheme = unsafe { Args::of("").text(scheme, "scheme") }.ok()?;
        host?.host.ports.get(scheme).copied()
    })
}

/// Returns the private port for a scheme; 0 if there is none.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]  for example "http"
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_host_private_port(
    host: Option<&discover_scalingo_host>,
    scheme: *const c_char,
) -> u16 {
    value_or(0, || {
        // SAFETY: the header requires NUL-terminated strings.
        let scheme = unsafe { Args::of("").text(scheme, "scheme") }.ok()?;
        host?.host.private_ports.get(scheme).copied()
    })
}

/// Returns the number of public ports.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_port_count(
    host: Option<&discover_scalingo_host>,
) -> usize {
    value_or(0, || Some(host?.host.ports.len()))
}

/// Returns the scheme of a public port, ordered by scheme; NULL if the index is out of range.
///
/// host   [in, borrowed]
/// index                  from 0 to discover_scalingo_host_port_count() - 1
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_port_scheme(
    host: Option<&discover_scalingo_host>,
    index: usize,
) -> *const c_char {
    value_or(ptr::null(), || Some(host?.schemes.get(index)?.as_ptr()))
}

/// Returns the number of private ports.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_private_port_count(
    host: Option<&discover_scalingo_host>,
) -> usize {
    value_or(0, || Some(host?.host.private_ports.len()))
}

/// Returns the scheme of a private port, ordered by scheme; NULL if the index is out of range.
///
/// host   [in, borrowed]
/// index                  from 0 to discover_scalingo_host_private_port_count() - 1
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_private_port_scheme(
    host: Option<&discover_scalingo_host>,
    index: usize,
) -> *const c_char {
    value_or(ptr::null(), || {
        Some(host?.private_schemes.get(index)?.as_ptr())
    })
}

/// Formats the public URL of a host: "scheme://user:password@host:port" and the path.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]         for example "https"; "" for http if the host has it, else https
/// path    [in, borrowed]         appended after the port, for example "/status"; may be ""
/// out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error   [out, owned, optional] the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT if the host has no port for the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_host_url(
    host: Option<&discover_scalingo_host>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: the header requires NUL-terminated strings.
    unsafe {
        write_url(
            "discover_scalingo_host_url",
            scheme,
            path,
            out,
            error,
            |args, scheme, path| args.required(host, "host")?.host.url(scheme, path),
        )
    }
}

/// Formats the URL of a host within the private network: "scheme://user:password@host:port" and the path.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]         for example "https"; "" for http if the host has it, else https
/// path    [in, borrowed]         appended after the port, for example "/status"; may be ""
/// out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error   [out, owned, optional] the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT if the host has no private port for the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_scalingo_host_private_url(
    host: Option<&discover_scalingo_host>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: the header requires NUL-terminated strings.
    unsafe {
        write_url(
            "discover_scalingo_host_private_url",
            scheme,
            path,
            out,
            error,
            |args, scheme, path| args.required(host, "host")?.host.private_url(scheme, path),
        )
    }
}

/// Releases an owned host.
///
/// host  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_scalingo_host_free(host: Option<Box<discover_scalingo_host>>) {
    release(host);
}

/// Releases an owned string.
///
/// string  [in, taken, optional]
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_string_free(string: *mut c_char) {
    release((!string.is_null()).then_some(MallocString(string)));
}

/// A string allocated with malloc, which [`write_url`] created.
struct MallocString(*mut c_char);

impl Drop for MallocString {
    fn drop(&mut self) {
        // SAFETY: allocated with malloc, and freed once.
        unsafe { libc::free(self.0.cast()) };
    }
}

/// Writes a URL that the caller owns to `out`.
///
/// # Safety
/// `scheme` and `path` are NULL or NUL-terminated.
pub(crate) unsafe fn write_url(
    function: &'static str,
    scheme: *const c_char,
    path: *const c_char,
    out: OutParam<*mut c_char>,
    error: OutParam<*mut discover_error>,
    format: impl FnOnce(Args, &str, &str) -> Result<String>,
) -> discover_status {
    try_create(function, out, error, |args| {
        // SAFETY: promised by the caller.
        let (scheme, path) = unsafe { (args.text(scheme, "scheme")?, args.text(path, "path")?) };
        let url = c_string(&format(args, scheme, path)?);
        // SAFETY: `url` is NUL-terminated. malloc allocates the copy, so that the caller may modify it.
        let copy = unsafe { libc::strdup(url.as_ptr()) };
        let no_memory = || {
            let text = format!("{function}: out of memory for the URL");
            Error::new(ErrorKind::Resource, text)
        };
        (!copy.is_null()).then_some(copy).ok_or_else(no_memory)
    })
}

fn string_field(
    host: Option<&discover_scalingo_host>,
    field: impl FnOnce(&discover_scalingo_host) -> &CString,
) -> *const c_char {
    value_or(ptr::null(), || Some(field(host?).as_ptr()))
}
