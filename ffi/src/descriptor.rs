//! What a program asks for in a line of text.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use discover_core::embed::Descriptor;

use crate::error::discover_error;
use crate::given::{attributes, c_string, text};
use crate::guard::{make, read, release};
use crate::status::discover_status;

/// What a program asks for in a line of text: "redis.master[prod,stats];6379/tcp". It has a service, by
/// its name or by a path that ends with it; the tags that its instances must have; the port at which the
/// program wants to reach it; and the protocol, "tcp" unless it says "udp". It never changes.
///
/// Owned ones come from discover_descriptor_parse(). Borrowed ones, which are const, belong to a
/// discover_descriptors. Each function but those that return a status takes NULL, and then returns NULL
/// or 0.
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

/// The descriptors of an environment, in the order of their names.
///
/// Release: discover_descriptors_free(). Threads: any number at once.
pub struct discover_descriptors(Vec<(CString, discover_descriptor)>);

impl discover_descriptors {
    fn give(all: BTreeMap<String, Descriptor>) -> *mut discover_descriptors {
        let all = all.into_iter();
        let named = |(name, one): (String, _)| (c_string(&name), discover_descriptor::new(one));
        Box::into_raw(Box::new(discover_descriptors(all.map(named).collect())))
    }
}

/// Reads a descriptor. The error tells the column, counted from 1, and what is expected there.
///
/// text   [in, borrowed]          as in "redis.master[prod,stats];6379/tcp"
/// out    [out, owned]            the descriptor; NULL on failure. Release: discover_descriptor_free()
/// error  [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptor_parse(
    text: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_descriptor>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: a string of the caller's.
        let text = unsafe { self::text(text, "text") }?;
        let descriptor = discover_descriptor::new(Descriptor::parse(text)?);
        Ok(Box::into_raw(Box::new(descriptor)))
    })
}

/// The name of the service, for discover_client_services(): the last part of the path, if there is one.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_service(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string(descriptor, |it| Some(&it.service))
}

/// The whole path, as in "/services/prod/redis.master"; NULL where there is just a name.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_path(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string(descriptor, |it| it.path.as_ref())
}

/// How many tags it has.
///
/// descriptor  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_tag_count(descriptor: Option<&discover_descriptor>) -> usize {
    read(0, || Some(descriptor?.tags.len()))
}

/// A tag, for discover_set_filter(), in the order given; NULL from discover_descriptor_tag_count() on.
///
/// descriptor  [in, borrowed]
/// index                       counted from 0
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_tag(
    descriptor: Option<&discover_descriptor>,
    index: usize,
) -> *const c_char {
    string(descriptor, |it| it.tags.get(index))
}

/// 1 to 65535: where the program wants to reach the service, which is not where an instance listens.
///
/// descriptor  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_port(descriptor: Option<&discover_descriptor>) -> u16 {
    read(0, || Some(descriptor?.descriptor.port()))
}

/// "tcp" or "udp".
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_protocol(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string(descriptor, |it| Some(&it.protocol))
}

/// The descriptor as a text that reads as the same, with its protocol.
///
/// descriptor  [in, borrowed]
///
/// Returns [borrowed until the descriptor is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_format(
    descriptor: Option<&discover_descriptor>,
) -> *const c_char {
    string(descriptor, |it| Some(&it.text))
}

/// Releases a descriptor that is owned.
///
/// descriptor  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptor_free(descriptor: Option<Box<discover_descriptor>>) {
    release(descriptor);
}

/// The descriptors among the variables of this process: those whose names begin with a prefix. With
/// "BACKEND_", the variable BACKEND_REDIS=redis.master;6379 is the descriptor called REDIS. One that
/// cannot be read is passed over; the log names its variable, and what is wrong.
///
/// prefix  [in, borrowed]          not empty
/// out     [out, owned]            the descriptors; NULL on failure. Release: discover_descriptors_free()
/// error   [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptors_from_env(
    prefix: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_descriptors>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: a string of the caller's.
        let prefix = unsafe { text(prefix, "prefix") }?;
        Ok(discover_descriptors::give(Descriptor::from_env(prefix)?))
    })
}

/// The same for variables that the program has from elsewhere: those of a container, for instance. Where
/// a variable is there twice, the last one counts.
///
/// prefix  [in, borrowed]            not empty
/// names   [in, borrowed, optional]  of the variables; NULL if there are none
/// values  [in, borrowed, optional]  their values, in the same order; NULL if there are none
/// count                             how many there are
/// out     [out, owned]              the descriptors; NULL on failure. Release:
///                                   discover_descriptors_free()
/// error   [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_descriptors_from_pairs(
    prefix: *const c_char,
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
    out: Option<&mut MaybeUninit<*mut discover_descriptors>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        // SAFETY: a string of the caller's, and arrays of so many.
        let (prefix, pairs) =
            unsafe { (text(prefix, "prefix")?, attributes(names, values, count)?) };
        Ok(discover_descriptors::give(Descriptor::from_pairs(
            prefix, pairs,
        )?))
    })
}

/// How many descriptors there are.
///
/// descriptors  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_count(descriptors: Option<&discover_descriptors>) -> usize {
    read(0, || Some(descriptors?.0.len()))
}

/// What a descriptor is called: the name of its variable, without the prefix. NULL from
/// discover_descriptors_count() on.
///
/// descriptors  [in, borrowed]
/// index                        counted from 0
///
/// Returns [borrowed until the descriptors are released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_name(
    descriptors: Option<&discover_descriptors>,
    index: usize,
) -> *const c_char {
    read(ptr::null(), || Some(descriptors?.0.get(index)?.0.as_ptr()))
}

/// A descriptor, in the order of the names; NULL from discover_descriptors_count() on.
///
/// descriptors  [in, borrowed]
/// index                        counted from 0
///
/// Returns [borrowed until the descriptors are released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_get(
    descriptors: Option<&discover_descriptors>,
    index: usize,
) -> *const discover_descriptor {
    read(ptr::null(), || {
        Some(&raw const descriptors?.0.get(index)?.1)
    })
}

/// Releases the descriptors of an environment, each of them.
///
/// descriptors  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_descriptors_free(descriptors: Option<Box<discover_descriptors>>) {
    release(descriptors);
}

fn string(
    descriptor: Option<&discover_descriptor>,
    find: impl FnOnce(&discover_descriptor) -> Option<&CString>,
) -> *const c_char {
    read(ptr::null(), || Some(find(descriptor?)?.as_ptr()))
}
