//! What a program says of itself.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::time::Duration;

use discover_core::embed::{Attributes, Heartbeat, Registration, Result};

use crate::error::discover_error;
use crate::given::{given, text};
use crate::guard::{call, make, release};
use crate::status::discover_status;

/// What a program asks for: "I am an instance of this service, and here I am". A setter that fails
/// changes nothing.
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

/// Describes an instance of a service on this machine.
///
/// service  [in, borrowed]          1 to 128 of A-Z a-z 0-9 . _ -
/// port                             1 to 65535; any other is refused
/// out      [out, owned]            the registration; NULL on failure.
///                                  Release: discover_registration_free()
/// error    [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_new(
    service: *const c_char,
    port: i64,
    out: Option<&mut MaybeUninit<*mut discover_registration>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: a string of the caller's.
        let service = unsafe { text(service, "service") }?;
        Ok(Box::into_raw(Box::new(discover_registration {
            registration: Registration::new(service, port)?,
            attributes: Attributes::new(),
            tags: Vec::new(),
        })))
    })
}

/// Sets the host that others should use: a name or an IP address. By default it is this machine's own
/// address as the registry sees it.
///
/// registration  [in, borrowed]
/// host          [in, borrowed]
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_host(
    registration: Option<&mut discover_registration>,
    host: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        // SAFETY: a string of the caller's.
        let host = unsafe { text(host, "host") }?;
        registration.change(|r| r.host(host))
    })
}

/// Sets the id, which is unique within the service. By default it is the address, host:port, and some
/// ways to write a registry know no other.
///
/// registration  [in, borrowed]
/// id            [in, borrowed]
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_id(
    registration: Option<&mut discover_registration>,
    id: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        // SAFETY: a string of the caller's.
        let id = unsafe { text(id, "id") }?;
        registration.change(|r| r.id(id))
    })
}

/// Sets one attribute, in place of any of that name. "weight" (0 to 65535) has a meaning to
/// discover_set_pick(), "zone" to discover_instance_zone().
///
/// registration  [in, borrowed]
/// name          [in, borrowed]
/// value         [in, borrowed]
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_set_attribute(
    registration: Option<&mut discover_registration>,
    name: *const c_char,
    value: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        // SAFETY: strings of the caller's.
        let (name, value) = unsafe { (text(name, "name")?, text(value, "value")?) };
        let mut all = registration.attributes.clone();
        all.insert(name.to_owned(), value.to_owned());
        registration.change(|r| r.attributes(all.clone()))?;
        registration.attributes = all;
        Ok(())
    })
}

/// Adds a tag after those that are there.
///
/// registration  [in, borrowed]
/// tag           [in, borrowed]
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_registration_add_tag(
    registration: Option<&mut discover_registration>,
    tag: *const c_char,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        // SAFETY: a string of the caller's.
        let tag = unsafe { text(tag, "tag") }?;
        let mut all = registration.tags.clone();
        all.push(tag.to_owned());
        registration.change(|r| r.tags(all.clone()))?;
        registration.tags = all;
        Ok(())
    })
}

/// Sets how long the instance outlives its last heartbeat: one second to 24 hours. By default it is
/// the URL's ttl, 10 seconds.
///
/// registration  [in, borrowed]
/// ttl_ms                                in milliseconds
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_set_ttl_ms(
    registration: Option<&mut discover_registration>,
    ttl_ms: u32,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        registration.change(|r| r.ttl(Duration::from_millis(ttl_ms.into())))
    })
}

/// Has the program keep the instance alive by itself: discover_lease_heartbeat() must then be called
/// within each TTL, else the instance goes. By default the library does it.
///
/// registration  [in, borrowed]
/// error         [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_set_heartbeat_manual(
    registration: Option<&mut discover_registration>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    call(error, || {
        let registration = given(registration, "registration")?;
        registration.change(|r| Ok(r.heartbeat(Heartbeat::Manual)))
    })
}

/// Releases a registration. Leases made from it are not touched.
///
/// registration  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_registration_free(registration: Option<Box<discover_registration>>) {
    release(registration);
}
