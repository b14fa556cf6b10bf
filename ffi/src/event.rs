//! Events, and the callbacks that receive them.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use discover_core::embed::{Event, Sink};

use crate::boundary::value_or;
use crate::error::discover_error;
use crate::instance::discover_instance;
use crate::status::constant_name;

/// One change of a set.
///
/// An event, and everything borrowed from it, is valid until the callback that received it returns.
///
/// Threads: the callback only.
pub struct discover_event {
    event: Event,
    error: Option<discover_error>,
}

/// A callback for the events of a set. The event is borrowed until the callback returns.
pub type discover_event_fn =
    Option<unsafe extern "C" fn(event: *const discover_event, user_data: *mut c_void)>;

/// A callback that releases user_data, which the library does not use afterwards.
pub type discover_destroy_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// An instance came online.
pub const DISCOVER_EVENT_UP: i32 = 1;
/// An instance changed its attributes or tags.
pub const DISCOVER_EVENT_UPDATE: i32 = 2;
/// An instance went offline. The event carries its last known state.
pub const DISCOVER_EVENT_DOWN: i32 = 3;
/// The leader, which is the oldest instance online, changed, or the last instance went offline.
pub const DISCOVER_EVENT_LEADER: i32 = 4;
/// The initial state is complete; every later event is a change. Emitted once for each subscription.
pub const DISCOVER_EVENT_CURRENT: i32 = 5;
/// The connection to the registry is lost. The set keeps its last contents.
pub const DISCOVER_EVENT_STALE: i32 = 6;
/// The connection to the registry is restored, and all changes since its loss have been emitted.
pub const DISCOVER_EVENT_FRESH: i32 = 7;

const EVENT_KIND_NAMES: [&CStr; 7] = [
    c"up", c"update", c"down", c"leader", c"current", c"stale", c"fresh",
];

fn kind_code(event: &Event) -> i32 {
    match event {
        Event::Up(_) => DISCOVER_EVENT_UP,
        Event::Update(_) => DISCOVER_EVENT_UPDATE,
        Event::Down(_) => DISCOVER_EVENT_DOWN,
        Event::Leader(_) => DISCOVER_EVENT_LEADER,
        Event::Current => DISCOVER_EVENT_CURRENT,
        Event::Stale(_) => DISCOVER_EVENT_STALE,
        Event::Fresh => DISCOVER_EVENT_FRESH,
    }
}

/// Returns the name of an event kind: "up", "update", "down", "leader", "current", "stale", "fresh";
/// "unknown" for any other number.
///
/// kind  one of DISCOVER_EVENT_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_kind_name(kind: i32) -> *const c_char {
    constant_name(kind, &EVENT_KIND_NAMES)
}

/// Returns the kind of an event: one of DISCOVER_EVENT_...; 0 for NULL. A later version may add kinds, so
/// ignore unknown numbers.
///
/// event  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_kind(event: Option<&discover_event>) -> i32 {
    value_or(0, || Some(kind_code(&event?.event)))
}

/// Returns the instance of an up, update, down or leader event; NULL for other kinds and for a leader event
/// without a leader. discover_instance_clone() keeps the instance longer than the event.
///
/// event  [in, borrowed]
///
/// Returns [borrowed until the callback returns].
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_instance(
    event: Option<&discover_event>,
) -> *const discover_instance {
    value_or(ptr::null(), || {
        Some(discover_instance::borrowed_ptr(event?.event.instance()?))
    })
}

/// Returns the cause of a stale event; NULL for other kinds.
///
/// event  [in, borrowed]
///
/// Returns [borrowed until the callback returns].
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_error(event: Option<&discover_event>) -> *const discover_error {
    value_or(ptr::null(), || Some(ptr::from_ref(event?.error.as_ref()?)))
}

/// The callback of a subscription, with its user data.
pub(crate) struct EventCallback {
    pub(crate) on_event: EventFn,
    pub(crate) user_data: UserData,
}

pub(crate) type EventFn = unsafe extern "C" fn(*const discover_event, *mut c_void);

impl Sink for EventCallback {
    fn event(&mut self, event: &Event) {
        deliver(self.on_event, self.user_data.get(), event);
    }
}

/// Calls a C callback with one event.
pub(crate) fn deliver(on_event: EventFn, user_data: *mut c_void, event: &Event) {
    let event = discover_event {
        event: event.clone(),
        error: event.error().map(discover_error::new),
    };
    // SAFETY: the callback and its argument come from the caller.
    unsafe { on_event(&event, user_data) };
}

/// The user data of a callback. Dropping it calls destroy.
pub(crate) struct UserData {
    pointer: *mut c_void,
    destroy: discover_destroy_fn,
}

// SAFETY: the header states the thread on which it is used, and callers must comply.
unsafe impl Send for UserData {}

impl UserData {
    pub(crate) fn new(pointer: *mut c_void, destroy: discover_destroy_fn) -> UserData {
        UserData { pointer, destroy }
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the callback and its argument come from the caller.
            unsafe { destroy(self.pointer) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::embed::{Error, ErrorKind, Registration};
    use std::sync::Arc;

    #[test]
    fn kinds_are_have_the_names_of_the_core() {
        let instance = Registration::new("web", 1).map(|r| Arc::new(r.instance(1)));
        let instance = instance.expect("a good name and port");
        let all = [
            Event::Up(instance.clone()),
            Event::Update(instance.clone()),
            Event::Down(instance),
            Event::Leader(None),
            Event::Current,
            Event::Stale(Error::new(ErrorKind::Unavailable, "lost")),
            Event::Fresh,
        ];
        for event in all {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_event_kind_name(kind_code(&event))) };
            assert_eq!(name.to_str(), Ok(event.kind()));
        }
    }
}
