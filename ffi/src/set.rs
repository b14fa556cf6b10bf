//! The live view of one service.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use discover_core::embed::{Policy, SetHandle, State};

use crate::error::discover_error;
use crate::event::{Listener, UserData, discover_destroy_fn, discover_event_fn};
use crate::feed::discover_feed;
use crate::given::{attributes, c_string, given, is, optional_text, text, texts, timeout};
use crate::guard::{make, read, release};
use crate::instance::discover_instance;
use crate::service::discover_service;
use crate::snapshot::discover_snapshot;
use crate::status::{discover_status, name_of};
use crate::subscription::discover_subscription;

/// The live set of the instances of one service, or of those that match a filter. Reading it never
/// asks the network and never waits. Losing the registry does not empty it: it stays as it was, and
/// says that it is stale.
///
/// Release: discover_set_release(). Threads: any number at once.
pub struct discover_set {
    set: SetHandle,
    service: CString,
}

impl discover_set {
    pub(crate) fn give(set: SetHandle) -> *mut discover_set {
        let service = c_string(set.service().as_str());
        Box::into_raw(Box::new(discover_set { set, service }))
    }
}

/// Nothing received yet.
pub const DISCOVER_STATE_PENDING: i32 = 1;
/// As the registry has it.
pub const DISCOVER_STATE_CURRENT: i32 = 2;
/// The registry is lost for the moment; this is how it was.
pub const DISCOVER_STATE_STALE: i32 = 3;

const NAMES: [&CStr; 3] = [c"pending", c"current", c"stale"];

fn number(state: State) -> i32 {
    match state {
        State::Pending => DISCOVER_STATE_PENDING,
        State::Current => DISCOVER_STATE_CURRENT,
        State::Stale => DISCOVER_STATE_STALE,
    }
}

/// The name of a state: "pending", "current", "stale"; "unknown" for any other number.
///
/// state  one of DISCOVER_STATE_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_state_name(state: i32) -> *const c_char {
    name_of(state, &NAMES)
}

/// The service; NULL for NULL.
///
/// set  [in, borrowed]
///
/// Returns [borrowed until the set is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_service(set: Option<&discover_set>) -> *const c_char {
    read(ptr::null(), || Some(set?.service.as_ptr()))
}

/// How fresh the set is now: one of DISCOVER_STATE_...; 0 for NULL. A snapshot tells why and since when.
///
/// set  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_state(set: Option<&discover_set>) -> i32 {
    read(0, || Some(number(set?.set.status().state)))
}

/// The set of those that have all these attributes, with these values, and all these tags. Filters of
/// a filtered set add up.
///
/// set              [in, borrowed]
/// names            [in, borrowed, optional]  names of attributes; may be NULL if there are none
/// values           [in, borrowed, optional]  their values, in the order of the names
/// attribute_count                            how many
/// tags             [in, borrowed, optional]  tags; may be NULL if there are none
/// tag_count                                  how many
/// out              [out, owned]              the narrower set; NULL on failure.
///                                            Release: discover_set_release()
/// error            [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_set_filter(
    set: Option<&discover_set>,
    names: *const *const c_char,
    values: *const *const c_char,
    attribute_count: usize,
    tags: *const *const c_char,
    tag_count: usize,
    out: Option<&mut MaybeUninit<*mut discover_set>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        let set = given(set, "set")?;
        // SAFETY: arrays of strings of the caller's.
        let attributes = unsafe { attributes(names, values, attribute_count) }?;
        // SAFETY: likewise.
        let tags = unsafe { texts(tags, tag_count, "tags") }?;
        let tags = tags.into_iter().map(str::to_owned).collect();
        Ok(discover_set::give(set.set.filter(attributes, tags)?))
    })
}

/// What the set is now, for as long as it is held. Nothing is copied.
///
/// set  [in, borrowed]
///
/// Returns [owned], NULL for NULL. Release: discover_snapshot_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_take_snapshot(set: Option<&discover_set>) -> *mut discover_snapshot {
    read(ptr::null_mut(), || {
        Some(discover_snapshot::give(set?.set.snapshot()))
    })
}

/// Those online as the hosts of a service of etcd-discovery: with URLs, ports by scheme, and shards.
///
/// set  [in, borrowed]
///
/// Returns [owned], NULL for NULL. Release: discover_service_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_hosts(set: Option<&discover_set>) -> *mut discover_service {
    read(ptr::null_mut(), || {
        Some(discover_service::give(set?.set.hosts()))
    })
}

/// Waits until at least count instances are online. With count 0 it waits until the set has been
/// received at all.
///
/// set         [in, borrowed]
/// count                               how many are enough
/// timeout_ms                          when to give up, or DISCOVER_NO_TIMEOUT
/// out         [out, owned]            the set as it then was; NULL on failure.
///                                     Release: discover_snapshot_free()
/// error       [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_wait(
    set: Option<&discover_set>,
    count: usize,
    timeout_ms: u32,
    out: Option<&mut MaybeUninit<*mut discover_snapshot>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        let within = timeout(timeout_ms).unwrap_or(Duration::MAX);
        let pending = given(set, "set")?.set.wait(count, within)?;
        Ok(discover_snapshot::give(pending.wait()?))
    })
}

/// Picks one of those online. It never waits, and allocates nothing.
///
///   "round_robin"  one after the other, oldest first
///   "random"       any, all alike
///   "weighted"     any, in proportion to the weights
///   "p2c"          the less busy, for its weight, of two at random; discover_set_done() says when the
///                  call to it is over
///   "hash"         the same one for the same key, with as few moves as possible when the set changes
///
/// set     [in, borrowed]
/// policy  [in, borrowed]            one of the names above
/// key     [in, borrowed, optional]  what "hash" goes by; the others take NULL
/// out     [out, owned]              the instance; NULL on failure, and when nobody is online, which is
///                                   none. Release: discover_instance_free()
/// error   [out, owned, optional]    why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_set_pick(
    set: Option<&discover_set>,
    policy: *const c_char,
    key: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_instance>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || {
        let set = &given(set, "set")?.set;
        // SAFETY: strings of the caller's.
        let picked = match unsafe { (is(policy, c"round_robin"), key.is_null()) } {
            // What is picked in loops by most, without a look at whether it is UTF-8.
            (true, true) => set.pick(Policy::RoundRobin),
            // SAFETY: likewise.
            _ => unsafe {
                let (policy, key) = (text(policy, "policy")?, optional_text(key, "key")?);
                set.pick(Policy::parse(policy, key)?)
            },
        };
        Ok(picked.map_or(ptr::null_mut(), discover_instance::give))
    })
}

/// Says that the call to an instance picked by "p2c" is over.
///
/// set       [in, borrowed]  NULL does nothing
/// instance  [in, borrowed]  NULL does nothing
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_done(
    set: Option<&discover_set>,
    instance: Option<&discover_instance>,
) {
    read((), || {
        set?.set.done(instance?.value());
        Some(())
    });
}

/// Has each event of the set handed to on_event, on the client's callback thread: first the whole
/// state, then DISCOVER_EVENT_CURRENT, then every change. Whoever is slow may miss states in between,
/// never the last one.
///
/// set        [in, borrowed]
/// on_event                           called with each event; must not throw or longjmp
/// user_data  [in, taken, optional]   handed to on_event, and to destroy in the end
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    event; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_subscribe(
    set: Option<&discover_set>,
    on_event: discover_event_fn,
    user_data: *mut c_void,
    destroy: discover_destroy_fn,
    out: Option<&mut MaybeUninit<*mut discover_subscription>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // Made before anything can fail: dropping it is what calls destroy.
    let user_data = UserData::new(user_data, destroy);
    make(out, error, || {
        let on_event = given(on_event, "on_event")?;
        let listener = Listener {
            on_event,
            user_data,
        };
        let subscription = given(set, "set")?.set.subscribe(Box::new(listener))?;
        Ok(discover_subscription::give(subscription))
    })
}

/// Opens a feed of the set's events, the same as discover_set_subscribe() tells, to be fetched by a
/// program that has a loop of its own.
///
/// set    [in, borrowed]
/// out    [out, owned]            the feed; NULL on failure. Release: discover_feed_cancel()
/// error  [out, owned, optional]  why it failed. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_feed(
    set: Option<&discover_set>,
    out: Option<&mut MaybeUninit<*mut discover_feed>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    make(out, error, || discover_feed::give(&given(set, "set")?.set))
}

/// Releases a set. Its subscriptions and feeds live on until they are released themselves.
///
/// set  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_release(set: Option<Box<discover_set>>) {
    release(set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_as_everywhere() {
        for state in [State::Pending, State::Current, State::Stale] {
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_state_name(number(state))) };
            assert_eq!(name.to_str(), Ok(state.name()));
        }
    }
}
