//! Registrations: descriptions of the instances to register.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::time::Duration;

use discover_core::embed::{Attributes, Heartbeat, Registration, Result};

use crate::boundary::release;
use crate::error::discover_error;
use crate::fallible_call::{try_call, try_create};
use crate::status::discover_status;

/// The instance that a program wants to register. A setter that fails changes nothing.
///
/// Release: discover_registration_free(). Threads: one at a time.
pub struct discover_registration {
    registration: Registration,
    attributes: Attributes,
    tags: Vec<String>,
}

impl discover_registration {
    pub(crate) fn value(&self) -> Registration {
        self.registration.clone()
    }

    fn change(&mut self, change: impl FnOnce(Registration) -> Result<Registration>) -> Result<()> {
        self.registration = change(self.registration.clone())?;
        Ok(())
    }
}

/// Creates a registration for an instance of a service on this machine.
///
/// service  [in, borrowed]          the service name: 1 to 128 characters of A-Z a-z 0-9 . _ -
/// port                             1 to 65535
/// out      [out, owned]            the registration; NULL on failure.
///                                  Release: discover_registration_free()
/// error    [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed service name or a port out of range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_new(
    service: *const c_char,
    port: i64,
    out: Option<&mut MaybeUninit<*mut discover_registration>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_registration_new", out, error, |args| {
        // SAFETY: the header requires NUL-terminated strings.
        let service = unsafe { args.text(service, "service") }?;
        Ok(Box::into_raw(Box::new(discover_registration {
            registration: Registration::new(service, port)?,
            attributes: Attributes::new(),
            tags: Vec::new(),
        })))
    })
}

/// Sets the host name or IP address of the instance. The default is this machine's own address as the
/// registry sees it.
///
/// registration  [in, borrowed]
/// host          [in, borrowed]
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_host(
    registration: Option<&mut discover_registration>,
    host: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_registration_set_host", error, |args| {
        let registration = args.required(registration, "registration")?;
        // SAFETY: the header requires NUL-terminated strings.
        let host = unsafe { args.text(host, "host") }?;
        registration.change(|r| r.host(host))
    })
}

/// Sets the id of the instance, which is unique within the service. The default is the address, host:port;
/// some layouts support no other id.
///
/// registration  [in, borrowed]
/// id            [in, borrowed]
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_id(
    registration: Option<&mut discover_registration>,
    id: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_registration_set_id", error, |args| {
        let registration = args.required(registration, "registration")?;
        // SAFETY: the header requires NUL-terminated strings.
        let id = unsafe { args.text(id, "id") }?;
        registration.change(|r| r.id(id))
    })
}

/// Sets one attribute, replacing any attribute of the same name.
///
/// Two names have a meaning: discover_set_pick() uses "weight" (0 to 65535), and discover_instance_zone()
/// returns "zone".
///
/// registration  [in, borrowed]
/// name          [in, borrowed]
/// value         [in, borrowed]
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a name or value that is not acceptable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_attribute(
    registration: Option<&mut discover_registration>,
    name: *const c_char,
    value: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_registration_set_attribute", error, |args| {
        let registration = args.required(registration, "registration")?;
        // SAFETY: the header requires NUL-terminated strings.
        let (name, value) = unsafe { (args.text(name, "name")?, args.text(value, "value")?) };
        let mut all = registration.attributes.clone();
        all.insert(name.to_owned(), value.to_owned());
        registration.change(|r| r.attributes(all.clone()))?;
        registration.attributes = all;
        Ok(())
    })
}

/// Appends a tag.
///
/// registration  [in, borrowed]
/// tag           [in, borrowed]
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed tag.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_add_tag(
    registration: Option<&mut discover_registration>,
    tag: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_registration_add_tag", error, |args| {
        let registration = args.required(registration, "registration")?;
        // SAFETY: the header requires NUL-terminated strings.
        let tag = unsafe { args.text(tag, "tag") }?;
        let mut all = registration.tags.clone();
        all.push(tag.to_owned());
        registration.change(|r| r.tags(all.clone()))?;
        registration.tags = all;
        Ok(())
    })
}

/// Sets the time to live: how long the instance stays online after its last heartbeat. The default is the
/// URL's ttl, 10 seconds.
///
/// registration  [in, borrowed]
/// ttl_ms                                in milliseconds: 1000 (1 second) to 86400000 (24 hours)
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for a time out of range.
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_set_ttl_ms(
    registration: Option<&mut discover_registration>,
    ttl_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call("discover_registration_set_ttl_ms", error, |args| {
        let registration = args.required(registration, "registration")?;
        registration.change(|r| r.ttl(Duration::from_millis(ttl_ms.into())))
    })
}

/// Switches to manual heartbeats: the program calls discover_lease_heartbeat() within each TTL, else the
/// instance goes offline. By default the library sends the heartbeats.
///
/// registration  [in, borrowed]
/// error         [out, owned, optional]  the failure. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_set_heartbeat_manual(
    registration: Option<&mut discover_registration>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_call(
        "discover_registration_set_heartbeat_manual",
        error,
        |args| {
            let registration = args.required(registration, "registration")?;
            registration.change(|r| Ok(r.heartbeat(Heartbeat::Manual)))
        },
    )
}

/// Releases a registration. Leases made from it are not affected.
///
/// registration  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_free(registration: Option<Box<discover_registration>>) {
    release(registration);
}
