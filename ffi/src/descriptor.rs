//! Descriptors: service references in one line of text.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::Descriptor;

use crate::args::c_string;
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::fallible_call::try_create;
use crate::status::discover_status;

/// A service reference in one line of text, for example "redis.master[prod,stats];6379/tcp".
///
/// A descriptor consists of a service, given by its name or by a path that ends with it; the tags that
/// instances must have; the port at which the program wants to reach the service; and the protocol, "tcp"
/// by default or "udp". It is immutable.
///
/// Owned descriptors come from discover_descriptor_parse(). Borrowed ones, which are const, belong to a
/// discover_descriptors. Functions that return no status accept NULL and then return NULL or 0.
///
/// Release: discover_descriptor_free(). Threads: any number at once.
pub struct discover_descriptor {
    descriptor: Descriptor,
    service: CString,
    path: Option<CString>,
    tags: Vec<CString>,
    protocol: CString,
    text: CString,
}

impl discover_descriptor {
    fn new(descriptor: Descriptor) -> discover_descriptor {
        discover_descriptor {
            service: c_string(descriptor.service()),
            path: descriptor.path().map(c_string),
            tags: descriptor.tags().iter().map(|tag| c_string(tag)).collect(),
            protocol: c_string(descriptor.protocol().name()),
            text: c_string(&descriptor.to_string()),
            descriptor,
        }
    }
}

/// The descriptors found in a set of environment variables, ordered by name.
///
/// Release: discover_descriptors_free(). Threads: any number at once.
pub struct discover_descriptors(Vec<(CString, discover_descriptor)>);

impl discover_descriptors {
    fn owned_ptr(all: BTreeMap<String, Descriptor>) -> *mut discover_descriptors {
        let all = all.into_iter();
        let named = |(name, descriptor): (String, _)| {
            (c_string(&name), discover_descriptor::new(descriptor))
        };
        Box::into_raw(Box::new(discover_descriptors(all.map(named).collect())))
    }
}

/// Parses a descriptor.
///
/// text   [in, borrowed]          for example "redis.master[prod,stats];6379/tcp"
/// out    [out, owned]            the descriptor; NULL on failure. Release: discover_descriptor_free()
/// error  [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for malformed text; the message names the column, counted from 1,
/// and what is expected there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptor_parse(
    text: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_descriptor>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_descriptor_parse", out, error, |args| {
        // SAFETY: the header requires NUL-terminated strings.
        let text = unsafe { args.text(text, "text") }?;
        let descriptor = discover_descriptor::new(Descriptor::parse(text)?);
        Ok(Box::into_raw(Box::new(descriptor)))
    })
}

/// Returns the service name, for discover_client_services(): the last part of the path, if there is a path.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_service(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string_field(descriptor, |it| Some(&it.service))
}

/// Returns the whole path, for example "/services/prod/redis.master"; NULL if the descriptor has only a
/// name.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_path(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string_field(descriptor, |it| it.path.as_ref())
}

/// Returns the number of tags.
///
/// descriptor  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_tag_count(descriptor: Option<&discover_descriptor>) -> usize {
    value_or(0, || Some(descriptor?.tags.len()))
}

/// Returns a tag, in the order of the text, for discover_set_filter(); NULL if the index is out of range.
///
/// descriptor  [in, borrowed]
/// index                       from 0 to discover_descriptor_tag_count() - 1
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_tag(
    descriptor: Option<&discover_descriptor>,
    index: usize,
) -> *const c_char {
    string_field(descriptor, |it| it.tags.get(index))
}

/// Returns the port at which the program wants to reach the service, 1 to 65535. It is not the port of any
/// instance.
///
/// descriptor  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_port(descriptor: Option<&discover_descriptor>) -> u16 {
    value_or(0, || Some(descriptor?.descriptor.port()))
}

/// Returns the protocol: "tcp" or "udp".
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_protocol(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string_field(descriptor, |it| Some(&it.protocol))
}

/// Returns the descriptor as text, with its protocol. Parsing this text gives an equal descriptor.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_format(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string_field(descriptor, |it| Some(&it.text))
}

/// Releases an owned descriptor.
///
/// descriptor  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_free(descriptor: Option<Box<discover_descriptor>>) {
    release(descriptor);
}

/// Parses the descriptors in the environment variables of this process whose names begin with a prefix.
///
/// With the prefix "BACKEND_", the variable BACKEND_REDIS=redis.master;6379 is the descriptor named REDIS.
/// A malformed variable is skipped and logged with its name and the cause.
///
/// prefix  [in, borrowed]          not empty
/// out     [out, owned]            the descriptors; NULL on failure. Release: discover_descriptors_free()
/// error   [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an empty prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptors_from_env(
    prefix: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_descriptors>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_descriptors_from_env", out, error, |args| {
        // SAFETY: the header requires NUL-terminated strings.
        let prefix = unsafe { args.text(prefix, "prefix") }?;
        Ok(discover_descriptors::owned_ptr(Descriptor::from_env(
            prefix,
        )?))
    })
}

/// Parses the descriptors in variables that the caller passes, for example those of a container, as
/// discover_descriptors_from_env() does. If a variable occurs twice, the last one counts.
///
/// prefix  [in, borrowed]            not empty
/// names   [in, borrowed, optional]  the names of the variables; may be NULL if count is 0
/// values  [in, borrowed, optional]  their values, in the order of names; may be NULL if count is 0
/// count                             the number of variables
/// out     [out, owned]              the descriptors; NULL on failure. Release:
///                                   discover_descriptors_free()
/// error   [out, owned, optional]    the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an empty prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptors_from_pairs(
    prefix: *const c_char,
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
    out: Option<&mut MaybeUninit<*mut discover_descriptors>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_descriptors_from_pairs", out, error, |args| {
        // SAFETY: the header requires NUL-terminated strings, and arrays of `count` of them.
        let (prefix, pairs) = unsafe {
            (
                args.text(prefix, "prefix")?,
                args.attributes(names, values, count)?,
            )
        };
        Ok(discover_descriptors::owned_ptr(Descriptor::from_pairs(
            prefix, pairs,
        )?))
    })
}

/// Returns the number of descriptors.
///
/// descriptors  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_count(descriptors: Option<&discover_descriptors>) -> usize {
    value_or(0, || Some(descriptors?.0.len()))
}

/// Returns the name of a descriptor, which is the name of its variable without the prefix; NULL if the
/// index is out of range.
///
/// descriptors  [in, borrowed]
/// index                        from 0 to discover_descriptors_count() - 1
///
/// Returns [borrowed until the descriptors are released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_name(
    descriptors: Option<&discover_descriptors>,
    index: usize,
) -> *const c_char {
    value_or(ptr::null(), || Some(descriptors?.0.get(index)?.0.as_ptr()))
}

/// Returns a descriptor, ordered by name; NULL if the index is out of range.
///
/// descriptors  [in, borrowed]
/// index                        from 0 to discover_descriptors_count() - 1
///
/// Returns [borrowed until the descriptors are released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_get(
    descriptors: Option<&discover_descriptors>,
    index: usize,
) -> *const discover_descriptor {
    value_or(ptr::null(), || {
        Some(&raw const descriptors?.0.get(index)?.1)
    })
}

/// Releases the list and all its descriptors.
///
/// descriptors  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_free(descriptors: Option<Box<discover_descriptors>>) {
    release(descriptors);
}

fn string_field(
    descriptor: Option<&discover_descriptor>,
    field: impl FnOnce(&discover_descriptor) -> Option<&CString>,
) -> *const c_char {
    value_or(ptr::null(), || Some(field(descriptor?)?.as_ptr()))
}
