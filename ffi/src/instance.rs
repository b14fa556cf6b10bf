//! One running copy of a service.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use discover_core::embed::{BindingCache, Instance};

use crate::guard::{read, release};

/// One running copy of a service, as others see it. It never changes; a change makes a new one.
///
/// Owned ones come from discover_set_pick(), discover_lease_instance() and discover_instance_clone(). Borrowed ones, which are
/// const, belong to a snapshot or an event; a clone outlives it. All strings are NUL-terminated UTF-8,
/// and borrowed until the instance is released, or what it was borrowed from; one that holds a NUL ends
/// there. Each function takes NULL, and then returns NULL or 0.
///
/// Release: discover_instance_free(). Threads: any number at once.
#[cfg_attr(not(cbindgen), repr(transparent))]
pub struct discover_instance(Instance);

impl discover_instance {
    /// For the caller to own: a counted reference as it is, nothing is copied.
    pub(crate) fn give(instance: Arc<Instance>) -> *mut discover_instance {
        Arc::into_raw(instance).cast_mut().cast()
    }

    /// For the caller to look at while somebody else holds it.
    pub(crate) fn lend(instance: &Arc<Instance>) -> *const discover_instance {
        Arc::as_ptr(instance).cast()
    }

    pub(crate) fn value(&self) -> &Instance {
        &self.0
    }

    /// Its own strings: service, id, host, address, then the layouts.
    fn own(&self, at: usize) -> Option<&CStr> {
        let it = &self.0;
        let first = [it.service().as_str(), it.id(), it.host(), it.address()];
        let layouts = it.layouts().iter().map(String::as_str);
        Texts::kept(it.binding_cache(), || first.into_iter().chain(layouts))?.get(at)
    }

    /// The strings that it shares with all who say the same: names and values, then the tags.
    fn said(&self) -> Option<&Texts> {
        let said = self.0.metadata();
        let attributes = said.attributes().iter();
        let attributes = attributes.flat_map(|(name, value)| [name.as_str(), value]);
        let all = || attributes.chain(said.tags().iter().map(String::as_str));
        Texts::kept(said.binding_cache(), all)
    }

    /// The name or the value of an attribute.
    fn attribute_at(&self, index: usize, part: usize) -> Option<&CStr> {
        let count = self.0.attributes().len();
        (index < count).then(|| self.said()?.get(index * 2 + part))?
    }

    fn attribute(&self, name: &CStr) -> Option<&CStr> {
        let count = self.0.attributes().len();
        let mut all = self.said()?.all();
        for _ in 0..count {
            let (own, value) = (all.next()?, all.next()?);
            if own == name {
                return Some(value);
            }
        }
        None
    }

    fn tag(&self, index: usize) -> Option<&CStr> {
        let before = self.0.attributes().len() * 2;
        let count = self.0.tags().len();
        (index < count).then(|| self.said()?.get(before + index))?
    }
}

/// Strings for C, one behind the other, made at the first look and kept with what they are of.
struct Texts(Box<[u8]>);

impl Texts {
    fn kept<'a, T: Iterator<Item = &'a str>>(
        place: &'a BindingCache,
        texts: impl FnOnce() -> T,
    ) -> Option<&'a Texts> {
        let make = || -> Box<dyn Any + Send + Sync> { Box::new(texts().collect::<Texts>()) };
        place.get_or_init(make).downcast_ref()
    }

    fn all(&self) -> impl Iterator<Item = &CStr> {
        self.0
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|text| CStr::from_bytes_with_nul(text).ok())
    }

    fn get(&self, at: usize) -> Option<&CStr> {
        self.all().nth(at)
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Texts {
        let mut all = Vec::new();
        for text in texts {
            // One that holds a NUL ends there.
            all.extend(text.bytes().take_while(|byte| *byte != 0));
            all.push(0);
        }
        Texts(all.into())
    }
}

/// The service it is an instance of.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_service(instance: Option<&discover_instance>) -> *const c_char {
    string(instance, |it| it.own(0))
}

/// Unique within the service.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_id(instance: Option<&discover_instance>) -> *const c_char {
    string(instance, |it| it.own(1))
}

/// A host name or an IP address, without brackets.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_host(instance: Option<&discover_instance>) -> *const c_char {
    string(instance, |it| it.own(2))
}

/// 1 to 65535.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_port(instance: Option<&discover_instance>) -> u16 {
    read(0, || Some(instance?.0.port()))
}

/// host:port, IPv6 in brackets.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_address(instance: Option<&discover_instance>) -> *const c_char {
    string(instance, |it| it.own(3))
}

/// The value of an attribute; NULL if there is none of that name.
///
/// instance  [in, borrowed]
/// name      [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_instance_attribute(
    instance: Option<&discover_instance>,
    name: *const c_char,
) -> *const c_char {
    if name.is_null() {
        return ptr::null();
    }
    // SAFETY: a string of the caller's, not NULL.
    let name = unsafe { CStr::from_ptr(name) };
    string(instance, |it| it.attribute(name))
}

/// How many attributes it has.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_count(instance: Option<&discover_instance>) -> usize {
    read(0, || Some(instance?.0.attributes().len()))
}

/// The name of an attribute, in the order of the names; NULL from discover_instance_attribute_count()
/// on.
///
/// instance  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_name(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string(instance, |it| it.attribute_at(index, 0))
}

/// The value of an attribute, in the order of the names; NULL from
/// discover_instance_attribute_count() on.
///
/// instance  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_value(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string(instance, |it| it.attribute_at(index, 1))
}

/// How many tags it has.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_tag_count(instance: Option<&discover_instance>) -> usize {
    read(0, || Some(instance?.0.tags().len()))
}

/// A tag, in the order given; NULL from discover_instance_tag_count() on.
///
/// instance  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_tag(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string(instance, |it| it.tag(index))
}

/// In how many layouts it is in the registry; 0 where the backend knows no layouts.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_layout_count(instance: Option<&discover_instance>) -> usize {
    read(0, || Some(instance?.0.layouts().len()))
}

/// The name of a layout in whose form it is in the registry, in the order of the URL; NULL from
/// discover_instance_layout_count() on.
///
/// instance  [in, borrowed]
/// index                     counted from 0
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_layout(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string(instance, |it| it.own(index.checked_add(4)?))
}

/// The registry's revision at which it came online. The lowest in a set is the leader.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_created(instance: Option<&discover_instance>) -> u64 {
    read(0, || Some(instance?.0.created()))
}

/// From its attribute "weight"; 1 without it.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_weight(instance: Option<&discover_instance>) -> u32 {
    read(0, || Some(instance?.0.weight()))
}

/// From its attribute "zone"; NULL without it.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_zone(instance: Option<&discover_instance>) -> *const c_char {
    string(instance, |it| it.attribute(c"zone"))
}

/// Whether the registry may have lost it by mistake: it vanished together with many others. It is picked
/// last, is no leader while another one can be, and goes unless it is back in time; false for NULL.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_is_suspect(instance: Option<&discover_instance>) -> bool {
    read(false, || Some(instance?.0.is_suspect()))
}

/// Keeps an instance beyond what it was borrowed from. Nothing is copied.
///
/// instance  [in, borrowed]
///
/// Returns [owned]. Release: discover_instance_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_instance_clone(
    instance: *const discover_instance,
) -> *mut discover_instance {
    read(ptr::null_mut(), || {
        if !instance.is_null() {
            // SAFETY: every instance that a caller has is a counted one, and somebody holds it now.
            unsafe { Arc::increment_strong_count(instance.cast::<Instance>()) };
        }
        Some(instance.cast_mut())
    })
}

/// Releases an instance that is owned.
///
/// instance  [in, taken, optional]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_instance_free(instance: *mut discover_instance) {
    let instance: *const Instance = instance.cast();
    // SAFETY: not NULL, it is a reference that was given to the caller, who now gives it back.
    release((!instance.is_null()).then(|| unsafe { Arc::from_raw(instance) }));
}

fn string(
    instance: Option<&discover_instance>,
    find: impl FnOnce(&discover_instance) -> Option<&CStr>,
) -> *const c_char {
    read(ptr::null(), || Some(find(instance?)?.as_ptr()))
}
