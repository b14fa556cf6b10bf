//! A host of a service, as Scalingo's etcd-discovery knows it.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::{Error, ErrorKind, Host, Result};

use crate::error::discover_error;
use crate::given::{c_string, given, text};
use crate::guard::{Slot, make, read, release};
use crate::instance::discover_instance;
use crate::status::discover_status;

/// What an instance says as a host of etcd-discovery: where the public finds it and where the others in
/// its network do, with which ports and credentials. It never changes. What it does not say is "", 0 or
/// false.
///
/// Owned ones come from discover_host_of(). Borrowed ones, which are const, belong to a discover_service.
/// Each function but those that return a status takes NULL, and then returns NULL, 0 or false.
///
/// Release: discover_host_free(). Threads: any number at once.
pub struct discover_host {
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

impl discover_host {
    pub(crate) fn new(host: Host) -> discover_host {
        let schemes = |ports: &BTreeMap<String, u16>| ports.keys().map(|it| c_string(it)).collect();
        discover_host {
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

/// What an instance says as a host, whichever the layout.
///
/// instance  [in, borrowed]
///
/// Returns [owned], NULL for NULL. Release: discover_host_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_of(instance: Option<&discover_instance>) -> *mut discover_host {
    read(ptr::null_mut(), || {
        let host = discover_host::new(Host::of(instance?.value()));
        Some(Box::into_raw(Box::new(host)))
    })
}

/// The service.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_service_name(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.service)
}

/// Unique within the service: the id of the instance.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_uuid(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.uuid)
}

/// Where the public finds it; without a public address the private one.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_hostname(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.hostname)
}

/// Where the others in its network find it.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_private_hostname(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.private_hostname)
}

/// Of the credentials, which all public hosts of a service share.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_user(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.user)
}

/// Of the credentials, as discover_host_user().
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_password(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.password)
}

/// The shard that it serves.
///
/// host  [in, borrowed]
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_shard(host: Option<&discover_host>) -> *const c_char {
    string(host, |it| &it.shard)
}

/// Whether the public finds it.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_is_public(host: Option<&discover_host>) -> bool {
    read(false, || Some(host?.host.is_public))
}

/// Whether it must not be missing.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_is_critical(host: Option<&discover_host>) -> bool {
    read(false, || Some(host?.host.is_critical))
}

/// Its public port for a scheme; 0 where it has none.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]  as in "http"
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_host_port(
    host: Option<&discover_host>,
    scheme: *const c_char,
) -> u16 {
    read(0, || {
        // SAFETY: a string of the caller's.
        let scheme = unsafe { text(scheme, "scheme") }.ok()?;
        host?.host.ports.get(scheme).copied()
    })
}

/// Its private port for a scheme; 0 where it has none.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]  as in "http"
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_host_private_port(
    host: Option<&discover_host>,
    scheme: *const c_char,
) -> u16 {
    read(0, || {
        // SAFETY: a string of the caller's.
        let scheme = unsafe { text(scheme, "scheme") }.ok()?;
        host?.host.private_ports.get(scheme).copied()
    })
}

/// How many public ports it has.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_port_count(host: Option<&discover_host>) -> usize {
    read(0, || Some(host?.host.ports.len()))
}

/// The scheme of a public port, in the order of the schemes; NULL from discover_host_port_count() on.
///
/// host   [in, borrowed]
/// index                  counted from 0
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_port_scheme(
    host: Option<&discover_host>,
    index: usize,
) -> *const c_char {
    read(ptr::null(), || Some(host?.schemes.get(index)?.as_ptr()))
}

/// How many private ports it has.
///
/// host  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_private_port_count(host: Option<&discover_host>) -> usize {
    read(0, || Some(host?.host.private_ports.len()))
}

/// The scheme of a private port, in the order of the schemes; NULL from discover_host_private_port_count() on.
///
/// host   [in, borrowed]
/// index                  counted from 0
///
/// Returns [borrowed until the host is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_private_port_scheme(
    host: Option<&discover_host>,
    index: usize,
) -> *const c_char {
    read(ptr::null(), || {
        Some(host?.private_schemes.get(index)?.as_ptr())
    })
}

/// Where the public finds it: "scheme://user:password@host:port" and the path.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
/// path    [in, borrowed]         what follows the port, as in "/status"; may be ""
/// out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error   [out, owned, optional] why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_host_url(
    host: Option<&discover_host>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: strings of the caller's.
    unsafe {
        url(scheme, path, out, error, |scheme, path| {
            given(host, "host")?.host.url(scheme, path)
        })
    }
}

/// The same within its network.
///
/// host    [in, borrowed]
/// scheme  [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
/// path    [in, borrowed]         what follows the port, as in "/status"; may be ""
/// out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
/// error   [out, owned, optional] why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_host_private_url(
    host: Option<&discover_host>,
    scheme: *const c_char,
    path: *const c_char,
    out: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // SAFETY: strings of the caller's.
    unsafe {
        url(scheme, path, out, error, |scheme, path| {
            given(host, "host")?.host.private_url(scheme, path)
        })
    }
}

/// Releases a host that is owned.
///
/// host  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_host_free(host: Option<Box<discover_host>>) {
    release(host);
}

/// Releases a string that is owned.
///
/// string  [in, taken, optional]
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_string_free(string: *mut c_char) {
    release((!string.is_null()).then_some(Copy(string)));
}

/// A string of C's own allocator, which `url` made and which is given back once.
struct Copy(*mut c_char);

impl Drop for Copy {
    fn drop(&mut self) {
        // SAFETY: see above.
        unsafe { libc::free(self.0.cast()) };
    }
}

/// A URL for the caller to own.
///
/// # Safety
/// `scheme` and `path` are NULL, or end with a NUL.
pub(crate) unsafe fn url(
    scheme: *const c_char,
    path: *const c_char,
    out: Slot<*mut c_char>,
    error: Slot<*mut discover_error>,
    of: impl FnOnce(&str, &str) -> Result<String>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: promised by the caller.
        let (scheme, path) = unsafe { (text(scheme, "scheme")?, text(path, "path")?) };
        let url = c_string(&of(scheme, path)?);
        // SAFETY: it ends with a NUL. The copy is of C's own allocator, so that the caller may do with it
        // what it likes, changing it included.
        let copy = unsafe { libc::strdup(url.as_ptr()) };
        let full = || Error::new(ErrorKind::Resource, "there is no memory for a URL");
        (!copy.is_null()).then_some(copy).ok_or_else(full)
    })
}

fn string(
    host: Option<&discover_host>,
    find: impl FnOnce(&discover_host) -> &CString,
) -> *const c_char {
    read(ptr::null(), || Some(find(host?).as_ptr()))
}
