//! Instances: the running copies of a service.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use discover_core::embed::{BindingCache, Instance};

use crate::boundary::{release, value_or};

/// One running copy of a service, as other clients see it. It is immutable; a change creates a new
/// instance object.
///
/// Owned instances come from discover_set_pick(), discover_lease_instance() and discover_instance_clone().
/// Borrowed ones, which are const, belong to a snapshot or an event; a clone outlives it. All strings are
/// NUL-terminated UTF-8 and valid until the instance, or the object it was borrowed from, is released. A
/// string that contains a NUL ends there. Each function accepts NULL and then returns NULL or 0.
///
/// Release: discover_instance_free(). Threads: any number at once.
#[cfg_attr(not(cbindgen), repr(transparent))]
pub struct discover_instance(Instance);

impl discover_instance {
    /// A counted reference that the caller owns. No data is copied.
    pub(crate) fn owned_ptr(instance: Arc<Instance>) -> *mut discover_instance {
        Arc::into_raw(instance).cast_mut().cast()
    }

    /// A pointer that the caller borrows from another owner of the instance.
    pub(crate) fn borrowed_ptr(instance: &Arc<Instance>) -> *const discover_instance {
        Arc::as_ptr(instance).cast()
    }

    pub(crate) fn value(&self) -> &Instance {
        &self.0
    }

    /// A string of the instance itself: service, id, host, address, then the layouts.
    fn own_string(&self, index: usize) -> Option<&CStr> {
        let it = &self.0;
        let first = [it.service().as_str(), it.id(), it.host(), it.address()];
        let layouts = it.layouts().iter().map(String::as_str);
        CStringTable::cached(it.binding_cache(), || first.into_iter().chain(layouts))?.get(index)
    }

    /// The strings shared by all instances with the same metadata: attribute names and values, then the tags.
    fn metadata_strings(&self) -> Option<&CStringTable> {
        let metadata = self.0.metadata();
        let attributes = metadata.attributes().iter();
        let attributes = attributes.flat_map(|(name, value)| [name.as_str(), value]);
        let all = || attributes.chain(metadata.tags().iter().map(String::as_str));
        CStringTable::cached(metadata.binding_cache(), all)
    }

    /// The name (`part` 0) or the value (`part` 1) of an attribute.
    fn attribute_at(&self, index: usize, part: usize) -> Option<&CStr> {
        let count = self.0.attributes().len();
        (index < count).then(|| self.metadata_strings()?.get(index * 2 + part))?
    }

    fn attribute(&self, name: &CStr) -> Option<&CStr> {
        let count = self.0.attributes().len();
        let mut all = self.metadata_strings()?.all();
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
        (index < count).then(|| self.metadata_strings()?.get(before + index))?
    }
}

/// Consecutive NUL-terminated strings, built on first use and cached with the object that they belong to.
struct CStringTable(Box<[u8]>);

impl CStringTable {
    fn cached<'a, T: Iterator<Item = &'a str>>(
        cache: &'a BindingCache,
        texts: impl FnOnce() -> T,
    ) -> Option<&'a CStringTable> {
        let build =
            || -> Box<dyn Any + Send + Sync> { Box::new(texts().collect::<CStringTable>()) };
        cache.get_or_init(build).downcast_ref()
    }

    fn all(&self) -> impl Iterator<Item = &CStr> {
        self.0
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|text| CStr::from_bytes_with_nul(text).ok())
    }

    fn get(&self, index: usize) -> Option<&CStr> {
        self.all().nth(index)
    }
}

impl<'a> FromIterator<&'a str> for CStringTable {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> CStringTable {
        let mut all = Vec::new();
        for text in texts {
            // A text that contains a NUL is truncated there.
            all.extend(text.bytes().take_while(|byte| *byte != 0));
            all.push(0);
        }
        CStringTable(all.into())
    }
}

/// Returns the service name.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_service(instance: Option<&discover_instance>) -> *const c_char {
    string_field(instance, |it| it.own_string(0))
}

/// Returns the id, which is unique within the service.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_id(instance: Option<&discover_instance>) -> *const c_char {
    string_field(instance, |it| it.own_string(1))
}

/// Returns the host name or IP address, without brackets.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_host(instance: Option<&discover_instance>) -> *const c_char {
    string_field(instance, |it| it.own_string(2))
}

/// Returns the port, 1 to 65535.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_port(instance: Option<&discover_instance>) -> u16 {
    value_or(0, || Some(instance?.0.port()))
}

/// Returns the address as host:port, with IPv6 in brackets.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_address(instance: Option<&discover_instance>) -> *const c_char {
    string_field(instance, |it| it.own_string(3))
}

/// Returns the value of an attribute; NULL if the instance has no attribute of that name.
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
    // SAFETY: not NULL, and the header requires a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) };
    string_field(instance, |it| it.attribute(name))
}

/// Returns the number of attributes.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_count(instance: Option<&discover_instance>) -> usize {
    value_or(0, || Some(instance?.0.attributes().len()))
}

/// Returns the name of an attribute, ordered by name; NULL if the index is out of range.
///
/// instance  [in, borrowed]
/// index                     from 0 to discover_instance_attribute_count() - 1
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_name(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string_field(instance, |it| it.attribute_at(index, 0))
}

/// Returns the value of an attribute, ordered by name; NULL if the index is out of range.
///
/// instance  [in, borrowed]
/// index                     from 0 to discover_instance_attribute_count() - 1
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_attribute_value(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string_field(instance, |it| it.attribute_at(index, 1))
}

/// Returns the number of tags.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_tag_count(instance: Option<&discover_instance>) -> usize {
    value_or(0, || Some(instance?.0.tags().len()))
}

/// Returns a tag, in the order of the registration; NULL if the index is out of range.
///
/// instance  [in, borrowed]
/// index                     from 0 to discover_instance_tag_count() - 1
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_tag(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string_field(instance, |it| it.tag(index))
}

/// Returns the number of layouts in which the registry stores the instance; 0 for backends without
/// layouts.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_layout_count(instance: Option<&discover_instance>) -> usize {
    value_or(0, || Some(instance?.0.layouts().len()))
}

/// Returns the name of a layout in which the registry stores the instance, in the order of the URL; NULL
/// if the index is out of range.
///
/// instance  [in, borrowed]
/// index                     from 0 to discover_instance_layout_count() - 1
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_layout(
    instance: Option<&discover_instance>,
    index: usize,
) -> *const c_char {
    string_field(instance, |it| it.own_string(index.checked_add(4)?))
}

/// Returns the registry revision at which the instance came online. The instance with the lowest revision
/// in a set is the leader.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_created(instance: Option<&discover_instance>) -> u64 {
    value_or(0, || Some(instance?.0.created()))
}

/// Returns the weight, from the attribute "weight"; 1 if it is not set.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_weight(instance: Option<&discover_instance>) -> u32 {
    value_or(0, || Some(instance?.0.weight()))
}

/// Returns the zone, from the attribute "zone"; NULL if it is not set.
///
/// instance  [in, borrowed]
///
/// Returns [borrowed until the instance is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_zone(instance: Option<&discover_instance>) -> *const c_char {
    string_field(instance, |it| it.attribute(c"zone"))
}

/// Returns true if the registry may have lost the instance by mistake, because it vanished together with
/// many others; false for NULL.
///
/// A suspect instance is picked last and is leader only if there is no other candidate. It goes offline
/// unless it reappears in time.
///
/// instance  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_instance_is_suspect(instance: Option<&discover_instance>) -> bool {
    value_or(false, || Some(instance?.0.is_suspect()))
}

/// Adds a reference to an instance, so that it outlives the object it was borrowed from. No data is copied.
///
/// instance  [in, borrowed]
///
/// Returns [owned]. Release: discover_instance_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_instance_clone(
    instance: *const discover_instance,
) -> *mut discover_instance {
    value_or(ptr::null_mut(), || {
        if !instance.is_null() {
            // SAFETY: every instance that a caller has is counted, and a reference to it exists during the call.
            unsafe { Arc::increment_strong_count(instance.cast::<Instance>()) };
        }
        Some(instance.cast_mut())
    })
}

/// Releases an owned instance.
///
/// instance  [in, taken, optional]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_instance_free(instance: *mut discover_instance) {
    let instance: *const Instance = instance.cast();
    // SAFETY: if not NULL, it is a counted reference that the caller owned and now returns.
    release((!instance.is_null()).then(|| unsafe { Arc::from_raw(instance) }));
}

fn string_field(
    instance: Option<&discover_instance>,
    field: impl FnOnce(&discover_instance) -> Option<&CStr>,
) -> *const c_char {
    value_or(ptr::null(), || Some(field(instance?)?.as_ptr()))
}
