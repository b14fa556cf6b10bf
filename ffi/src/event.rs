//! News, and the callbacks that are told.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use discover_core::embed::{Event, Sink};

use crate::error::discover_error;
use crate::guard::read;
use crate::instance::discover_instance;
use crate::status::name_of;

/// One piece of news about a set.
///
/// It lives until the callback that is told it returns, and what is borrowed from it as long.
/// Threads: the callback only.
pub struct discover_event {
    event: Event,
    error: Option<discover_error>,
}

/// Is told an event, which it may look at until it returns.
pub type discover_event_fn =
    Option<unsafe extern "C" fn(event: *const discover_event, user_data: *mut c_void)>;

/// Is told that user_data will not be used again.
pub type discover_destroy_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// An instance came online.
pub const DISCOVER_EVENT_UP: i32 = 1;
/// An instance changed its attributes or tags.
pub const DISCOVER_EVENT_UPDATE: i32 = 2;
/// An instance went; it is told as it was last seen.
pub const DISCOVER_EVENT_DOWN: i32 = 3;
/// Another instance is the oldest now, or there is none.
pub const DISCOVER_EVENT_LEADER: i32 = 4;
/// The whole state has been told; what follows are changes. Once for each listener.
pub const DISCOVER_EVENT_CURRENT: i32 = 5;
/// The registry is lost for the moment. The set is kept as it was.
pub const DISCOVER_EVENT_STALE: i32 = 6;
/// The registry is back, and what changed meanwhile has been told.
pub const DISCOVER_EVENT_FRESH: i32 = 7;

const NAMES: [&CStr; 7] = [
    c"up", c"update", c"down", c"leader", c"current", c"stale", c"fresh",
];

fn number(event: &Event) -> i32 {
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

/// The name of a kind of event: "up", "update", "down", "leader", "current", "stale", "fresh";
/// "unknown" for any other number.
///
/// kind  one of DISCOVER_EVENT_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_kind_name(kind: i32) -> *const c_char {
    name_of(kind, &NAMES)
}

/// What happened: one of DISCOVER_EVENT_...; 0 for NULL. A later version may bring new kinds, so pass over
/// a number that you do not know.
///
/// event  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_kind(event: Option<&discover_event>) -> i32 {
    read(0, || Some(number(&event?.event)))
}

/// The instance that the event is about: for up, update, down and leader. NULL if it is about none, as
/// when there is no leader any more. discover_instance_clone() keeps it.
///
/// event  [in, borrowed]
///
/// Returns [borrowed until the callback returns].
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_instance(
    event: Option<&discover_event>,
) -> *const discover_instance {
    read(ptr::null(), || {
        Some(discover_instance::lend(event?.event.instance()?))
    })
}

/// Why the registry is lost: for stale; else NULL.
///
/// event  [in, borrowed]
///
/// Returns [borrowed until the callback returns].
#[unsafe(no_mangle)]
pub extern "C" fn discover_event_error(event: Option<&discover_event>) -> *const discover_error {
    read(ptr::null(), || Some(ptr::from_ref(event?.error.as_ref()?)))
}

/// Whom a subscription tells.
pub(crate) struct Listener {
    pub(crate) on_event: OnEvent,
    pub(crate) user_data: UserData,
}

pub(crate) type OnEvent = unsafe extern "C" fn(*const discover_event, *mut c_void);

impl Sink for Listener {
    fn event(&mut self, event: &Event) {
        tell(self.on_event, self.user_data.get(), event);
    }
}

/// Tells a function of the caller's one event.
pub(crate) fn tell(on_event: OnEvent, user_data: *mut c_void, event: &Event) {
    let event = discover_event {
        event: event.clone(),
        error: event.error().map(discover_error::new),
    };
    // SAFETY: a function of the caller's, with the argument that came with it.
    unsafe { on_event(&event, user_data) };
}

/// What the caller's functions are called with. Dropping it is what calls destroy.
pub(crate) struct UserData {
    pointer: *mut c_void,
    destroy: discover_destroy_fn,
}

// SAFETY: the header says on which thread it is used, and that is for the caller to see to.
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
            // SAFETY: a function of the caller's, with the argument that came with it.
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
    fn kinds_are_named_as_everywhere() {
        let instance = Registration::new("web", 1).map(|r| Arc::new(r.instance(1)));
        let instance = instance.expect("a good name and port");
        let all = [
            Event::Up(instance.clone()),
            Event::Update(instance.clone()),
            Event::Down(instance),
            Event::Leader(None),
            Event::Current,
            Event::Stale(Error::new(ErrorKind::Unavailable, "gone")),
            Event::Fresh,
        ];
        for event in all {
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_event_kind_name(number(&event))) };
            assert_eq!(name.to_str(), Ok(event.kind()));
        }
    }
}
